"""What Prometheus scrapes: sums of the service, and of this machine's web processes; knows no keys and no SQL."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from django.http import HttpResponse
from prometheus_client import CONTENT_TYPE_LATEST, REGISTRY, CollectorRegistry, generate_latest
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric, SummaryMetricFamily
from prometheus_client.multiprocess import MultiProcessCollector, mark_process_dead
from prometheus_client.registry import Collector
from rest_framework.request import Request

from likes import instruments, openapi
from likes.api import Api
from likes.health import PROBES, oldest
from likes.probes import Found, ask_all

MEASURED = (instruments.OPEN_STREAMS, instruments.UNKNOWN_OUTCOMES)  # in the registry once they are imported


class Metrics(Api):
    """Everything measured; a server that is away takes only its own figures along."""

    @openapi.metrics
    def get(self, request: Request) -> HttpResponse:
        """Answer in Prometheus' text format."""
        registry = CollectorRegistry()
        registry.register(Service(ask_all(PROBES)))
        return HttpResponse(generate_latest(registry) + of_processes(), content_type=CONTENT_TYPE_LATEST)


class Service(Collector):
    """Figures of the whole service, the same whichever process is asked."""

    def __init__(self, found: dict[str, Found]) -> None:
        self.found = found

    def collect(self) -> Iterator[Metric]:
        """Yield what the servers told."""
        up = GaugeMetricFamily("likesite_up", "Whether a server answers.", labels=["part"])
        for name, found in self.found.items():
            up.add_metric([name], 0 if isinstance(found, Exception) else 1)
        yield up
        redis, database = self.found["redis"], self.found["database"]
        if not isinstance(redis, Exception):
            yield from of_redis(redis["shards"])
        if not isinstance(database, Exception):
            yield from of_database(database)
        if not isinstance(redis, Exception) and not isinstance(database, Exception):
            yield GaugeMetricFamily(
                "likesite_likes_pending", "Likes not persisted yet.", pending(redis["shards"], database["epochs"])
            )


def of_redis(shards: list[dict[str, Any]]) -> Iterator[Metric]:
    """Yield what was accepted, and how long the oldest of it waits; accepted begins anew when Redis is wiped."""
    accepted = sum(shard["accepted"] for shard in shards)
    yield CounterMetricFamily("likesite_likes_accepted", "Likes accepted.", accepted)
    yield GaugeMetricFamily(
        "likesite_oldest_pending_like_age_seconds", "Age of the oldest like not persisted.", oldest(shards)
    )


def of_database(sums: dict[str, Any]) -> Iterator[Metric]:
    """Yield what was persisted, and what the flushes took for it."""
    yield CounterMetricFamily("likesite_likes_persisted", "Likes persisted.", sums["likes"])
    yield SummaryMetricFamily("likesite_flush_seconds", "Time in PostgreSQL.", sums["batches"], sums["seconds"])
    yield SummaryMetricFamily("likesite_flush_posts", "Posts moved.", sums["batches"], sums["posts"])


def pending(shards: list[dict[str, Any]], epochs: list[Any]) -> int:
    """Return the likes accepted and not persisted; the two were read one after the other, hence never below zero."""
    persisted = {str(epoch.epoch): epoch.likes for epoch in epochs}
    return sum(max(0, shard["accepted"] - persisted.get(shard["epoch"], 0)) for shard in shards)


def of_processes() -> bytes:
    """Return what the web processes of this machine measured of themselves, each for itself."""
    folder = os.environ.get("PROMETHEUS_MULTIPROC_DIR")
    if folder is None:
        return generate_latest(REGISTRY)
    forget_the_dead(Path(folder))
    registry = CollectorRegistry()
    MultiProcessCollector(registry)
    return generate_latest(registry)


def forget_the_dead(folder: Path) -> None:
    """Drop the live gauges of processes that were killed: nobody else tells prometheus_client that they are gone."""
    for process in {int(file.stem.rpartition("_")[2]) for file in folder.glob("gauge_live*_*.db")}:
        if not is_alive(process):
            mark_process_dead(process, str(folder))


def is_alive(process: int) -> bool:
    """Tell whether a process of this id runs."""
    try:
        os.kill(process, 0)
    except ProcessLookupError:
        return False
    except PermissionError:  # somebody else's, so it lives
        return True
    return True
