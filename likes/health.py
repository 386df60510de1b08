"""Whether this process is alive, and whether what it needs works, part by part; knows no keys and no SQL."""

from __future__ import annotations

import logging
from collections.abc import Callable
from http import HTTPStatus
from typing import Any

from django.conf import settings
from django.core.exceptions import ImproperlyConfigured
from rest_framework.request import Request
from rest_framework.response import Response

from likes import books, openapi, problems
from likes.api import Api
from likes.buffer import buffer
from likes.probes import Found, Probe, ask_all

log = logging.getLogger(__name__)

RETRY_AFTER = 2  # seconds; about what a restarted server needs


class Health(Api):
    """Alive: answered without asking any server."""

    @openapi.health
    def get(self, request: Request) -> Response:
        """Say so."""
        return Response({"status": "alive"})


class Ready(Api):
    """Ready: each part by name."""

    @openapi.ready
    def get(self, request: Request) -> Response:
        """Look at every part; answer 200 when all are well and 503 when one is not."""
        found = ask_all(PROBES)
        note(found)
        parts = judge(found)
        unwell = [name for name, part in parts.items() if not part["ok"]]
        if not unwell:
            return Response({"status": "ready", "parts": parts})
        body = problems.document(HTTPStatus.SERVICE_UNAVAILABLE, f"Not well: {', '.join(unwell)}.", parts=parts)
        headers = {"Retry-After": str(RETRY_AFTER)}
        return Response(body, HTTPStatus.SERVICE_UNAVAILABLE, headers=headers, content_type=problems.MEDIA_TYPE)


def look_at_redis() -> dict[str, Any]:
    """Return what Redis says of itself and of each shard. Raises Unavailable."""
    return {"shards": buffer.status(), "policy": buffer.evicts(), "durable": is_durable()}


def is_durable() -> bool:
    """Tell whether a drain can be made durable before PostgreSQL commits: without that, no batch is ever applied."""
    return settings.LIKES_BARRIER == "off" or buffer.syncs_always() or buffer.waits_for_disk()


def look_at_database() -> dict[str, Any]:
    """Return the running sums of the books. Raises django.db.Error, ImproperlyConfigured for another deployment."""
    books.check_deployment()
    return books.status()


AWAY: set[str] = set()  # servers of which the log knows that they did not answer when this process looked last
PROBES = {"redis": Probe(look_at_redis), "database": Probe(look_at_database)}


def note(found: dict[str, Found]) -> None:
    """Log when a server goes and when it is back, and not each time that somebody asks: anybody may."""
    for name, what in found.items():
        if isinstance(what, Exception) and name not in AWAY:
            AWAY.add(name)
            log.warning("not ready: %s: %r", name, what)
        elif not isinstance(what, Exception) and name in AWAY:
            AWAY.discard(name)
            log.warning("ready again: %s", name)


def judge(found: dict[str, Found]) -> dict[str, dict[str, Any]]:
    """Return for each part whether it is `ok`, what is wrong with it, and its figures."""
    return {
        "redis": judged(judge_redis, found, "redis"),
        "database": judged(judge_database, found, "database"),
        "flush": judged(judge_flush, found, "redis"),
        "books": judged(judge_books, found, "redis", "database"),
    }


def judged(judge: Callable[..., dict[str, Any]], found: dict[str, Found], *servers: str) -> dict[str, Any]:
    """Judge a part by what the looks at its servers found, or say which of them did not answer."""
    away = [f"{name}: {why_away(found[name])}" for name in servers if isinstance(found[name], Exception)]
    return part(away) if away else judge(*(found[name] for name in servers))


def why_away(found: Found) -> str:
    """Return what a stranger may know of a look that failed; addresses stay in the log."""
    return str(found) if isinstance(found, TimeoutError | ImproperlyConfigured) else "cannot be asked"


def part(wrong: list[str], **figures: Any) -> dict[str, Any]:
    """Return one part of the answer."""
    return {"ok": not wrong, **({"problems": wrong} if wrong else {}), **figures}


def judge_redis(redis: dict[str, Any]) -> dict[str, Any]:
    """Judge how Redis is set up: whether it drops counters, and whether it can promise to keep a drain."""
    wrong = []
    if redis["policy"] != "noeviction":
        wrong.append(f"maxmemory-policy is {redis['policy']}, and an evicted counter is lost: set noeviction")
    if not redis["durable"]:
        need = "appendonly yes and appendfsync always, or LIKES_BARRIER=off"
        wrong.append(f"no drain can be made durable, so nothing is flushed: set {need}")
    return part(wrong, maxmemory_policy=redis["policy"], barrier=settings.LIKES_BARRIER)


def judge_database(database: dict[str, Any]) -> dict[str, Any]:
    """Judge PostgreSQL: it answered, and it is this deployment's."""
    return part([], batches=database["batches"])


def judge_flush(redis: dict[str, Any]) -> dict[str, Any]:
    """Judge by the age of the oldest like that PostgreSQL does not hold, and not by which processes run."""
    shards = redis["shards"]
    age = oldest(shards)
    wrong = []
    if age > settings.LIKES_STALE_SECONDS:
        wrong.append(f"the oldest like not persisted is {age:.0f} s old: no worker, or none that can")
    return part(wrong, oldest_seconds=round(age, 3), failures=sum(shard["failures"] for shard in shards))


def oldest(shards: list[dict[str, Any]]) -> float:
    """Return the age of the oldest like not persisted, in seconds by Redis' clock; 0 without one."""
    return max((shard["now"] - shard["since"]).total_seconds() if shard["since"] else 0.0 for shard in shards)


def judge_books(redis: dict[str, Any], database: dict[str, Any]) -> dict[str, Any]:
    """Judge whether the books take what comes: a batch older than the fold mark can never be applied."""
    folded, shards = database["folded_until"], redis["shards"]
    wrong = [
        f"shard {shard}: its batch was drained before the ledger was folded, and nobody can tell if it was applied"
        for shard, state in enumerate(shards)
        if state["drained_at"] and shard in folded and state["drained_at"] <= folded[shard]
    ]
    return part(wrong, unsettled=database["unsettled"], closed_epochs=closed_epochs(shards, database["epochs"]))


def closed_epochs(shards: list[dict[str, Any]], epochs: list[Any]) -> list[dict[str, Any]]:
    """Return the lives of shards that ended with a wiped Redis and that no operator took note of, with their loss.

    Redis says which life a shard is in: by its clock, which may go back, the living one need not be the latest.
    """
    living = {(shard, state["epoch"]) for shard, state in enumerate(shards)}
    closed = [each for each in epochs if (each.shard, str(each.epoch)) not in living and each.noted_at is None]
    return [{"shard": each.shard, "epoch": each.epoch, "lost_at_least": each.shortfall} for each in closed]
