"""The legs of a round: each contender moves the same likes, and its time is kept. Compares nobody."""

from __future__ import annotations

import random
import time
from collections.abc import Callable, Iterable
from functools import partial
from itertools import cycle
from multiprocessing.pool import Pool

from django.db.models import Sum

from bench.flushes import contenders
from bench.flushes.contenders import Counts
from bench.flushes.flushers import share
from bench.flushes.pending import pend, rest, wipe
from likes.buffer import flusher
from likes.models import Post

SAMPLE = 25_000  # posts that a contender moves at most, as shipped excepted: its cost per post needs no more
BULK_SAMPLE = 5_000  # of `bulk_update`, which takes a second for them

Cost = float  # microseconds a post
Leg = Callable[[], Cost]


def legs(counts: Counts, pool: Pool) -> dict[str, Leg]:
    """Return who moves these likes, by name."""
    batches = contenders.batches(counts)
    some, few = sample(batches, SAMPLE), sample(batches, BULK_SAMPLE)
    return {
        "raw": lambda: timed(some, partial(each, contenders.raw)),
        "raw tuned": lambda: timed(some, partial(each, contenders.raw_tuned)),
        "raw twice": lambda: timed(some, partial(share, pool, contenders.raw)),
        "raw from Redis": lambda: from_redis(some),
        "bulk_update": lambda: timed(few, partial(each, contenders.bulk_update)),
        "apply": lambda: one_by_one(counts, contenders.apply),
        "one flusher": lambda: one_by_one(counts, contenders.flush_batch),
        "as shipped": lambda: as_shipped(counts, pool),
    }


def sample(batches: list[Counts], posts: int) -> list[Counts]:
    """Return batches, drawn from all shards, of about that many posts together; one batch at least, if need be cut."""
    drawn: list[Counts] = []
    for batch in random.sample(batches, len(batches)):
        if posts <= 0:
            break
        drawn.append(dict(list(batch.items())[:posts]))
        posts -= len(batch)
    return drawn


def each(work: Callable[[Counts], object], batches: Iterable[Counts]) -> None:
    for batch in batches:
        work(batch)


def timed(batches: list[Counts], work: Callable[[list[Counts]], object]) -> Cost:
    rest()
    started = time.perf_counter()
    work(batches)
    return (time.perf_counter() - started) / sum(map(len, batches)) * 1e6


def from_redis(batches: list[Counts]) -> Cost:
    pend({post: likes for batch in batches for post, likes in batch.items()})
    return timed(batches, partial(each, contenders.raw_from_redis))


def one_by_one(counts: Counts, work: Callable[[int], contenders.Moved]) -> Cost:
    """Move batches of the shards in turn, until all or SAMPLE posts are moved; the rest is dropped."""
    pend(counts)
    rest()
    moved, seconds = 0, 0.0
    for shard in cycle(sorted(flusher.by_shard(counts))):
        if moved >= min(SAMPLE, len(counts)):
            break
        batch = work(shard)
        moved, seconds = moved + batch.posts, seconds + batch.seconds
    wipe()
    return seconds / moved * 1e6


def as_shipped(counts: Counts, pool: Pool) -> Cost:
    """Flush all of it, as ticks and workers do, and see that it arrived."""
    pend(counts)
    rest()
    before = persisted()
    started = time.perf_counter()
    while shards := flusher.work():
        share(pool, contenders.flush, shards)
    seconds = time.perf_counter() - started
    assert persisted() - before == sum(counts.values()), "likes were lost or doubled"
    return seconds / len(counts) * 1e6


def persisted() -> int:
    return int(Post.objects.aggregate(likes=Sum("likes"))["likes"])
