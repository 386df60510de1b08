"""One leg of the benchmark: a fresh web process, an audience, a load, and what it cost.

CPU of a delivery = CPU of the process under load, less that of as many idle streams, less that of the same load
without an audience, by the events that were delivered.
"""

from __future__ import annotations

import json
import time
from bisect import bisect_left
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import Any

from bench.streams.audience import Audience
from bench.streams.helper import Helper
from bench.streams.site import OURS, PEER, Site, Web

CHANNEL = "likes"
ANNOUNCING = "bench.streams.announcing"
SENDER = "bench.peers.eventstream_django.sender"
IDLE_SECONDS = 3.0
WARM_SECONDS = 1.0
LEAST_EVENTS = 0.5  # a second to each stream: what the peer is sent where ours sent next to nothing


@dataclass(frozen=True)
class Plan:
    """What all legs of a run share: seconds of load, likes a second, and the post that is hot."""

    seconds: float
    rate: float
    post: int


@dataclass(frozen=True)
class Used:
    """Units of a load (likes, or events sent), its seconds, and the CPU seconds of the web process meanwhile."""

    units: int
    seconds: float
    cpu: float


@dataclass(frozen=True)
class Leg:
    """What one leg found. Latencies are in milliseconds, sorted; infinite where a total was never seen."""

    asked: int
    opened: int
    why: str
    kib: float  # of the process, for each stream
    threads: float  # for each stream
    load: Used
    events: int
    waiting: float  # CPU seconds a second of the process while every stream is idle
    microseconds: float  # of CPU, for each event delivered
    announced: float  # the same, where another process sends the events and ours takes no likes
    readers: float  # CPU seconds a second
    total: int  # after the last like
    stale: int
    late: float  # seconds that the load was behind its schedule, at the worst
    since_written: list[float]
    since_answered: list[float]

    @property
    def events_each(self) -> float:
        """Return the events a second that each stream got."""
        return self.events / self.opened / self.load.seconds if self.opened else 0.0


Load = Callable[[float], tuple[Used, dict[str, Any]]]  # for so many seconds


def ours(site: Site, plan: Plan, streams: int) -> Leg:
    """Return what our streams cost while likes come in over HTTP, and when totals are only announced to them."""
    with opened(site, OURS) as (web, audience), Helper("bench.streams.likes", str(web.port)) as client:

        def like(seconds: float) -> tuple[Used, dict[str, Any]]:
            path, likes = f"/api/v1/posts/{plan.post}/like", int(plan.rate * seconds)
            return spent(web, lambda: client.ask("run", path=path, requests=likes, rate=plan.rate))

        def final(answer: dict[str, Any]) -> int:
            if set(answer["statuses"]) != {"202"} or answer["lost"]:
                raise RuntimeError(f"not all likes were taken: {answer['statuses']}, {answer['lost']} lost")
            return int(json.loads(web.get(f"/api/v1/posts/{plan.post}/likes"))["likes"])

        found = leg(web, audience, like, final, plan.seconds, streams, f"/events?post={plan.post}")
        with Helper(ANNOUNCING, str(found.total), str(plan.post)) as sender:
            audience.mark()
            used, _ = sending(web, sender, plan, found.events_each)(plan.seconds)
            told = audience.told()
        return replace(found, announced=(used.cpu - found.waiting * used.seconds) / told.events * 1e6)


def peer(site: Site, plan: Plan, streams: int, rate: float) -> Leg:
    """Return what django-eventstream's view costs while it is sent `rate` events a second."""
    with opened(site, PEER) as (web, audience), Helper(SENDER, CHANNEL) as sender:
        send = sending(web, sender, plan, rate)
        return leg(web, audience, send, last_total, plan.seconds, streams, f"/events/?channel={CHANNEL}")


def sending(web: Web, sender: Helper, plan: Plan, rate: float) -> Load:
    """Return the load of a sender that tells as many likes in `rate` events a second."""
    paced = max(rate, LEAST_EVENTS)
    each = max(1, round(plan.rate / paced))

    def send(seconds: float) -> tuple[Used, dict[str, Any]]:
        events = max(1, round(paced * seconds))
        return spent(web, lambda: sender.ask("run", events=events, rate=paced, count=each))

    return send


def last_total(answer: dict[str, Any]) -> int:
    """Return the total that was sent last."""
    return int(answer["likes"][-1][2])


@contextmanager
def opened(site: Site, application: str) -> Iterator[tuple[Web, Audience]]:
    """Start a web process and its readers, and end both."""
    web = site.web(application)
    audience = Audience(web.port)
    try:
        yield web, audience
    finally:
        audience.end()
        web.end()


def leg(
    web: Web, audience: Audience, load: Load, final: Callable[[dict[str, Any]], int],
    seconds: float, streams: int, path: str,
) -> Leg:  # fmt: skip
    """Measure idle, load alone, audience alone, and both."""
    audience.visit(path)
    load(WARM_SECONDS)
    idle = resting(web)
    alone, _ = load(seconds)
    before = web.look()
    present = audience.open(streams, path)
    after = web.look()
    waiting = resting(web)
    audience.mark()
    both, answer = load(seconds)
    told = audience.told()
    total = final(answer)
    stale = audience.stale(total)
    unit = (alone.cpu - idle * alone.seconds) / alone.units
    deliveries = both.cpu - waiting * both.seconds - unit * both.units
    seen = audience.seen()
    return Leg(
        asked=streams,
        opened=present,
        why=audience.why,
        kib=(after.memory - before.memory) / 1024 / present,
        threads=(after.threads - before.threads) / present,
        load=both,
        events=told.events,
        waiting=waiting,
        microseconds=deliveries / told.events * 1e6,
        announced=deliveries / told.events * 1e6,
        readers=told.cpu / both.seconds,
        total=total,
        stale=stale + told.ended,
        late=answer["late"],
        since_written=latencies([(written, total) for written, _, total in answer["likes"]], seen),
        since_answered=latencies([(answered, total) for _, answered, total in answer["likes"]], seen),
    )


def spent(web: Web, run: Callable[[], dict[str, Any]]) -> tuple[Used, dict[str, Any]]:
    """Run a load and return what it used, and what it said."""
    started, before = web.cpu()
    answer = run()
    ended, after = web.cpu()
    return Used(len(answer["likes"]), ended - started, after - before), answer


def resting(web: Web) -> float:
    """Return the CPU seconds a second of a process that is left alone."""
    started, before = web.cpu()
    time.sleep(IDLE_SECONDS)
    ended, after = web.cpu()
    return (after - before) / (ended - started)


def latencies(likes: list[tuple[float, int]], seen: list[list[tuple[float, int]]]) -> list[float]:
    """Return, for each like and each stream, the milliseconds until an event told its total or a higher one."""
    found = []
    for stream in seen:
        totals = [total for _, total in stream]
        for moment, total in likes:
            at = bisect_left(totals, total)  # totals only grow, or somebody ends stale
            found.append((stream[at][0] - moment) * 1000 if at < len(stream) else float("inf"))
    return sorted(found)
