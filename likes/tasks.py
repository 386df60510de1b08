"""The flush: drain → apply → ack → announce, and when it happens. Knows neither keys nor SQL."""

from __future__ import annotations

import logging
import sys
import time
from typing import Any

from celery import shared_task
from celery.signals import beat_init, worker_init
from django.core.exceptions import ImproperlyConfigured
from django.db import DatabaseError, DataError, IntegrityError, InterfaceError, OperationalError
from django.utils import timezone

from likes import books, counts, events, ledger
from likes.buffer import Acked, Batch, Unavailable, flusher
from likes.ledger import AlreadyFolded, Applied

log = logging.getLogger(__name__)

FLUSH_SECONDS = 30.0  # how long one task goes on with a shard before others of the queue get their turn
TICK_LIMIT = 20  # seconds; a tick asks two servers one question each
DATA_ERRORS = 5  # failures of one batch before it is applied row by row


@worker_init.connect
@beat_init.connect
def refuse_other_shards(**_: Any) -> None:
    """End a worker or a beat that would shard otherwise than its deployment; without PostgreSQL, flushes find out."""
    try:
        books.check_deployment()
    except ImproperlyConfigured as error:
        sys.exit(f"likesite: {error}")
    except (OperationalError, InterfaceError) as error:
        log.warning("deployment unchecked: %s", error)


@shared_task(name="likes.tick", time_limit=TICK_LIMIT)
def tick() -> None:
    """Send one flush for each shard that has likes to move; settle adjustments that a crash left.

    A server that is away is one line in the log, and work for the next tick.
    """
    try:
        for shard in flusher.work():
            flush_shard.apply_async((shard,), expires=FLUSH_SECONDS)
        if settled := counts.settle():
            log.info("settled adjustments=%d", settled)
    except (Unavailable, DatabaseError, InterfaceError) as error:
        log.warning("tick left for later: %s: %s", type(error).__name__, str(error).strip())


@shared_task(name="likes.flush_shard")
def flush_shard(shard: int) -> int:
    """Move a shard's likes to PostgreSQL until none are left, at most FLUSH_SECONDS; return how many were moved.

    Errors that pass by themselves are logged; the batch stays for a later tick.
    """
    deadline = time.monotonic() + FLUSH_SECONDS
    moved = 0
    try:
        books.check_deployment()
        while batch := flush_batch(shard):
            moved += batch.total
            if not batch.left or time.monotonic() > deadline:
                break
    except (Unavailable, DatabaseError, InterfaceError, AlreadyFolded) as error:
        log.warning("flush shard=%d left for later: %s: %s", shard, type(error).__name__, str(error).strip())
    return moved


def flush_batch(shard: int) -> Batch | None:
    """Move one batch; None when there was none to move, or it has to wait. Safe to die between any two lines."""
    started = time.perf_counter()
    batch = flusher.drain(shard)
    if not isinstance(batch, Batch):
        return None
    if not batch.durable:
        log.warning("flush shard=%d batch=%s waits: the drain is not on Redis' disk yet", shard, batch.id)
        return None
    applied = _apply(batch)
    if applied is None:
        return None
    acked = flusher.ack(batch, applied.totals)
    milliseconds = (time.perf_counter() - started) * 1000
    _log(batch, applied, acked, milliseconds)
    _announce(batch, applied, acked, milliseconds)
    return batch


def _apply(batch: Batch) -> Applied | None:
    """Apply a batch; None after a data error, until there were so many that its rows are applied one by one."""
    try:
        return ledger.apply(batch)
    except (DataError, IntegrityError) as error:
        failures = flusher.fail(batch)
        log.error("flush shard=%d batch=%s failed %d times: %s", batch.shard, batch.id, failures, str(error).strip())
    return ledger.apply_row_by_row(batch) if failures >= DATA_ERRORS else None


def _announce(batch: Batch, applied: Applied, acked: Acked, milliseconds: float) -> None:
    """Tell the streams; the likes are counted, so nothing that goes wrong here may fail the flush."""
    if acked.status == "late":
        return  # another flusher told
    if acked.status == "adjusted":
        counts.announce(batch.likes)  # these totals are from before the adjustment: they are read again
        return
    # No growth of its own: who took these likes has told it, and where that was lost the totals say so by themselves.
    live = {post: (total + acked.pending[post], acked.version, 0) for post, total in applied.totals.items()}
    try:
        events.announce(live)
        events.announce_pipeline(
            "acked",
            shard=batch.shard,
            posts=len(batch.likes),
            likes=batch.total,
            milliseconds=round(milliseconds, 1),
            persisted=applied.totals,
        )
    except events.Unheard as error:
        log.warning("announce shard=%d batch=%s failed: %s", batch.shard, batch.id, error)


def _log(batch: Batch, applied: Applied, acked: Acked, milliseconds: float) -> None:
    told = {
        "shard": batch.shard,
        "batch": batch.id,
        "status": acked.status,
        "adopted": batch.adopted,
        "repeated": applied.repeated,
        "posts": len(batch.likes),
        "likes": batch.total,
        "apply_ms": f"{applied.milliseconds:.1f}",
        "total_ms": f"{milliseconds:.1f}",
        "left": batch.left,
    }
    log.info("flush %s", " ".join(f"{name}={value}" for name, value in told.items()))


@shared_task(name="likes.retain")
def retain() -> None:
    """Fold ledger rows older than the retention, never past a batch in flight."""
    for shard, told in enumerate(flusher.status()):
        until = min(told["now"], timezone.now()) - books.RETENTION  # a clock that runs ahead folds nothing young
        if told["drained_at"] is not None:
            until = min(until, told["drained_at"] - books.CLOCK_STEP)
        if folded := books.fold(shard, until):
            log.info("folded shard=%d rows=%d until=%s", shard, folded, until.isoformat())
