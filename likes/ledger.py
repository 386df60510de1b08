"""The door to counting SQL on the path of a like: persisted totals, and the one transaction that applies a batch.

Knows nothing of Redis' keys; what else is kept about the totals is in `likes.books`.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass

from django.conf import settings
from django.db import DataError, IntegrityError, OperationalError, connection, transaction
from django.db.models import BigIntegerField, BooleanField, F, JSONField, TextField, Value
from django.db.models.expressions import CombinedExpression, RawSQL
from django.db.models.functions import Cast

from likes.models import OrphanedLikes, Post, QuarantinedLikes, ShardState
from likes.values import Batch

log = logging.getLogger(__name__)

LOCK_TIMEOUT = 5_000  # milliseconds a flush waits, at most, for a row that somebody else holds
LEAST_LOCK_TIMEOUT = 50  # milliseconds; 0 would be no limit to PostgreSQL
STATEMENT_TIMEOUT = 15_000  # milliseconds

Totals = dict[int, int]
Locked = dict[int, tuple[int, str]]  # post → its persisted total and the place of its row, which is locked


class AlreadyFolded(Exception):
    """A batch came back after its ledger row was folded away: nobody can tell any more whether it was applied."""


@dataclass(frozen=True, slots=True)
class Applied:
    """The persisted totals after a batch, without posts that are gone; `repeated`: it had been applied before."""

    totals: Totals
    repeated: bool
    milliseconds: float


def totals(posts: Sequence[int], batches: Sequence[str]) -> tuple[Totals, set[str]]:
    """Return the persisted totals of posts, and which of the batches are in the ledger, as of one moment.

    One statement, so that no commit falls between the two answers. Raises django.db.Error.
    """
    with connection.cursor() as cursor:
        cursor.execute(
            "SELECT id::text, likes FROM likes_post WHERE id = ANY(%s::bigint[])"
            " UNION ALL SELECT id::text, NULL FROM likes_batch WHERE id = ANY(%s::uuid[])",
            [list(posts), list(batches)],
        )
        rows = cursor.fetchall()
    found = {int(name): likes for name, likes in rows if likes is not None}
    return found, {name for name, likes in rows if likes is None}


def apply(batch: Batch) -> Applied:
    """Add a batch to the totals, once however often it is called, in one transaction.

    Raises AlreadyFolded, django.db.DataError or IntegrityError (the batch itself is at fault), OperationalError
    (try later). Nothing is changed then.
    """
    return _apply(batch, _add)


def apply_row_by_row(batch: Batch) -> Applied:
    """As `apply`, each post under a savepoint of its own: rows that PostgreSQL refuses go to QuarantinedLikes."""
    return _apply(batch, _add_row_by_row)


def _apply(batch: Batch, add: Callable[[Batch, Locked], Totals]) -> Applied:
    started = time.perf_counter()
    with transaction.atomic():
        _limit_waiting()
        if not _enter(batch):
            return Applied(totals(list(batch.likes), [])[0], repeated=True, milliseconds=_since(started))
        _refuse_folded(batch)  # after the row is in: a fold that removed an earlier one has committed its mark by now
        persisted = add(batch, _lock(batch.likes))
        _keep_orphans(batch, persisted)
        milliseconds = _since(started)
        _note_epoch(batch, milliseconds)
    return Applied(persisted, repeated=False, milliseconds=milliseconds)


def _limit_waiting() -> None:
    # Half the age at which its batch is adopted: one that waits for a row is then given up before another flusher takes
    # it over and waits as well, and a shard that is blocked never has more than one worker.
    lock = max(LEAST_LOCK_TIMEOUT, min(LOCK_TIMEOUT, int(settings.LIKES_ADOPT_SECONDS * 500)))
    with connection.cursor() as cursor:
        cursor.execute(
            "SELECT set_config('lock_timeout', %s, true), set_config('statement_timeout', %s, true)",
            [str(lock), str(STATEMENT_TIMEOUT)],
        )


def _refuse_folded(batch: Batch) -> None:
    if ShardState.objects.filter(shard=batch.shard, folded_until__gte=batch.drained_at).exists():
        raise AlreadyFolded(f"batch {batch.id} of shard {batch.shard} was drained before the ledger's fold mark")


def _enter(batch: Batch) -> bool:
    """Write the batch into the ledger; False when it is there. The primary key settles which of two flushers adds."""
    with connection.cursor() as cursor:
        cursor.execute(
            "INSERT INTO likes_batch (id, shard, epoch, kind, likes, posts, drained_at, folded)"
            " VALUES (%s, %s, %s, %s, %s, %s, %s, 0) ON CONFLICT DO NOTHING",
            [batch.id, batch.shard, batch.epoch, batch.kind, batch.total, len(batch.likes), batch.drained_at],
        )
        inserted: int = cursor.rowcount
    return inserted == 1


def _lock(posts: Iterable[int]) -> Locked:
    """Lock rows in primary-key order, so that no two transactions wait for each other, and read them.

    The ids go as one text: 5,000 parameters cost as much to adapt as PostgreSQL takes for the rows.
    """
    wanted = RawSQL("SELECT unnest(%s::bigint[])", [f"{{{','.join(map(str, posts))}}}"])
    rows = Post.objects.filter(pk__in=wanted).select_for_update(no_key=True).order_by("pk")
    place = RawSQL("likes_post.ctid::text", [])
    return {post: (likes, at) for post, likes, at in rows.annotate(place=place).values_list("pk", "likes", "place")}


def _add(batch: Batch, locked: Locked) -> Totals:
    """Add every count in one UPDATE. The rows are locked, so what they hold now is what was read plus the count.

    Nor do locked rows move: they are found by their place, which saves looking up each key a second time.
    """
    places = "{" + ",".join(f'"{place}"' for _, place in locked.values()) + "}"
    rows = Post.objects.filter(RawSQL("likes_post.ctid = ANY(%s::tid[])", [places], output_field=BooleanField()))
    counts = Value({str(post): batch.likes[post] for post in locked}, output_field=JSONField())
    count = CombinedExpression(counts, "->>", Cast("pk", TextField()), output_field=TextField())
    if rows.update(likes=F("likes") + Cast(count, BigIntegerField())) != len(locked):
        raise OperationalError("locked rows have moved")
    return {post: likes + batch.likes[post] for post, (likes, _) in locked.items()}


def _add_row_by_row(batch: Batch, locked: Locked) -> Totals:
    persisted = {post: likes for post, (likes, _) in locked.items()}
    for post in locked:
        try:
            with transaction.atomic():
                Post.objects.filter(pk=post).update(likes=F("likes") + batch.likes[post])
            persisted[post] += batch.likes[post]
        except (DataError, IntegrityError) as error:
            log.error("quarantined batch=%s post=%d likes=%d error=%s", batch.id, post, batch.likes[post], error)
            QuarantinedLikes.objects.create(batch=batch.id, post_id=post, likes=batch.likes[post], error=str(error))
    return persisted


def _keep_orphans(batch: Batch, persisted: Mapping[int, int]) -> None:
    OrphanedLikes.objects.bulk_create(
        OrphanedLikes(batch=batch.id, post_id=post, likes=likes)
        for post, likes in batch.likes.items()
        if post not in persisted
    )


def _note_epoch(batch: Batch, milliseconds: float) -> None:
    """Keep how much Redis had accepted in this life of the shard, so that a wiped Redis shows as a new epoch."""
    with connection.cursor() as cursor:
        cursor.execute(
            "INSERT INTO likes_shardepoch AS known"
            " (shard, epoch, accepted, likes, posts, batches, milliseconds, last_at)"
            " VALUES (%s, %s, %s, %s, %s, 1, %s, %s) ON CONFLICT (shard, epoch) DO UPDATE SET"
            " accepted = greatest(known.accepted, excluded.accepted), likes = known.likes + excluded.likes,"
            " posts = known.posts + excluded.posts, batches = known.batches + 1,"
            " milliseconds = known.milliseconds + excluded.milliseconds,"
            " last_at = greatest(known.last_at, excluded.last_at) RETURNING batches",
            [batch.shard, batch.epoch, batch.accepted, batch.total, len(batch.likes), milliseconds, batch.drained_at],
        )
        [batches] = cursor.fetchone()
    if batches == 1:
        log.warning("new epoch shard=%d epoch=%s: the shard's first flush on this Redis", batch.shard, batch.epoch)


def _since(started: float) -> float:
    return (time.perf_counter() - started) * 1000
