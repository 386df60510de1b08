"""`python -m bench.flush`: what a flush costs beside one hand-written UPDATE, and whether that cost stays flat.

Starts a PostgreSQL and a Valkey of its own, as shipped (fsync on, AOF always). Every figure is a median of rounds in
which the two sides alternate, and counts as a ratio within the run.
"""

from __future__ import annotations

import argparse
import random
import statistics
import time
from collections.abc import Callable

from bench import servers

servers.start()

from django.db import connection, transaction  # noqa: E402  once the servers' addresses are in the environment

from likes import ledger, tasks  # noqa: E402
from likes.buffer import Batch, flusher  # noqa: E402
from likes.models import Post  # noqa: E402
from likes.wire import new_id  # noqa: E402

RAW = """
WITH locked AS (
    SELECT p.id, d.likes FROM unnest(%s::bigint[], %s::bigint[]) AS d(id, likes)
    JOIN likes_post p ON p.id = d.id ORDER BY p.id FOR NO KEY UPDATE OF p
)
UPDATE likes_post AS p SET likes = p.likes + locked.likes FROM locked WHERE p.id = locked.id RETURNING p.id, p.likes
"""


def distinct(posts: int) -> list[int]:
    return random.sample(range(1, posts + 1), posts)


def pareto(posts: int) -> list[int]:
    return [int(random.paretovariate(1.16)) for _ in range(posts)]


def pend(counts: dict[int, int]) -> None:
    """Put counters into Redis as that many likes would have."""
    pipe = flusher.client.pipeline(transaction=False)
    for shard, posts in flusher.by_shard(counts).items():
        for post in posts:
            pipe.set(flusher.key(shard, f"pending:{post}"), counts[post])
        pipe.sadd(flusher.key(shard, "dirty"), *posts)
        pipe.incrby(flusher.key(shard, "accepted"), sum(counts[post] for post in posts))
        pipe.set(flusher.key(shard, "epoch"), new_id(), nx=True)
    pipe.execute()


def seconds(work: Callable[..., object], *given: object) -> float:
    started = time.perf_counter()
    work(*given)
    return time.perf_counter() - started


def raw(counts: dict[int, int]) -> None:
    with transaction.atomic(), connection.cursor() as cursor:
        cursor.execute(RAW, [list(counts), list(counts.values())])
        cursor.fetchall()


def drained(counts: dict[int, int]) -> Batch:
    """Return these counts as one batch, through Redis."""
    pend(counts)
    batch = flusher.drain(0)
    assert isinstance(batch, Batch), batch
    return batch


def flush_all() -> None:
    while shards := flusher.work():
        for shard in shards:
            tasks.flush_shard(shard)


def rested() -> None:
    """Let neither side pay for the dead rows of the other."""
    with connection.cursor() as cursor:
        cursor.execute("VACUUM likes_post")


def compare(name: str, make: Callable[[int], list[int]], posts: int, rounds: int) -> None:
    apply_ratios, flush_ratios, raws = [], [], []
    for _ in range(rounds):
        counts = dict(zip(range(1, posts + 1), make(posts), strict=True))
        rested()
        one = seconds(raw, counts)
        rested()
        batch = drained(counts)
        two = seconds(ledger.apply, batch)
        flusher.ack(batch, {})
        rested()
        pend(counts)
        three = seconds(tasks.flush_batch, 0)
        raws.append(one)
        apply_ratios.append(two / one)
        flush_ratios.append(three / one)
    print(
        f"{name:>10} {posts:>8} {statistics.median(raws) * 1000:>9.1f}"
        f" {statistics.median(apply_ratios):>9.2f} {statistics.median(flush_ratios):>9.2f}"
    )


def flat(sizes: list[int], rounds: int) -> None:
    first = 0.0
    for posts in sizes:
        each = []
        for _ in range(rounds):
            pend(dict(zip(range(1, posts + 1), distinct(posts), strict=True)))
            rested()
            each.append(seconds(flush_all) / posts * 1e6)
        cost = statistics.median(each)
        first = first or cost
        print(f"{posts:>10} {cost:>12.1f} {cost / first:>12.2f}")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--posts", type=int, default=100_000, help="the most dirty posts")
    options = parser.parse_args()
    random.seed(1)
    Post.objects.bulk_create([Post(title=f"post {n}") for n in range(options.posts)], batch_size=5_000)
    flusher.shards = 1
    print("one batch of 5,000 posts against UPDATE … FROM unnest … RETURNING, both locking in key order")
    print("    counts    posts    raw ms     apply     flush   (times raw)")
    compare("distinct", distinct, 5_000, options.rounds)
    compare("pareto", pareto, 5_000, options.rounds)
    flusher.shards = 8
    print("\na flush of all shards, Redis and PostgreSQL\n     dirty   µs a post   times first")
    flat([1_000, 10_000, options.posts], options.rounds)


if __name__ == "__main__":
    main()
