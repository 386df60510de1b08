"""The processes of a deployment, started by tests on the servers of the test run; knows no assertion."""

from __future__ import annotations

import http.client
import json
import sys
import time
from collections.abc import Callable, Iterable
from typing import Any

from likes import tasks
from likes.buffer import flusher
from likes.models import Post
from likesite.celery import app
from tests.servers import Process, eventually, folder, free_port

START_SECONDS = 60.0  # a deadline; a start takes about 2 s on an idle core
LAND_SECONDS = 60.0  # a deadline for likes to arrive in PostgreSQL; they take a tick and a batch
QUIET = ("--without-gossip", "--without-mingle", "--without-heartbeat", "--loglevel", "INFO")  # one worker on its own

Start = Callable[..., Process]


def celery(start: Start, app: str, *arguments: str, **environment: str) -> Process:
    """Start `celery -A app …` and return it as soon as it was started."""
    log = folder("celery") / "log"
    return start([sys.executable, "-m", "celery", "-A", app, *arguments], log, **environment).start()


def worker(start: Start, *options: str, app: str = "tests.special_worker", **environment: str) -> Process:
    """Start a worker, adopting early unless told otherwise, and wait until it takes tasks."""
    environment = {"LIKES_ADOPT_SECONDS": "0.2", "LIKES_FLUSH_SECONDS": "0.2"} | environment
    mine = celery(start, app, "worker", *QUIET, *options, **environment)
    eventually(lambda: " ready." in mine.output or not mine.running, "the worker is ready", START_SECONDS)
    assert mine.running, mine.output
    return mine


def beat(start: Start, **environment: str) -> Process:
    """Start a beat with a schedule file of its own."""
    schedule = str(folder("beat") / "schedule")
    environment = {"LIKES_FLUSH_SECONDS": "0.2"} | environment
    return celery(start, "likesite", "beat", "--schedule", schedule, **environment)


class Web:
    """A web server of so many processes on a port of its own, and a client of it."""

    def __init__(self, start: Start, workers: int = 1, **environment: str) -> None:
        self.port = free_port()
        command = [sys.executable, "-m", "uvicorn", "likesite.asgi:application", "--port", str(self.port)]
        command += ["--workers", str(workers), "--timeout-graceful-shutdown", "1", "--no-access-log"]
        command += ["--ws", "none", "--http", "likesite.protocol:Protocol"]
        self.process = start(command, folder("web") / "log", **({"LIKES_DEMO": "on"} | environment))

    def start(self) -> Web:
        self.process.start()
        eventually(self._answers, "the web process answers", START_SECONDS)
        return self

    def _answers(self) -> bool:
        assert self.process.running, self.process.output
        try:
            return self.call("GET", "/health")[0] == 200
        except OSError:
            return False

    def call(self, method: str, path: str, body: Any = None, timeout: float = 10.0, **headers: str) -> tuple[int, Any]:
        """Return status and JSON of one call; a `body` is sent as JSON. Raises OSError, http.client.HTTPException."""
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=timeout)
        sent = None if body is None else json.dumps(body)
        named = {name.replace("_", "-"): value for name, value in headers.items()}
        if sent is not None:
            named["Content-Type"] = "application/json"
        try:
            connection.request(method, path, sent, named)
            answer = connection.getresponse()
            return answer.status, json.loads(answer.read() or b"null")
        finally:
            connection.close()


def make_posts(number: int, *, shard: int | None = None) -> list[int]:
    """Insert posts and return their ids; with `shard`, only such as are of this shard."""
    found: list[int] = []
    while len(found) < number:
        post = Post.objects.create(title=f"post {len(found)}").pk
        if shard is None or flusher.shard(post) == shard:
            found.append(post)
    return found


def persisted(posts: Iterable[int]) -> dict[int, int]:
    """Return what PostgreSQL holds of these posts."""
    return dict(Post.objects.filter(pk__in=list(posts)).values_list("pk", "likes"))


def tick_until(
    condition: Callable[[], object], what: str, queue: str = "celery", timeout: float = LAND_SECONDS
) -> None:
    """Send ticks as a beat would, five a second, until the condition holds."""
    sent = float("-inf")

    def ticked() -> bool:
        nonlocal sent
        if condition():
            return True
        if time.monotonic() - sent > 0.2:
            tasks.tick.apply_async(expires=30, queue=queue)
            sent = time.monotonic()
        return False

    eventually(ticked, what, timeout)


def wait_until_idle(queue: str) -> None:
    """Return when the one child of a special worker has run everything sent to its queue."""
    mark = folder("idle") / "mark"
    app.send_task("tests.touch", (str(mark),), queue=queue)
    eventually(mark.exists, "the worker is idle", LAND_SECONDS)


def nothing_left() -> bool:
    """Return whether every like is in PostgreSQL, as far as Redis knows."""
    return not flusher.work()
