"""What the flush benchmark says: its results as tables, and beside what was promised. Measures nothing."""

from __future__ import annotations

import statistics

from bench import report
from bench.flushes.contenders import BULK_UPDATE_POSTS
from bench.flushes.flushers import AT_ONCE
from bench.flushes.legs import BULK_SAMPLE, SAMPLE, Cost
from bench.flushes.pending import KEYED_LIKES
from likes.buffer import flusher

LEVEL = 100_000  # dirty posts; what the cost of more is compared with

Case = tuple[int, str]  # dirty posts, spread of their counts
Rounds = list[dict[str, Cost]]  # a dictionary a round
Results = dict[Case, Rounds]


def median(rounds: Rounds, name: str) -> Cost:
    return statistics.median(costs[name] for costs in rounds)


def ratio(rounds: Rounds, to: str, who: str = "as shipped") -> float:
    """Return how many posts a second `who` moves for each of the other's."""
    return statistics.median(costs[to] / costs[who] for costs in rounds)


def cost(rounds: Rounds, name: str) -> str:
    return f"{median(rounds, name):.1f}"


def speed(rounds: Rounds, name: str) -> str:
    return f"{1e6 / median(rounds, name):,.0f}"


def speeds(results: Results) -> report.Table:
    columns = ["dirty posts", "counts", "flush", "raw SQL", "flush to it", "raw SQL tuned", "flush to it",
               "raw SQL twice", "flush to it",
               "raw SQL from Redis", "flush to it", "bulk_update", "flush to it"]  # fmt: skip
    rows = []
    for (size, spread), rounds in results.items():
        row = [f"{size:,}", spread, speed(rounds, "as shipped")]
        for name in ("raw", "raw tuned", "raw twice", "raw from Redis", "bulk_update"):
            row += [speed(rounds, name), f"{ratio(rounds, name):.2f}"]
        rows.append(row)
    return report.Table("Posts a second", columns, rows, who_is_who())


def who_is_who() -> str:
    return (
        f"Flush: drain, apply, ack, announce, as shipped: {flusher.shards} shards, {AT_ONCE} flushers side by side."
        " Raw SQL: UPDATE … FROM unnest with lock and RETURNING on one connection, of the same posts in the same"
        " batches, a transaction each, its counts at hand, on the server as shipped; tuned: its planner told of an"
        " SSD (random_page_cost 1.1); twice: on two connections at once; from Redis: it takes the"
        f" counts out of Redis first. bulk_update: {BULK_UPDATE_POSTS} posts a statement. The flush moves all dirty"
        f" posts, others the first {SAMPLE:,} in batches drawn from all, bulk_update {BULK_SAMPLE:,}: its cost"
        " per post depends on the statement's size, not on how many there are."
    )


def curve(results: Results) -> report.Table:
    columns = ["dirty posts", "counts", "flush", f"to {LEVEL:,}", "one flusher", "raw SQL to it",
               "its apply alone", "to raw SQL", "raw SQL"]  # fmt: skip
    rows = []
    for (size, spread), rounds in results.items():
        row = [f"{size:,}", spread, cost(rounds, "as shipped"), slope(results, size, spread)]
        row += [cost(rounds, "one flusher"), f"{ratio(rounds, 'raw', 'one flusher'):.2f}"]
        row += [cost(rounds, "apply"), f"{1 / ratio(rounds, 'raw', 'apply'):.2f}", cost(rounds, "raw")]
        rows.append(row)
    note = (
        "A batch is of one shard. Of few dirty posts each shard has few, and what a batch costs however small it is,"
        " round trips and two disks, shows in the cost of a post."
    )
    return report.Table("Cost of a post, microseconds", columns, rows, note)


def slope(results: Results, size: int, spread: str) -> str:
    rise = risen(results, size, spread)
    return report.NOT_MEASURED if rise is None else f"{rise:.2f}"


def risen(results: Results, size: int, spread: str) -> float | None:
    """Return the cost of a post among that many dirty ones, to that among LEVEL."""
    level = results.get((LEVEL, spread))
    return median(results[size, spread], "as shipped") / median(level, "as shipped") if level else None


def memory(posts: int, base: float, counter: float, key: float) -> report.Table:
    rows = [
        ["a pending counter and its place in `dirty`", f"{counter:.0f}"],
        ["the same with the base of its post", f"{base + counter:.0f}"],
        ["a like under an Idempotency-Key of 36 characters", f"{key:.0f}"],
    ]
    note = f"Growth of used_memory, without buffers, over {posts:,} posts and {KEYED_LIKES:,} keys."
    return report.Table("Memory of Redis, bytes each", ["what", "bytes"], rows, note)


def promised(results: Results) -> report.Table:
    largest = max(size for size, _ in results)
    rises = [risen(results, size, spread) for size, spread in results if size == largest > LEVEL]
    return report.targets(
        [
            *(report.Target(f"flush to raw SQL, {named(case)}", "≥", 0.75, ratio(rounds, "raw"))
              for case, rounds in results.items()),
            *(report.Target(f"flush to bulk_update, {named(case)}", "≥", 8, ratio(rounds, "bulk_update"))
              for case, rounds in results.items()),
            report.Target(f"cost of a post among {largest:,}, to that among {LEVEL:,}", "≤", 1.1,
                          max((rise for rise in rises if rise is not None), default=None)),
        ]
    )  # fmt: skip


def named(case: Case) -> str:
    size, spread = case
    return f"{size:,} dirty posts, {spread}"
