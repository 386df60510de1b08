"""A web server with the stream room in a thread of the tests, totals that a test sets, and a reader of SSE."""

from __future__ import annotations

import json
import re
import socket
import sys
import threading
from collections.abc import Iterable
from typing import Any

import uvicorn
from prometheus_client import REGISTRY
from redis import Redis

from likes import events
from likes.asgi_types import Receive, Scope, Send
from likes.buffer import Total, Unavailable
from likes.stream import Stream
from tests.servers import Process, Server, eventually, folder, free_port

PATIENCE = 30.0  # seconds until a test gives up on an event; they take milliseconds


async def behind(scope: Scope, receive: Receive, send: Send) -> None:
    """Stand for Django: whatever is no stream gets here."""
    await send({"type": "http.response.start", "status": 418, "headers": [(b"content-length", b"0")]})
    await send({"type": "http.response.body", "body": b""})


class Totals:
    """The totals that snapshots read. `away`: posts whose read fails, and with them the whole read."""

    def __init__(self) -> None:
        self.posts: dict[int, Total] = {}
        self.reads: list[list[int]] = []
        self.away: set[int] = set()
        self.open = threading.Event()
        self.open.set()

    def set(self, post: int, total: int, version: int) -> None:
        self.posts[post] = Total(total, 0, version)

    def __call__(self, posts: list[int]) -> dict[int, Total]:
        self.reads.append(posts)
        found = {post: self.posts[post] for post in posts if post in self.posts}
        assert self.open.wait(PATIENCE), "the test never let the read go on"
        if self.away & set(posts):
            raise Unavailable("not_applied", "the test says so")
        return found


class Web:
    """uvicorn with a Stream in front of `behind`, in a thread; options are those of Stream."""

    def __init__(self, totals: Totals, **options: Any) -> None:
        self.socket = socket.create_server(("127.0.0.1", 0), backlog=512)
        self.port: int = self.socket.getsockname()[1]
        config = uvicorn.Config(
            Stream(behind, totals, **options), log_config=None, timeout_graceful_shutdown=1, access_log=False
        )
        self.server = uvicorn.Server(config)
        self.thread = threading.Thread(target=self.server.run, args=([self.socket],))
        self.thread.start()

    def stop(self) -> None:
        self.server.should_exit = True
        self.thread.join(PATIENCE)
        assert not self.thread.is_alive(), "the server does not end"


class Site:
    """The whole service: uvicorn as it runs in production, in a process of its own."""

    def __init__(self, process: type[Process], **environment: str) -> None:
        self.port = free_port()
        command = [sys.executable, "-m", "uvicorn", "likesite.asgi:application", "--host", "127.0.0.1"]
        options = ["--port", str(self.port), "--timeout-graceful-shutdown", "3", "--no-access-log"]
        options += ["--http", "likesite.protocol:Protocol"]
        self.process = process([*command, *options], folder("web") / "log", **environment).start()

    def wait_ready(self) -> Site:
        eventually(lambda: "Uvicorn running" in self.process.output, "the web process runs")
        return self

    @property
    def pid(self) -> int:
        assert self.process.popen is not None
        return self.process.popen.pid


class Reader:
    """One client of a stream: reads as slowly as its test does."""

    def __init__(
        self, port: int, path: str = "/events", *, method: str = "GET", stuck: bool = False, **headers: str
    ) -> None:
        self.socket = socket.socket()
        if stuck:  # little fits between the two: the server soon finds that nothing is taken
            self.socket.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
            self.socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_MAXSEG, 1_400)
        self.socket.settimeout(PATIENCE)
        self.socket.connect(("127.0.0.1", port))
        named = {"host": "127.0.0.1"} | {name.replace("_", "-"): value for name, value in headers.items()}
        lines = "".join(f"{name}: {value}\r\n" for name, value in named.items())
        self.socket.sendall(f"{method} {path} HTTP/1.1\r\n{lines}\r\n".encode())
        self.raw = b""
        self.text = ""
        self.ended = False
        head = self._until(b"\r\n\r\n").decode().split("\r\n")
        self.status = int(head[0].split()[1])
        self.headers = dict(line.lower().split(": ", 1) for line in head[1:] if line)

    def __enter__(self) -> Reader:
        return self

    def __exit__(self, *_: object) -> None:
        self.socket.close()

    def hurry(self) -> None:
        """Take as much at once as other readers do."""
        self.socket.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 1 << 20)

    def body(self) -> Any:
        """Return the JSON of an answer that is no stream."""
        return json.loads(self._exactly(int(self.headers["content-length"])))

    def block(self) -> str | None:
        """Return the next block of the stream, a comment or a field among them; None at its end."""
        while "\n\n" not in self.text:
            if self.ended:
                return None
            self._chunk()
        block, self.text = self.text.split("\n\n", 1)
        return block

    def event(self) -> dict[str, Any]:
        """Return the data of the next event."""
        while (block := self.block()) is not None:
            if data := re.fullmatch("data: (.*)", block):
                found: dict[str, Any] = json.loads(data[1])
                return found
        raise AssertionError("the stream ended")

    def events_until(self, post: int, total: int) -> list[dict[str, Any]]:
        """Return the events up to the first that tells this total of this post."""
        told = [self.event()]
        while told[-1]["likes"].get(str(post)) != total:
            told.append(self.event())
        return told

    def latest_until(self, totals: dict[str, int]) -> int:
        """Read until these totals have been told, and return the counts that came with them, added up."""
        latest: dict[str, int] = {}
        count = 0
        while not latest.items() >= totals.items():
            told = self.event()
            latest |= told["likes"]
            count += told["count"]
        return count

    def _chunk(self) -> None:
        size = int(self._until(b"\r\n"), 16)
        self.text += self._exactly(size).decode()
        self._until(b"\r\n")
        self.ended = size == 0

    def _until(self, mark: bytes) -> bytes:
        while mark not in self.raw:
            self._receive()
        found, self.raw = self.raw.split(mark, 1)
        return found

    def _exactly(self, size: int) -> bytes:
        while len(self.raw) < size:
            self._receive()
        found, self.raw = self.raw[:size], self.raw[size:]
        return found

    def _receive(self) -> None:
        got = self.socket.recv(65536)
        if not got:
            raise EOFError("the server closed the connection")
        self.raw += got


def open_streams() -> int:
    """Return what /metrics would say of this process."""
    return int(REGISTRY.get_sample_value("likesite_open_streams") or 0)


def summed(events: Iterable[dict[str, Any]]) -> int:
    """Return what a page shows that adds up the counts of events."""
    return sum(event["count"] for event in events)


def listeners(redis: Server) -> int:
    """Return how many processes are subscribed."""
    with Redis.from_url(redis.server.url, socket_timeout=30) as client:
        number: int = client.pubsub_numsub(events.WIRE)[0][1]
        return number
