"""The load generators: both send what they were given, and say of it what the server saw."""

from __future__ import annotations

import re
import socketserver
import threading
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import pytest

from bench import load
from bench.load import Outcome

CONNECTIONS = 4
GENERATORS = ["bundled", *(["wrk"] if load.find_wrk() else [])]
KEYED = load.like(1, b"Idempotency-Key: " + load.KEY)


class Counting(socketserver.ThreadingTCPServer):
    """Answers 202, and 503 to every fourth request of a connection; remembers every request."""

    daemon_threads = True

    def __init__(self) -> None:
        self.seen: list[bytes] = []
        super().__init__(("127.0.0.1", 0), Handler)


class Handler(socketserver.StreamRequestHandler):
    """One connection of the counting server."""

    server: Counting

    def handle(self) -> None:
        answered = 0
        while head := self.head():
            self.server.seen.append(head)
            length = re.search(rb"(?i)content-length: (\d+)", head)
            self.rfile.read(int(length[1]) if length else 0)
            answered += 1
            status = b"503 Service Unavailable" if answered % 4 == 0 else b"202 Accepted"
            try:
                self.wfile.write(b"HTTP/1.1 %s\r\nContent-Length: 2\r\n\r\n{}" % status)
            except OSError:
                return

    def head(self) -> bytes:
        try:
            return b"".join(iter(self.rfile.readline, b"\r\n")) if self.rfile.peek(1) else b""
        except OSError:
            return b""


@pytest.fixture
def server() -> Iterator[Counting]:
    """A server that counts."""
    with Counting() as made:
        thread = threading.Thread(target=made.serve_forever)
        thread.start()
        yield made
        made.shutdown()
        thread.join()


def play(server: Counting, generator: str, file: Path) -> Outcome:
    wrk = load.find_wrk() if generator == "wrk" else None
    return load.play(server.server_address[1], file, 1, CONNECTIONS, load.cores(), wrk)


@pytest.mark.parametrize("generator", GENERATORS)
def test_a_generator_counts_what_the_server_answered(server: Counting, generator: str, tmp_path: Path) -> None:
    bulk = load.bulk(range(1, 1001))
    outcome = play(server, generator, load.write(tmp_path / "likes", [load.like(1), load.like(2), bulk]))
    assert outcome.answered > 100
    assert outcome.answered <= len(server.seen) <= outcome.answered + CONNECTIONS
    assert abs(outcome.refused - outcome.answered / 4) <= CONNECTIONS
    assert outcome.acknowledged == outcome.answered - outcome.refused
    assert outcome.broken == 0
    assert 0 < outcome.p50 <= outcome.p99
    paths = Counter(head.split()[1] for head in server.seen)
    assert max(paths.values()) - min(paths.values()) <= 1, "the requests of the file, in turn"


@pytest.mark.parametrize("generator", GENERATORS)
def test_no_two_runs_send_the_same_key(server: Counting, generator: str, tmp_path: Path) -> None:
    file = load.write(tmp_path / "keyed", [KEYED])
    outcomes = [play(server, generator, file) for _ in range(2)]
    keys = [re.search(rb"Idempotency-Key: ([\x21-\x7e]{1,255})\r\n", head) for head in server.seen]
    assert len(keys) >= sum(outcome.answered for outcome in outcomes) > 100
    assert all(keys)
    assert len({key[1] for key in keys if key}) == len(keys)


def test_likes_follow_zipf_and_are_the_same_every_time() -> None:
    drawn = load.zipf(1_000, 100_000)
    assert drawn == load.zipf(1_000, 100_000)
    counts = Counter(drawn)
    assert counts[1] / counts[10] == pytest.approx(10, rel=0.1)
    assert set(counts) <= set(range(1, 1_001))
