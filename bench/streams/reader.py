"""`python -m bench.streams.reader PORT`: a process that holds many streams and reads them as cheaply as Python can.

Raw sockets and one selector; of what arrives only the events are counted, and the last of each stream is kept. With
`sample`, the time and total of every event are kept as well. Must not know who sends.
"""

from __future__ import annotations

import re
import selectors
import socket
import sys
import time
from collections import Counter
from collections.abc import Callable
from typing import Any

from bench.streams.helper import answer, cpu_seconds, to_last_core

END = b"\n\n\r\n"  # of a chunk that ends with an event
EVENT = b"data: {"
TOTAL = re.compile(rb'"[0-9]+":([0-9]+)\}\}')
OPENING = 50  # streams at a time: a backlog that overflows makes a client wait for a second
OPEN_SECONDS = 30.0  # a deadline for one `open`
CONNECT_SECONDS = 10.0
RECEIVE = 65_536  # bytes


class Stream:
    """One open stream: what it read last, and the start of a chunk that has not ended yet."""

    __slots__ = ("last", "opened", "rest", "seen", "socket")

    def __init__(self, port: int, path: str, receive_buffer: int = 0) -> None:
        self.socket = socket.socket()
        if receive_buffer:
            self.socket.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, receive_buffer)
        self.socket.settimeout(CONNECT_SECONDS)
        self.socket.connect(("127.0.0.1", port))
        self.socket.sendall(f"GET {path} HTTP/1.1\r\nHost: 127.0.0.1\r\nAccept: text/event-stream\r\n\r\n".encode())
        self.socket.setblocking(False)
        self.opened = False
        self.rest = self.last = b""
        self.seen: list[tuple[float, int]] = []


class Reader:
    """All streams of this process, and the commands."""

    def __init__(self, port: int) -> None:
        self._port = port
        self._selector = selectors.DefaultSelector()
        self._streams: list[Stream] = []
        self._stuck: list[Stream] = []
        self._opened = self._ended = self._events = self._bytes = 0
        self._sample = False
        self._commands: dict[str, Callable[..., Any]] = {
            "open": self.open, "stick": self.stick, "mark": self.mark, "report": self.report, "seen": self.seen,
            "close": self.close,
        }  # fmt: skip

    def run(self) -> None:
        """Read streams, and answer commands in between, until stdin ends."""
        self._selector.register(sys.stdin, selectors.EVENT_READ)
        while self._turn(None):
            pass

    def open(self, streams: int, path: str, sample: bool = False) -> dict[str, Any]:
        """Open as many more streams, and return once each has its first event, or why one has not."""
        self._sample = sample
        wanted, deadline, why = len(self._streams) + streams, time.monotonic() + OPEN_SECONDS, ""
        try:
            while self._opened < wanted and not self._ended and time.monotonic() < deadline:
                if len(self._streams) < min(wanted, self._opened + OPENING):
                    self._add(Stream(self._port, path))
                self._turn(0.0 if len(self._streams) < min(wanted, self._opened + OPENING) else 0.1)
        except OSError as error:
            why = str(error) or type(error).__name__
        if self._opened < wanted and not why:
            why = self._complaint()
        return {"opened": self._opened, "why": why}

    def stick(self, streams: int, path: str) -> None:
        """Open streams that nobody ever reads, with as little room on the way as the kernel gives."""
        self._stuck = [Stream(self._port, path, receive_buffer=4_096) for _ in range(streams)]

    def mark(self) -> float:
        """Begin to count anew and return this process' CPU seconds."""
        self._events = self._bytes = 0
        for stream in self._streams:
            stream.seen = []
        return cpu_seconds()

    def report(self) -> dict[str, Any]:
        """Return what was counted since the mark, and how many streams were last told which total."""
        last = Counter(total_of(stream.last) for stream in self._streams)
        return {"events": self._events, "bytes": self._bytes, "ended": self._ended, "cpu": cpu_seconds(),
                "last": sorted(last.items())}  # fmt: skip

    def seen(self) -> list[list[tuple[float, int]]]:
        """Return time and total of each event of each stream of the sample since the mark."""
        return [stream.seen for stream in self._streams]

    def close(self) -> None:
        """Close every stream."""
        for stream in self._streams:
            self._drop(stream)
        for stream in self._stuck:
            stream.socket.close()
        self._streams, self._stuck = [], []
        self._opened = self._ended = 0

    def _add(self, stream: Stream) -> None:
        self._streams.append(stream)
        self._selector.register(stream.socket, selectors.EVENT_READ, stream)

    def _drop(self, stream: Stream) -> None:
        if stream.socket.fileno() >= 0:
            self._selector.unregister(stream.socket)
            stream.socket.close()

    def _turn(self, patience: float | None) -> bool:
        """Take what has arrived; return False at the end of stdin, which ends the process."""
        for key, _ in self._selector.select(patience):
            if key.data is not None:
                self._receive(key.data)
            elif line := sys.stdin.readline():
                answer(line, self._commands)
            else:
                return False
        return True

    def _receive(self, stream: Stream) -> None:
        if stream.socket.fileno() < 0:
            return  # a command of this very turn closed it
        try:
            data = stream.socket.recv(RECEIVE)
        except ConnectionError:
            data = b""
        if not data:
            self._ended += 1
            self._drop(stream)
            return
        self._bytes += len(data)
        if stream.rest:
            data = stream.rest + data
        if not data.endswith(END):
            stream.rest = data
            return
        stream.rest = b""
        self._take(stream, data)

    def _take(self, stream: Stream, data: bytes) -> None:
        events = data.count(EVENT)
        if events:
            self._events += events
            stream.last = data
            if self._sample:
                stream.seen.append((time.monotonic(), total_of(data)))
        if not stream.opened and (events or b"data:" in data):  # django-eventstream's first event is an empty one
            stream.opened = True
            self._opened += 1

    def _complaint(self) -> str:
        """Return how the server refused, if it said so."""
        heads = [stream.rest.partition(b"\r\n")[0].decode() for stream in self._streams if not stream.opened]
        said = next((head for head in heads if head), "nothing")
        return f"the server closed {self._ended} and answered {len(heads)} others with {said}"


def total_of(data: bytes) -> int:
    """Return the total of the last event that has one; -1 without any."""
    found = TOTAL.findall(data)
    return int(found[-1]) if found else -1


if __name__ == "__main__":
    to_last_core()
    Reader(int(sys.argv[1])).run()
