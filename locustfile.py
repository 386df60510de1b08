"""Load for likesite: users that like, read and watch. Every run ends with a certificate: what was answered is counted.

    locust                                          web UI: users, or one of the shapes Ramp, Spike and Soak
    locust --headless -u 20 -t 60s                  a plain run; its exit code is the certificate's
    locust --headless --likes 10000 --processes 2   so many likes, from two processes

Exit codes: 0 the count holds, 1 likes were lost or doubled or a total fell, 2 it could not be decided.
"""

import json
import random
import time
import uuid
from collections.abc import Callable, Iterator, Mapping
from typing import Any

import gevent
from locust import FastHttpUser, events, task
from locust.contrib.fasthttp import FAILURE_EXCEPTIONS
from locust.exception import StopUser
from locust.runners import MasterRunner, WorkerRunner

from likesite.loadtest import options, panel
from likesite.loadtest.organiser import Organiser
from likesite.loadtest.outcome import Outcome, judge
from likesite.loadtest.participant import LIKE_SECONDS, RETRY_SECONDS, Participant
from likesite.loadtest.run import Run
from likesite.loadtest.shapes import Ramp, Soak, Spike

__all__ = ["Liker", "Ramp", "Reader", "Soak", "Spike", "Watcher"]

PAUSE_SECONDS = 0.5
"""Before a like is sent again, where the answer names no Retry-After."""
READ_PAUSE_SECONDS = 0.5
"""How long readers rest, and watchers whose stream ended: what a run measures are likes."""
STREAM_SECONDS = 45.0
"""A stream that says nothing for so long is broken: it pings every 15 s."""

participant = Participant()
organiser = Organiser()

events.init_command_line_parser.add_listener(lambda parser, **_: options.add(parser))


def attach(environment: Any, runner: Any, web_ui: Any, **_: object) -> None:
    """Each process takes the parts that are its own: a plain one both, a master no users, a worker nothing else."""
    environment.shape_class = _shape(environment, runner)
    if not isinstance(runner, MasterRunner):
        participant.attach(runner)
    if not isinstance(runner, WorkerRunner):
        organiser.attach(environment, runner)
    if web_ui:
        panel.add(web_ui, web_ui.app, environment.parsed_options.web_base_path, organiser.gatherings)


events.init.add_listener(attach)


def _shape(environment: Any, runner: Any) -> Any:
    """The shape of --shape, or none: Locust itself would take the first it finds, and plain runs were impossible."""
    name = environment.parsed_options.shape
    if name is None or isinstance(runner, WorkerRunner):
        return None
    shape = environment.available_shape_classes[name]
    shape.runner = runner
    return shape


class LikesiteUser(FastHttpUser):
    """What all have in common. The client itself sends nothing twice: it neither retries nor follows redirects."""

    abstract = True
    max_retries = 0
    max_redirects = 0
    connection_timeout = 5.0
    network_timeout = LIKE_SECONDS

    def wait_time(self) -> float:
        return READ_PAUSE_SECONDS

    def on_start(self) -> None:
        self.highest: dict[int, int] = {}

    def check(self, response: Any, totals: Mapping[str, int]) -> None:
        """No total is lower than this user saw it before."""
        fallen = participant.run.compare(self.highest, {int(post): likes for post, likes in totals.items()})
        if fallen:
            response.failure(f"totals went down: posts {fallen}")


class Liker(LikesiteUser):
    """Likes posts, some of them under a key; sends a like again while that can do no harm, as a good client would."""

    weight = 8

    def wait_time(self) -> float:
        return float(self.environment.parsed_options.pause)

    @task
    def like(self) -> None:
        run = participant.run
        if run.over():
            raise StopUser
        post = run.pick()
        keyed = random.random() < self.environment.parsed_options.keyed  # noqa: S311 (load, no secret)
        key = uuid.uuid4().hex if keyed else None
        run.send(post, lambda: self.deliver(run, post, key)).join()

    def deliver(self, run: Run, post: int, key: str | None) -> Outcome:
        """Send until the outcome is decided, sending again could count twice, or there is no time left."""
        deadline = time.monotonic() + RETRY_SECONDS
        in_doubt = False
        while True:
            outcome, pause = self.attempt(run, post, key)
            if outcome is Outcome.ACKNOWLEDGED:
                return outcome
            in_doubt = in_doubt or outcome is Outcome.UNKNOWN
            # Without a key, an attempt in doubt may have counted. Under one, the end of the run waits for the answer.
            harmless = key is not None or not in_doubt
            wanted = in_doubt or not run.closing
            if outcome is Outcome.REFUSED or not (harmless and wanted) or time.monotonic() + pause > deadline:
                return Outcome.UNKNOWN if in_doubt else outcome
            gevent.sleep(pause)

    def attempt(self, run: Run, post: int, key: str | None) -> tuple[Outcome, float]:
        """One request: what became of the like, and how many seconds to wait before another."""
        headers = {"Idempotency-Key": key} if key else {}
        path = f"/api/v1/posts/{post}/like"
        with self.client.post(path, headers=headers, name="like", catch_response=True) as response:
            run.requests += 1
            outcome = judge(response.status_code, response.content, getattr(response, "error", None))
            if outcome is not Outcome.ACKNOWLEDGED:
                response.failure(f"{response.status_code}: {outcome.value}")
        retry_after = (response.headers or {}).get("Retry-After", "")
        return outcome, float(retry_after) if str(retry_after).isdigit() else PAUSE_SECONDS


class Reader(LikesiteUser):
    """Reads totals, one post and many at a time."""

    @task
    def many(self) -> None:
        query = "&".join(f"post={post}" for post in participant.run.posts[:100])
        with self.client.get(f"/api/v1/likes?{query}", name="/api/v1/likes", catch_response=True) as response:
            if response.status_code == 200:
                self.check(response, response.json()["likes"])

    @task
    def one(self) -> None:
        post = participant.run.pick()
        path = f"/api/v1/posts/{post}/likes"
        with self.client.get(path, name="/api/v1/posts/{id}/likes", catch_response=True) as response:
            if response.status_code == 200:
                self.check(response, {str(post): response.json()["likes"]})


class Watcher(LikesiteUser):
    """Keeps a stream open, and opens it again when it ends. Each event is a line of its own in the statistics."""

    network_timeout = STREAM_SECONDS

    @task
    def watch(self) -> None:
        query = "&".join(f"post={post}" for post in participant.run.posts[:100])
        with self.client.get(f"/events?{query}", name="/events", stream=True, catch_response=True) as response:
            if response.status_code == 200:
                try:
                    self.follow(response)
                except FAILURE_EXCEPTIONS as error:  # what Locust's client raises when a connection ends
                    response.failure(f"the stream broke: {error!r}")

    def follow(self, response: Any) -> None:
        """Check every event until the stream ends."""
        for payload in _events(response.stream.readline):
            self.check(response, payload["likes"])
            events.request.fire(request_type="SSE", name="event", response_time=None, response_length=0)


def _events(readline: Callable[[bytes], bytes]) -> Iterator[dict[str, Any]]:
    """The data of a stream's events, one line each as the service sends them, until the stream ends."""
    while line := readline(b"\n"):
        if line.startswith(b"data:"):
            yield json.loads(line[5:])
