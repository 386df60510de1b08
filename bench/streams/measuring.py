"""How a web process is measured under a load: what it used, what its audience saw. Knows no side of the benchmark."""

from __future__ import annotations

import time
from bisect import bisect_left
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from bench.streams.audience import Audience
from bench.streams.site import Web

IDLE_SECONDS = 3.0
Moments = list[tuple[float, int]]  # and the total of each


@dataclass(frozen=True)
class Used:
    """Units of a load (likes, or events sent), its seconds, and the CPU seconds of the web process meanwhile."""

    units: int
    seconds: float
    cpu: float


Load = Callable[[float], tuple[Used, dict[str, Any]]]  # for so many seconds; what it used, and what it says


@dataclass(frozen=True)
class Attended:
    """A load that an audience was told of. Latencies are in milliseconds, sorted; infinite where never seen."""

    load: Used
    whole: Used  # until everybody had caught up
    events: int
    readers: float  # CPU seconds a second
    total: int  # after the last like
    stale: int  # streams
    failed: int  # likes that were not answered 202
    late: float  # seconds that the load was behind its schedule, at the worst
    answers: list[float]  # from a like's request to its 202
    since_written: list[float]
    since_answered: list[float]

    def each(self, cpu: float) -> float:
        """Return `cpu` seconds as microseconds for each event."""
        return cpu / self.events * 1e6 if self.events else float("nan")


def attended(web: Web, audience: Audience, load: Load, seconds: float) -> Attended:
    """Run a load and let everybody catch up: what was delivered late was paid for late."""
    audience.mark()
    started, before = web.cpu()
    used, said = load(seconds)
    readers = audience.told().cpu / used.seconds
    likes = said["likes"]
    total = max(total for _, _, total in likes)
    stale = audience.stale(total)
    ended, after = web.cpu()
    told, seen = audience.told(), audience.seen()
    return Attended(
        load=used,
        whole=Used(used.units, ended - started, after - before),
        events=told.events,
        readers=readers,
        total=total,
        stale=stale + told.ended,
        failed=said["failed"],
        late=said["late"],
        answers=sorted((answered - written) * 1000 for written, answered, _ in likes),
        since_written=latencies([(written, total) for written, _, total in likes], seen),
        since_answered=latencies([(answered, total) for _, answered, total in likes], seen),
    )


def spent(web: Web, run: Callable[[], dict[str, Any]]) -> tuple[Used, dict[str, Any]]:
    """Run a load and return what it used, and what it said."""
    started, before = web.cpu()
    said = run()
    ended, after = web.cpu()
    return Used(len(said["likes"]), ended - started, after - before), said


def resting(web: Web) -> float:
    """Return the CPU seconds a second of a process that is left alone."""
    started, before = web.cpu()
    time.sleep(IDLE_SECONDS)
    ended, after = web.cpu()
    return (after - before) / (ended - started)


def latencies(likes: Moments, seen: list[Moments]) -> list[float]:
    """Return, for each like and each stream, the milliseconds until an event told its total or a higher one."""
    found = []
    for stream in seen:
        totals = [total for _, total in stream]
        for moment, total in likes:
            at = bisect_left(totals, total)  # totals only grow, or somebody ends stale
            found.append((stream[at][0] - moment) * 1000 if at < len(stream) else float("inf"))
    return sorted(found)
