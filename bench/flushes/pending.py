"""Posts, and likes of them that wait in Redis; the memory that takes. Moves no likes."""

from __future__ import annotations

import random
from collections.abc import Callable, Iterable, Mapping
from uuid import uuid4

from django.db import connection

from likes.buffer import Like, flusher
from likes.wire import new_id
from tests.servers import eventually

AT_ONCE = 5_000  # posts a command
KEYED_LIKES = 100_000
REWRITE_SECONDS = 120  # a deadline

Counts = dict[int, int]  # likes by post


def distinct(posts: int) -> list[int]:
    """Return a different count for each post."""
    return random.sample(range(1, posts + 1), posts)


def pareto(posts: int) -> list[int]:
    """Return counts of which most are 1, and few are large."""
    return [int(random.paretovariate(1.16)) for _ in range(posts)]


SPREADS: Mapping[str, Callable[[int], list[int]]] = {"distinct": distinct, "pareto": pareto}


def seed(posts: int) -> None:
    """Fill the table, with the statistics that autovacuum would have gathered in time."""
    with connection.cursor() as cursor:
        cursor.execute(
            "INSERT INTO likes_post (title, likes, starting_likes, created_at, updated_at)"
            " SELECT 'post ' || n, 0, 0, now(), now() FROM generate_series(1, %s) AS n",
            [posts],
        )
        cursor.execute("VACUUM ANALYZE likes_post")


def rest() -> None:
    """Let nobody pay for what the one before left: dead rows, an AOF that is rewritten in the background."""
    with connection.cursor() as cursor:
        cursor.execute("VACUUM likes_post")
    eventually(lambda: not flusher.client.info("persistence")["aof_rewrite_in_progress"], "rewritten", REWRITE_SECONDS)


def wipe() -> None:
    """Empty Redis, its memory freed when this returns; its scripts stay."""
    flusher.client.execute_command("FLUSHALL", "SYNC")


def pend(counts: Counts) -> None:
    """Leave Redis as that many likes would have, and nothing else in it."""
    wipe()
    warm(counts)
    for shard, posts in chunks(counts):
        pipe = flusher.client.pipeline(transaction=False)
        pipe.mset({flusher.key(shard, f"pending:{post}"): counts[post] for post in posts})
        pipe.sadd(flusher.key(shard, "dirty"), *posts)
        pipe.incrby(flusher.key(shard, "accepted"), sum(counts[post] for post in posts))
        pipe.set(flusher.key(shard, "epoch"), new_id(), nx=True)
        pipe.execute()


def warm(posts: Iterable[int]) -> None:
    """Give posts a base, without expiry, as that of a post with likes on their way is."""
    for shard, some in chunks(posts):
        flusher.client.mset({flusher.key(shard, f"base:{post}"): 0 for post in some})


def chunks(posts: Iterable[int]) -> list[tuple[int, list[int]]]:
    """Return posts of one shard each, AT_ONCE at most."""
    groups = flusher.by_shard(posts).items()
    return [(shard, some[i : i + AT_ONCE]) for shard, some in groups for i in range(0, len(some), AT_ONCE)]


def bytes_a_post(posts: int) -> tuple[float, float]:
    """Return what a base takes, and what a pending counter with its place in `dirty` takes beside it."""
    wipe()
    empty = used()
    warm(range(1, posts + 1))
    warmed = used()
    pend(dict(zip(range(1, posts + 1), pareto(posts), strict=True)))
    return (warmed - empty) / posts, (used() - warmed) / posts


def bytes_a_key() -> float:
    """Return what Redis keeps for one like under an Idempotency-Key of 36 characters."""
    wipe()
    warm([1])
    empty = used()
    for _ in range(0, KEYED_LIKES, 1_000):
        flusher.like([Like(1, key=str(uuid4())) for _ in range(1_000)])
    return (used() - empty) / KEYED_LIKES


def used() -> int:
    """Return the bytes that Redis holds, without the buffers of clients and of the AOF."""
    memory = flusher.client.info("memory")
    return int(memory["used_memory"] - memory["mem_clients_normal"] - memory["mem_aof_buffer"])
