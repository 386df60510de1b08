"""Load on a port of this machine: the requests, and who plays them. Knows no contender.

wrk plays when it is installed, bench/generator.py when not; both play the same files and say the same of them.
"""

from __future__ import annotations

import itertools
import json
import os
import random
import shutil
import subprocess
import sys
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

LUA = Path(__file__).with_name("load.lua")
KEY = b"\1"  # stands in a request for a key that is used once
END_SECONDS = 30.0  # what a generator may take beyond the seconds it plays
runs = itertools.count(1)


@dataclass(frozen=True)
class Outcome:
    """What came of the requests of one run; p50 and p99 are in milliseconds."""

    answered: int
    refused: int  # of those: statuses above 399
    broken: int  # connections, and requests that were never answered
    seconds: float
    p50: float
    p99: float

    @property
    def acknowledged(self) -> int:
        """Return how many were answered as they should be."""
        return self.answered - self.refused


def like(post: int, *headers: bytes) -> bytes:
    """Return the request of one like."""
    return request(b"/api/v1/posts/%d/like" % post, b"", *headers)


def bulk(posts: Iterable[int]) -> bytes:
    """Return the request of a bulk call with one like for each post."""
    entries = [{"post": post, "count": 1} for post in posts]
    body = json.dumps({"likes": entries}, separators=(",", ":")).encode()
    return request(b"/api/v1/likes", body, b"Content-Type: application/json")


def request(path: bytes, body: bytes, *headers: bytes) -> bytes:
    """Return a POST, byte by byte, as both generators send it."""
    lines = [b"POST %s HTTP/1.1" % path, b"Host: 127.0.0.1", b"Content-Length: %d" % len(body), *headers]
    return b"\r\n".join([*lines, b"", body])


def zipf(posts: int, draws: int, exponent: float = 1.0) -> Sequence[int]:
    """Draw posts from 1 to `posts` of which the nth is liked n^-exponent as often as the first; the same every time."""
    weights = [1 / rank**exponent for rank in range(1, posts + 1)]
    return random.Random(1).choices(range(1, posts + 1), weights, k=draws)


def write(path: Path, requests: Iterable[bytes]) -> Path:
    """Write a file for the generators and return it."""
    path.write_bytes(b"\0".join(requests))
    return path


def cores() -> list[int]:
    """Return the cores that this process may use; none where nobody can be told to keep to one."""
    return sorted(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else []


@contextmanager
def kept_to(wanted: Iterable[int]) -> Iterator[None]:
    """Have what is started meanwhile run on these cores only."""
    before = cores()
    if before:
        os.sched_setaffinity(0, set(wanted))
    try:
        yield
    finally:
        if before:
            os.sched_setaffinity(0, before)


def play(port: int, file: Path, seconds: int, connections: int, core: Iterable[int], wrk: str | None) -> Outcome:
    """Play a file against a port. Raises CalledProcessError or TimeoutExpired when the generator fails."""
    run = f"{os.getpid()}-{next(runs)}"
    if wrk:
        told = ["-t1", f"-c{connections}", f"-d{seconds}s", "--timeout", "5s", "--latency", "-s", str(LUA)]
        command = [wrk, *told, f"http://127.0.0.1:{port}/", "--", str(file), run]
    else:
        told = ["--seconds", str(seconds), "--connections", str(connections)]
        command = [sys.executable, "-m", "bench.generator", str(port), str(file), run, *told]
    with kept_to(core):
        process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
    with process:
        try:
            output, _ = process.communicate(timeout=seconds + END_SECONDS)
        except BaseException:
            process.kill()
            raise
    if process.returncode:
        raise subprocess.CalledProcessError(process.returncode, command, output)
    return Outcome(**json.loads(output.splitlines()[-1]))


def find_wrk() -> str | None:
    """Return where wrk is."""
    return shutil.which("wrk")
