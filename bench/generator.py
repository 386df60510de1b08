"""The load generator for machines without wrk: `python -m bench.generator PORT FILE RUN --seconds S --connections C`.

Plays a file of requests as load.lua does, over connections that are kept, each with one request under way, and prints
the same line of JSON. Knows of HTTP only where an answer ends. It is one process and costs more than wrk: where it is
the slower side, likes/s are its own, and only the CPU figures are the server's.
"""

from __future__ import annotations

import argparse
import itertools
import json
import selectors
import socket
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

LAST_GOOD = 399  # statuses above it are refusals, as wrk counts them
DRY_SECONDS = 5.0  # no answer on any connection for so long: the server hangs


@dataclass
class Tally:
    """What came of the requests so far; `waits` are in seconds, one an answer."""

    refused: int = 0
    broken: int = 0
    waits: list[float] = field(default_factory=list)

    def line(self, seconds: float) -> str:
        """Return it as a line of JSON, waits in milliseconds."""
        waits = sorted(self.waits) or [0.0]
        found = {"answered": len(self.waits), "refused": self.refused, "broken": self.broken, "seconds": seconds}
        percentiles = {f"p{part}": waits[(len(waits) - 1) * part // 100] * 1e3 for part in (50, 99)}
        return json.dumps(found | percentiles)


class Connection:
    """One connection and the request under way on it."""

    def __init__(self, port: int, requests: Iterator[bytes], tally: Tally) -> None:
        self.socket = socket.create_connection(("127.0.0.1", port), timeout=DRY_SECONDS)
        # Blocking, so that nothing polls before each call: the selector has said that there is something to read.
        self.socket.settimeout(None)
        self.socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self.requests, self.tally = requests, tally
        self.sent, self.answer = 0.0, b""

    def ask(self) -> None:
        """Send the next request."""
        self.sent, self.answer = time.perf_counter(), b""
        self.socket.sendall(next(self.requests))

    def read(self) -> None:
        """Read what is there; once the answer is whole, count it and ask again. Raises OSError when the other ends."""
        part = self.socket.recv(65536)
        if not part:
            raise ConnectionResetError
        self.answer += part
        if is_whole(self.answer):
            self.tally.waits.append(time.perf_counter() - self.sent)
            self.tally.refused += int(self.answer[9:12]) > LAST_GOOD
            self.ask()


def is_whole(answer: bytes) -> bool:
    """Tell whether an answer has come to its end, which only its Content-Length tells; ValueError without one."""
    head, ended, body = answer.partition(b"\r\n\r\n")
    if not ended:
        return False
    _, named, rest = head.lower().partition(b"\r\ncontent-length:")
    if not named:
        raise ValueError(f"an answer without Content-Length: {head!r}")
    return len(body) >= int(rest.partition(b"\r\n")[0])


def endless(path: Path, run: str) -> Iterator[bytes]:
    """Return the requests of a file in turn, over and over, each key its own."""
    requests = [text for text in path.read_bytes().split(b"\0") if text]
    before, keyed, after = requests[0].partition(b"\1")
    if keyed:
        return (b"%s%s-%d%s" % (before, run.encode(), sent, after) for sent in itertools.count(1))
    return itertools.cycle(requests)


def play(port: int, requests: Iterator[bytes], seconds: float, connections: int) -> str:
    """Keep every connection busy for so many seconds and return the line that says what came of it."""
    tally = Tally()
    selector = selectors.DefaultSelector()

    def connect() -> None:
        made = Connection(port, requests, tally)
        made.ask()
        selector.register(made.socket, selectors.EVENT_READ, made)

    for _ in range(connections):
        connect()
    started = time.perf_counter()
    while time.perf_counter() - started < seconds:
        ready = selector.select(DRY_SECONDS)
        if not ready:
            raise TimeoutError(f"no answer within {DRY_SECONDS:g} s")
        for key, _ in ready:
            try:
                key.data.read()
            except OSError:
                tally.broken += 1
                selector.unregister(key.data.socket)
                key.data.socket.close()
                connect()
    return tally.line(time.perf_counter() - started)


def main() -> None:
    """Play and print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("port", type=int)
    parser.add_argument("file", type=Path)
    parser.add_argument("run", help="a name that no other run has, for keys")
    parser.add_argument("--seconds", type=int, default=3)
    parser.add_argument("--connections", type=int, default=64)
    options = parser.parse_args()
    print(play(options.port, endless(options.file, options.run), options.seconds, options.connections))


if __name__ == "__main__":
    sys.exit(main())
