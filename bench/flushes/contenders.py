"""Who moves likes to PostgreSQL: our flush, and what somebody would write by hand. Each moves what it is given.

Runs in the benchmark and in its flushers; keeps no clock.
"""

from __future__ import annotations

import time
from collections.abc import Iterable
from typing import NamedTuple

from django.conf import settings
from django.db import connection, transaction

from likes import ledger, tasks
from likes.buffer import Batch, flusher
from likes.models import Post

Counts = dict[int, int]  # likes by post

BULK_UPDATE_POSTS = 250  # a statement; trials of 100 to 1,000 on a busy machine did not tell them apart

# As is usual on an SSD; without it the planner reads all of a table of a million rows for a batch of 5,000.
TUNED = "SET LOCAL random_page_cost = 1.1;"
RAW = """
WITH locked AS (
    SELECT p.id, d.likes FROM unnest(%s::bigint[], %s::bigint[]) AS d(id, likes)
    JOIN likes_post p ON p.id = d.id ORDER BY p.id FOR NO KEY UPDATE OF p
)
UPDATE likes_post AS p SET likes = p.likes + locked.likes FROM locked WHERE p.id = locked.id RETURNING p.id, p.likes
"""


def batches(counts: Counts) -> list[Counts]:
    """Return likes as our flush groups them: by shard, at most LIKES_BATCH_POSTS posts each."""
    size = settings.LIKES_BATCH_POSTS
    return [
        {post: counts[post] for post in posts[start : start + size]}
        for posts in flusher.by_shard(counts).values()
        for start in range(0, len(posts), size)
    ]


def raw(counts: Counts, before: str = "") -> None:
    """Add one batch with the statement that somebody who knows PostgreSQL would write."""
    with transaction.atomic(), connection.cursor() as cursor:
        cursor.execute(before + RAW, [list(counts), list(counts.values())])
        cursor.fetchall()


def raw_tuned(counts: Counts) -> None:
    """As `raw`, by somebody who also knows what the planner should be told."""
    raw(counts, TUNED)


def raw_from_redis(posts: Iterable[int]) -> None:
    """As `raw`, but the counts are in Redis, where they are taken from in one round trip; a crash loses them."""
    pipe = flusher.client.pipeline(transaction=False)
    asked = list(posts)
    for post in asked:
        pipe.getdel(flusher.key(flusher.shard(post), f"pending:{post}"))
    raw({post: int(likes) for post, likes in zip(asked, pipe.execute(), strict=True)})


def bulk_update(counts: Counts) -> None:
    """Add one batch as Django's documentation would have it."""
    with transaction.atomic():
        posts = list(Post.objects.select_for_update(no_key=True).filter(pk__in=list(counts)).order_by("pk"))
        for post in posts:
            post.likes += counts[post.pk]
        Post.objects.bulk_update(posts, ["likes"], batch_size=BULK_UPDATE_POSTS)


def flush(shard: int) -> int:
    """Flush a shard as a worker does."""
    return tasks.flush_shard(shard)


class Moved(NamedTuple):
    """Posts of one batch, and the seconds that moving them took."""

    posts: int
    seconds: float


def flush_batch(shard: int) -> Moved:
    """Flush one batch of a shard."""
    started = time.perf_counter()
    batch = tasks.flush_batch(shard)
    return Moved(len(batch.likes) if batch else 0, time.perf_counter() - started)


def apply(shard: int) -> Moved:
    """Flush one batch of a shard, and count only what its transaction takes."""
    batch = flusher.drain(shard)
    if not isinstance(batch, Batch):
        return Moved(0, 0.0)
    started = time.perf_counter()
    applied = ledger.apply(batch)
    seconds = time.perf_counter() - started
    flusher.ack(batch, applied.totals)
    return Moved(len(batch.likes), seconds)
