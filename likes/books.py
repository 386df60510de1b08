"""The door to counting SQL beside the path of a like: adjustments, epochs, retention, the sums of the audit.

Knows nothing of Redis' keys. Adding likes is in `likes.ledger`.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import datetime, timedelta
from functools import cache
from typing import Any

from django.conf import settings
from django.core.exceptions import ImproperlyConfigured
from django.db import connection, transaction
from django.db.models import QuerySet, Sum
from django.db.models.functions import Coalesce, Now

from likes.models import Adjustment, Batch, Deployment, OrphanedLikes, Post, QuarantinedLikes, ShardEpoch, ShardState

RETENTION = timedelta(days=7)  # how long a batch keeps a ledger row of its own; no batch comes back after that
CLOCK_STEP = timedelta(microseconds=1)  # of Redis and of PostgreSQL alike
ADJUST_POSTS = 1_000  # rows that one transaction of a reset holds, and adjustments settled at a time
AUDIT_TIMEOUT = 600_000  # milliseconds; a sum over every post


@cache
def check_deployment() -> None:
    """Keep how this deployment shards, at the first call ever; refuse to go on with other values.

    Asks once a process. Raises ImproperlyConfigured, by name; django.db.Error when PostgreSQL is away.
    """
    wanted = {"shards": settings.LIKES_SHARDS, "prefix": settings.LIKES_PREFIX}
    Deployment.objects.bulk_create([Deployment(id=1, **wanted)], ignore_conflicts=True)
    known = Deployment.objects.get(id=1)
    for name, value in wanted.items():
        kept = getattr(known, name)
        if kept != value:
            raise ImproperlyConfigured(
                f"LIKES_{name.upper()} is {value!r}, but this deployment counts with {kept!r}: likes would be missed"
            )


# --- Adjustments: changes of a total that are not likes.


def reset(posts: QuerySet[Post], by: str) -> Iterator[list[int]]:
    """Set totals to zero, on record, and yield the ids changed, a transaction's worth at a time.

    The caller settles each. Raises django.db.Error; what was yielded stays done.
    """
    last = 0
    while chunk := _reset_some(posts, last, by):
        last = chunk[-1]
        yield chunk


@transaction.atomic
def _reset_some(posts: QuerySet[Post], after: int, by: str) -> list[int]:
    """Reset the next posts by primary key, under their rows' locks: a flush comes before or after, never between."""
    rows = posts.select_for_update(no_key=True).filter(pk__gt=after).exclude(likes=0).order_by("pk")
    totals = dict(rows.values_list("pk", "likes")[:ADJUST_POSTS])
    Adjustment.objects.bulk_create(
        Adjustment(post_id=post, kind=Adjustment.Kind.RESET, likes=-likes, by=by) for post, likes in totals.items()
    )
    Post.objects.filter(pk__in=list(totals)).update(likes=0)
    return list(totals)


def unsettled(posts: Iterable[int] | None = None) -> dict[int, int]:
    """Return adjustments that Redis has not been told of, oldest first, as id → post; of `posts` only, if given."""
    rows = Adjustment.objects.filter(settled_at=None).order_by("pk")
    if posts is not None:
        rows = rows.filter(post_id__in=list(posts))
    return dict(rows.values_list("pk", "post_id")[:ADJUST_POSTS])


def settled(adjustments: Iterable[int]) -> None:
    """Mark adjustments as settled: called only after Redis' part of it is durable."""
    Adjustment.objects.filter(pk__in=list(adjustments)).update(settled_at=Now())


# --- Retention.


@transaction.atomic
def fold(shard: int, until: datetime) -> int:
    """Fold a shard's ledger rows drained at or before `until` into one for each epoch and kind; return how many went.

    The mark is kept in the same transaction: from then on `ledger.apply` refuses a batch of that age. It never goes
    back, whatever a clock does: a batch whose row is folded away would be applied again.
    """
    with connection.cursor() as cursor:
        cursor.execute(
            "INSERT INTO likes_shardstate AS known (shard, folded_until) VALUES (%s, %s)"
            " ON CONFLICT (shard) DO UPDATE SET folded_until = greatest(known.folded_until, excluded.folded_until)",
            [shard, until],
        )
        if not Batch.objects.filter(shard=shard, drained_at__lte=until, folded=0).exists():
            return 0
        # One statement: what is summed is what is deleted, even when a late flusher adds a row meanwhile.
        cursor.execute(
            "WITH old AS (DELETE FROM likes_batch WHERE shard = %s AND drained_at <= %s RETURNING *), fold AS ("
            " INSERT INTO likes_batch (id, shard, epoch, kind, likes, posts, drained_at, folded)"
            " SELECT gen_random_uuid(), shard, epoch, kind, sum(likes), sum(posts), max(drained_at),"
            " sum(greatest(folded, 1)) FROM old GROUP BY shard, epoch, kind RETURNING id)"
            " SELECT (SELECT count(*) FROM old) - (SELECT count(*) FROM fold)",
            [shard, until],
        )
        [gone] = cursor.fetchone()
    return int(gone)


# --- The sums of the audit.


@contextmanager
def one_moment() -> Iterator[None]:
    """Let every statement inside see the database as of one moment."""
    with transaction.atomic():
        with connection.cursor() as cursor:
            cursor.execute("SET TRANSACTION ISOLATION LEVEL REPEATABLE READ, READ ONLY")
            cursor.execute("SELECT set_config('statement_timeout', %s, true)", [str(AUDIT_TIMEOUT)])
        yield


def drained(shard: int, batch: str) -> tuple[dict[str, int], bool]:
    """Return the likes that the ledger holds of a shard, by epoch, and whether `batch` is among them."""
    with one_moment():
        rows = Batch.objects.filter(shard=shard).values_list("epoch").annotate(Sum("likes"))
        return {str(epoch): likes for epoch, likes in rows}, bool(batch) and Batch.objects.filter(id=batch).exists()


@dataclass(frozen=True, slots=True)
class Sums:
    """Likes, as PostgreSQL holds them: where they came from, and where they are."""

    ledger: int
    adjusted: int
    starting: int
    totals: int
    orphaned: int
    quarantined: int

    @property
    def drift(self) -> int:
        """Likes that are somewhere without having come, or came and are nowhere: zero, or the books are wrong."""
        return self.totals + self.orphaned + self.quarantined - self.ledger - self.adjusted - self.starting


def sums() -> Sums:
    """Return the sums of all likes, as of one moment. A deleted post's total is its adjustment, with minus."""
    with one_moment():
        archived = Adjustment.objects.aggregate(likes=_sum("likes"), starting=_sum("starting_likes"))
        posts = Post.objects.aggregate(likes=_sum("likes"), starting=_sum("starting_likes"))
        return Sums(
            ledger=Batch.objects.aggregate(likes=_sum("likes"))["likes"],
            adjusted=archived["likes"],
            starting=archived["starting"] + posts["starting"],
            totals=posts["likes"],
            orphaned=OrphanedLikes.objects.aggregate(likes=_sum("likes"))["likes"],
            quarantined=QuarantinedLikes.objects.aggregate(likes=_sum("likes"))["likes"],
        )


def _sum(name: str) -> Coalesce:
    # A sum of bigints is numeric in PostgreSQL, so it cannot overflow; the cast back says so if it is that large.
    return Coalesce(Sum(name), 0)


def epochs() -> list[ShardEpoch]:
    """Return every epoch of every shard, in the order of their last drains."""
    return list(ShardEpoch.objects.order_by("shard", "last_at"))


def note_losses(shard: int, living: str) -> int:
    """Take note of what closed epochs of a shard lost, so that the audit reports it no longer as drift."""
    closed = ShardEpoch.objects.filter(shard=shard, noted_at=None)
    if living:  # a Redis that took no like since it was wiped has no epoch yet
        closed = closed.exclude(epoch=living)
    return closed.update(noted_at=Now())


# --- For /ready and /metrics.


def status() -> dict[str, Any]:
    """Return running sums of flushes (`likes`, `posts`, `batches`, `seconds`), `unsettled` adjustments,
    `folded_until` by shard, and every epoch. Raises django.db.Error.
    """
    told = ShardEpoch.objects.aggregate(
        likes=_sum("likes"),
        posts=_sum("posts"),
        batches=_sum("batches"),
        milliseconds=Coalesce(Sum("milliseconds"), 0.0),
    )
    return {
        "likes": told["likes"],
        "posts": told["posts"],
        "batches": told["batches"],
        "seconds": told["milliseconds"] / 1000,
        "unsettled": Adjustment.objects.filter(settled_at=None).count(),
        "folded_until": dict(ShardState.objects.values_list("shard", "folded_until")),
        "epochs": epochs(),
    }
