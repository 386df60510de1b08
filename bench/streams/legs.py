"""One leg of the benchmark: a fresh web process, an audience, a load, and what it cost.

CPU of a delivery = CPU of the process under load, less that of as many idle streams, less that of the same load
without an audience, by the events that were delivered.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import Any

from bench.streams.audience import Audience
from bench.streams.helper import Helper
from bench.streams.measuring import Attended, Load, Used, attended, resting, spent
from bench.streams.site import OURS, PEER, Site, Web

CHANNEL = "likes"
ANNOUNCING = "bench.streams.announcing"
SENDER = "bench.peers.eventstream_django.sender"
WARM_SECONDS = 1.0
LEAST_EVENTS = 0.5  # a second to each stream: what the peer is sent where ours sent next to nothing


@dataclass(frozen=True)
class Plan:
    """What all legs of a run share: seconds of load, likes a second, and the post that is hot."""

    seconds: float
    rate: float
    post: int


@dataclass(frozen=True)
class Leg:
    """What one leg found."""

    opened: int
    why: str  # not all of them opened
    kib: float  # of the process, for each stream
    threads: float  # for each stream
    waiting: float  # CPU seconds a second of the process while every stream is idle
    live: Attended
    microseconds: float  # of CPU, for each event delivered
    announced: float  # the same, where another process sends the events and ours takes no likes

    @property
    def events_each(self) -> float:
        """Return the events a second that each stream got."""
        return self.live.events / self.opened / self.live.load.seconds


def ours(site: Site, plan: Plan, streams: int) -> Leg:
    """Return what our streams cost while likes come in over HTTP, and when totals are only announced to them."""
    path = f"/api/v1/posts/{plan.post}/like"
    with opened(site, OURS) as (web, audience), Helper("bench.streams.likes", str(web.port)) as client:

        def like(seconds: float) -> tuple[Used, dict[str, Any]]:
            likes = round(plan.rate * seconds)
            return spent(web, lambda: client.ask("run", path=path, requests=likes, rate=plan.rate))

        found = leg(web, audience, like, plan.seconds, streams, f"/events?post={plan.post}")
        counted = json.loads(web.get(f"{path}s"))["likes"]
        if counted != found.live.total and not found.live.failed:
            raise RuntimeError(f"the last like was answered {found.live.total}, but there are {counted}")
        with Helper(ANNOUNCING, str(counted), str(plan.post)) as sender:
            told = attended(web, audience, sending(web, sender, plan, found.events_each), plan.seconds)
        return replace(found, announced=told.each(told.whole.cpu - found.waiting * told.whole.seconds))


def peer(site: Site, plan: Plan, streams: int, rate: float) -> Leg:
    """Return what django-eventstream's view costs while it is sent `rate` events a second."""
    with opened(site, PEER) as (web, audience), Helper(SENDER, CHANNEL) as sender:
        send = sending(web, sender, plan, rate)
        return leg(web, audience, send, plan.seconds, streams, f"/events/?channel={CHANNEL}")


def sending(web: Web, sender: Helper, plan: Plan, rate: float) -> Load:
    """Return the load of a sender that tells as many likes in `rate` events a second."""
    paced = max(rate, LEAST_EVENTS)
    each = max(1, round(plan.rate / paced))

    def send(seconds: float) -> tuple[Used, dict[str, Any]]:
        events = max(1, round(paced * seconds))
        return spent(web, lambda: sender.ask("run", events=events, rate=paced, count=each))

    return send


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


def leg(web: Web, audience: Audience, load: Load, seconds: float, streams: int, path: str) -> Leg:
    """Measure idle, load alone, audience alone, and both."""
    audience.visit(path)
    load(WARM_SECONDS)
    idle = resting(web)
    alone, _ = load(seconds)
    before = web.look()
    present = audience.open(streams, path)
    after = web.look()
    waiting = resting(web)
    live = attended(web, audience, load, seconds)
    unit = (alone.cpu - idle * alone.seconds) / alone.units
    deliveries = live.each(live.whole.cpu - waiting * live.whole.seconds - unit * live.whole.units)
    return Leg(
        opened=present,
        why=audience.why,
        kib=(after.memory - before.memory) / 1024 / present,
        threads=(after.threads - before.threads) / present,
        waiting=waiting,
        live=live,
        microseconds=deliveries,
        announced=deliveries,
    )
