"""`python -m bench.streams.likes PORT`: a client that sends likes at a steady pace, however the server feels.

Request n is due n / rate seconds after the first, and goes out on the first connection that is free from then on, of
CONNECTIONS at most. Must not know how likes are counted or shown.
"""

from __future__ import annotations

import re
import selectors
import socket
import sys
import time
from dataclasses import dataclass, field
from typing import Any

from bench.streams.helper import serve, to_last_core

CONNECTIONS = 64
REUSE_SECONDS = 3.0  # uvicorn closes a connection after 5 s of rest
ANSWER_SECONDS = 30.0  # for all that is under way, once the last request is out
GRACE_SECONDS = 0.5  # after the last request is due; what is unsent by then never goes
TOTAL = re.compile(rb'"likes":([0-9]+)\}$')
LENGTH = re.compile(rb"\r\ncontent-length: ([0-9]+)\r\n", re.IGNORECASE)


@dataclass
class Run:
    """One run: what is out, and what came back."""

    request: bytes
    requests: int
    rate: float
    started: float = field(default_factory=time.monotonic)
    written: dict[socket.socket, float] = field(default_factory=dict)  # by the connection that waits for its answer
    parts: dict[socket.socket, bytes] = field(default_factory=dict)  # of answers that have not all come
    likes: list[tuple[float, float, int]] = field(default_factory=list)  # written, answered, total
    sent: int = 0
    late: float = 0.0  # seconds that a request went out after it was due, at the worst

    @property
    def due(self) -> float:
        """Return when the next request is due; never, after the last one."""
        return self.started + self.sent / self.rate if self.sent < self.requests else float("inf")

    @property
    def going(self) -> bool:
        """Tell whether requests may still go out."""
        left = self.started + self.requests / self.rate + GRACE_SECONDS - time.monotonic()
        return left > 0 and self.sent < self.requests


class Client:
    """The connections, and the runs that they serve."""

    def __init__(self, port: int) -> None:
        self._port = port
        self._selector = selectors.DefaultSelector()
        self._idle: list[tuple[float, socket.socket]] = []  # since when; the last one that was used is used next

    def run(self, path: str, requests: int, rate: float) -> dict[str, Any]:
        """Send as many POSTs at `rate` a second, fewer to a server that does not keep up.

        Returns when each was written and answered, and with which total; `failed` counts those that have no total.
        """
        run = Run(f"POST {path} HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Length: 0\r\n\r\n".encode(), requests, rate)
        end = run.started + requests / rate + ANSWER_SECONDS
        while (run.going or run.written) and time.monotonic() < end:
            self._send_due(run)
            self._take(run)
        for connection in run.written:
            self._close(connection)
        return {"likes": run.likes, "late": run.late, "failed": run.sent - len(run.likes)}

    def _send_due(self, run: Run) -> None:
        while run.going and time.monotonic() >= run.due and len(run.written) < CONNECTIONS:
            connection = self._connection()
            now = time.monotonic()
            connection.sendall(run.request)
            run.written[connection] = now
            run.late = max(run.late, now - run.due)
            run.sent += 1

    def _connection(self) -> socket.socket:
        while self._idle:
            since, connection = self._idle.pop()
            if time.monotonic() - since < REUSE_SECONDS:
                return connection
            self._close(connection)
        connection = socket.create_connection(("127.0.0.1", self._port), timeout=ANSWER_SECONDS)
        connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self._selector.register(connection, selectors.EVENT_READ)
        return connection

    def _close(self, connection: socket.socket) -> None:
        self._selector.unregister(connection)
        connection.close()

    def _take(self, run: Run) -> None:
        wait = run.due - time.monotonic() if len(run.written) < CONNECTIONS else 0.1
        for key, _ in self._selector.select(min(0.1, max(0.0, wait))):
            connection = key.fileobj
            assert isinstance(connection, socket.socket)
            received = connection.recv(65_536)
            if not received:
                self._ended(run, connection)
                continue
            run.parts[connection] = run.parts.get(connection, b"") + received
            if is_whole(run.parts[connection]):
                self._answered(run, connection, run.parts.pop(connection))

    def _ended(self, run: Run, connection: socket.socket) -> None:
        if connection in run.written:
            raise ConnectionError("the server closed a connection that waited for its answer")
        self._idle = [idle for idle in self._idle if idle[1] is not connection]
        self._close(connection)

    def _answered(self, run: Run, connection: socket.socket, answer: bytes) -> None:
        now, written, total = time.monotonic(), run.written.pop(connection), TOTAL.search(answer)
        if total:
            run.likes.append((written, now, int(total[1])))
        self._idle.append((now, connection))


def is_whole(answer: bytes) -> bool:
    """Tell whether all of an answer has come: its head and its body often come apart."""
    head, end, body = answer.partition(b"\r\n\r\n")
    length = LENGTH.search(head + b"\r\n")
    return bool(end and length) and len(body) >= int(length[1] if length else 0)


if __name__ == "__main__":
    to_last_core()
    serve({"run": Client(int(sys.argv[1])).run})
