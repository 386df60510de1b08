"""The turns of the front benchmark: who takes which likes, and what one turn measures. Compares nobody.

A turn is one second to warm up and some seconds that count, on a server that was up before and idles in between.
"""

from __future__ import annotations

import random
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import redis

from bench import contenders, load
from bench.contenders import Absent, Contender, cpu_seconds
from bench.servers import Servers
from tests.servers import eventually, folder

POSTS = 10_000
DRAWS = 100_000  # likes in the Zipf file, which is then played again
ENTRIES = 1_000  # of a bulk call
HEAT_UP = 3  # seconds under load before the first round: V8 compiles what it has seen some thousand times
WARM_UP = 1  # seconds before each turn


@dataclass(frozen=True)
class Load:
    """What is asked for: which posts, how many likes a request, over how many connections."""

    says: str
    posts: range = range(1, 2)
    entries: int = 1
    connections: int = 64


LOADS = {
    "hot": Load("one hot post"),
    "zipf": Load("Zipf", range(1, POSTS + 1)),
    "keyed": Load("a key each"),
    # As many likes under way as a sender of bulk calls would have; 64 calls would only wait for each other.
    "bulk": Load("bulk, an entry", range(1, POSTS + 1), ENTRIES, connections=4),
}


@dataclass(frozen=True)
class Turn:
    """One contender under one load."""

    who: str
    load: str
    start: Callable[[], Contender]
    ours: bool = False  # its totals can be read, and are checked
    store: str = "redis"

    @property
    def name(self) -> str:
        """Return the name of its row."""
        return f"{self.who}: {LOADS[self.load].says}"


LANE, DRF, EXPRESS, NGINX = "likesite", "likesite, DRF", "Express, INCR", "nginx + Lua, INCR"
TURNS = (
    *(Turn(LANE, played, contenders.lane, ours=True) for played in LOADS),
    *(Turn(DRF, played, contenders.drf, ours=True) for played in ("hot", "keyed")),
    Turn("Django, UPDATE", "hot", contenders.naive_django, store="postgres"),
    Turn("Flask, LPUSH", "hot", contenders.flask),
    *(Turn(EXPRESS, played, contenders.express) for played in ("hot", "zipf")),
    *(Turn(f"{EXPRESS} pipelined", played, contenders.express_pipelining) for played in ("hot", "zipf")),
    *(Turn(NGINX, played, contenders.nginx) for played in ("hot", "zipf")),
)


@dataclass(frozen=True)
class Figures:
    """What one turn measured: milliseconds, and CPU microseconds per acknowledged like."""

    rate: float
    p50: float
    p99: float
    web: float
    store: float
    refused: int
    broken: int

    @property
    def cost(self) -> float:
        """Return what a like costs web process and store together."""
        return self.web + self.store


class Course:
    """The contenders that are there, and the files of likes that they are given."""

    def __init__(self, started: Servers, turns: Sequence[Turn], core: list[int], wrk: str | None) -> None:
        self._core, self._wrk = core, wrk
        self._redis = redis.Redis.from_url(started.redis.server.url, socket_timeout=30)
        self._stores = {"redis": pid_of(started.redis), "postgres": pid_of(started.postgres)}
        self._files = write_files(folder("likes"))
        self.absent: dict[str, str] = {}
        self._running = self._start({turn.who: turn.start for turn in turns})

    def _start(self, wanted: dict[str, Callable[[], Contender]]) -> dict[str, Contender]:
        running: dict[str, Contender] = {}
        for who, start in wanted.items():
            try:
                running[who] = start()
            except Absent as lack:
                self.absent[who] = str(lack)
        model = running.get(LANE)
        for contender in running.values():
            if model is not None:
                model.total(range(1, POSTS + 1))  # which makes them warm
                contenders.answers_alike(contender, model)
        return running

    def heat_up(self, turns: Sequence[Turn]) -> None:
        """Have every contender compile and open what it ever will, before anybody measures."""
        for turn in {turn.who: turn for turn in turns if turn.who not in self.absent}.values():
            self._play(self._running[turn.who], turn, HEAT_UP)

    def take(self, turn: Turn, seconds: int) -> Figures:
        """Let a contender take likes, check that as many were counted, and return what it cost."""
        contender, asked = self._running[turn.who], LOADS[turn.load]
        pids = [contender.pid, self._stores[turn.store]]
        self._rewrite_log()
        self._play(contender, turn, WARM_UP)
        before = settled(contender, asked.posts) if turn.ours else 0
        used = [cpu_seconds(pid) for pid in pids]
        outcome = self._play(contender, turn, seconds)
        web, store = (cpu_seconds(pid) - already for pid, already in zip(pids, used, strict=True))
        if turn.ours:
            check(outcome, asked, settled(contender, asked.posts) - before)
        likes = max(outcome.acknowledged, 1) * asked.entries
        rate = outcome.acknowledged * asked.entries / outcome.seconds
        each = 1e6 / likes
        return Figures(rate, outcome.p50, outcome.p99, web * each, store * each, outcome.refused, outcome.broken)

    def _play(self, contender: Contender, turn: Turn, seconds: int) -> load.Outcome:
        connections = LOADS[turn.load].connections
        return load.play(contender.port, self._files[turn.load], seconds, connections, self._core, self._wrk)

    def _rewrite_log(self) -> None:
        """Begin every turn with a short append-only file, so that nobody pays for rewriting what another wrote."""
        self._redis.bgrewriteaof()
        eventually(self._is_written, "Redis has rewritten its append-only file")

    def _is_written(self) -> bool:
        state = self._redis.info("persistence")
        return not state["aof_rewrite_in_progress"] and not state["aof_rewrite_scheduled"]


def pid_of(server: contenders.Process) -> int:
    """Return the process id of a server that runs."""
    assert server.popen is not None
    return server.popen.pid


def write_files(home: Path) -> dict[str, Path]:
    """Write the likes of every load; they are the same in every run."""
    posts = list(range(1, POSTS + 1))
    random.Random(2).shuffle(posts)
    parts = [posts[first : first + ENTRIES] for first in range(0, POSTS, ENTRIES)]
    requests = {
        "hot": [load.like(1)],
        "zipf": [load.like(post) for post in load.zipf(POSTS, DRAWS)],
        "keyed": [load.like(1, b"Idempotency-Key: " + load.KEY)],
        "bulk": [load.bulk(part) for part in parts],
    }
    return {name: load.write(home / name, texts) for name, texts in requests.items()}


def settled(contender: Contender, posts: range) -> int:
    """Return the likes of these posts once no like is under way any more."""
    likes, before = contender.total(posts), -1
    while likes != before:
        time.sleep(0.1)
        likes, before = contender.total(posts), likes
    return likes


def check(outcome: load.Outcome, asked: Load, counted: int) -> None:
    """Fail unless every acknowledged like was counted, and no other but those under way when the load ended."""
    acknowledged = outcome.acknowledged * asked.entries
    most = acknowledged + (asked.connections + outcome.refused) * asked.entries
    if not acknowledged <= counted <= most:
        raise RuntimeError(f"{acknowledged} likes were acknowledged and {counted} counted")
