"""`python -m bench.flush`: what moving likes to PostgreSQL costs, beside SQL by hand and `bulk_update`, and how flat.

Starts a PostgreSQL and a Valkey of its own, as shipped (fsync on, AOF always). Rounds alternate; every figure is a
median of them, every ratio one of ratios within a round.
"""

from __future__ import annotations

import argparse
import random
import sys
from collections import defaultdict
from collections.abc import Iterator
from multiprocessing.pool import Pool

from bench import report, servers

servers.start()

from bench.flushes import pending  # noqa: E402  once the servers' addresses are in the environment
from bench.flushes.flushers import flushers  # noqa: E402
from bench.flushes.legs import Cost, legs  # noqa: E402
from bench.flushes.tables import Results, curve, memory, promised, speeds  # noqa: E402

SIZES = (1_000, 10_000, 100_000, 1_000_000)  # dirty posts
ROUNDS = 3
ONE_ROUND = 1_000_000  # dirty posts; more rounds of them would take longer than all others together
WARM_UP = 1_000  # dirty posts of a round that does not count


def say(text: str) -> None:
    print(text, file=sys.stderr, flush=True)


def measure(size: int, spread: str, rounds: int, posts: int, pool: Pool) -> Results:
    """Let everybody move the same likes, in turns."""
    results: Results = defaultdict(list)
    for number in range(1 if size >= ONE_ROUND else rounds):
        dirty = random.sample(range(1, posts + 1), size)
        counts = dict(zip(dirty, pending.SPREADS[spread](size), strict=True))
        costs = dict(one_round(counts, pool, backwards=bool(number % 2)))
        results[size, spread].append(costs)
        said = ", ".join(f"{name} {cost:.1f}" for name, cost in costs.items())
        say(f"{size:,} dirty posts, {spread} counts, round {number + 1}, µs a post: {said}")
    return results


def one_round(counts: pending.Counts, pool: Pool, *, backwards: bool) -> Iterator[tuple[str, Cost]]:
    turns = list(legs(counts, pool).items())
    for name, leg in reversed(turns) if backwards else turns:
        yield name, leg()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=ROUNDS, help="of fewer than a million dirty posts")
    parser.add_argument("--posts", type=int, default=max(SIZES), help="in the table, and the most dirty ones")
    report.add_options(parser)
    options = parser.parse_args()
    random.seed(1)
    sizes = [size for size in SIZES if size <= options.posts]
    if not sizes or options.rounds < 1:
        parser.error(f"--posts is at least {min(SIZES)}, --rounds at least 1")
    with flushers() as pool:
        say(f"a table of {options.posts:,} posts")
        pending.seed(options.posts)
        measure(WARM_UP, "distinct", 1, options.posts, pool)
        results: Results = {}
        for size in sizes:
            for spread in pending.SPREADS:
                results |= measure(size, spread, options.rounds, options.posts, pool)
        say("memory")
        kept = memory(options.posts, *pending.bytes_a_post(options.posts), pending.bytes_a_key())
    tables = [speeds(results), curve(results), kept, promised(results)]
    versions = report.packages("Django", "psycopg2-binary", "redis", "hiredis")
    report.publish("flush", tables, versions=versions, write=not options.no_write)


if __name__ == "__main__":
    main()
