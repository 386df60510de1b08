"""The tables of the front benchmark, out of what its rounds measured. Measures nothing."""

from __future__ import annotations

import statistics
from collections.abc import Callable, Sequence

from bench.report import Table, Target
from bench.turns import DRF, EXPRESS, LANE, NGINX, Figures, Turn

NOTHING = "-"
FIGURES: dict[str, Callable[[Figures], float]] = {
    "likes/s": lambda figures: figures.rate,
    "p50": lambda figures: figures.p50,
    "p99": lambda figures: figures.p99,
    "CPU": lambda figures: figures.cost,
}

Rounds = dict[tuple[str, str], list[Figures]]


def median(figures: Sequence[Figures], value: Callable[[Figures], float]) -> float:
    """Return the median of a figure over the rounds."""
    return statistics.median(map(value, figures))


def ratio(ours: Sequence[Figures], theirs: Sequence[Figures], value: Callable[[Figures], float]) -> float | None:
    """Return the median of the ratios of each round; None when one of them was absent."""
    ratios = [value(one) / value(other) for one, other in zip(ours, theirs, strict=False) if value(other)]
    return statistics.median(ratios) if ratios else None


def figures_table(found: Rounds, absent: dict[str, str], turns: Sequence[Turn], note: str) -> Table:
    """Return what was measured."""
    columns = ["contender", "likes/s", "p50 ms", "p99 ms", "web µs", "store µs", "CPU µs a like", "not 202", "broken"]
    rows = []
    for turn in turns:
        figures = found[turn.who, turn.load]
        if not figures:
            rows.append([f"{turn.name} (absent: needs {absent[turn.who]})", *[NOTHING] * 8])
            continue
        values = [median(figures, value) for value in FIGURES.values()]
        web, store = median(figures, lambda one: one.web), median(figures, lambda one: one.store)
        failed = [sum(one.refused for one in figures), sum(one.broken for one in figures)]
        costs = [f"{cost:.1f}" for cost in (web, store, values[3])]
        rows.append([turn.name, f"{values[0]:,.0f}", f"{values[1]:.2f}", f"{values[2]:.2f}", *costs, *map(str, failed)])
    return Table("What a like costs", columns, rows, note)


def ratios_table(found: Rounds, turns: Sequence[Turn], peer: str) -> Table:
    """Return every figure as a multiple of a peer's in the same round, under the same load when it has that."""
    rows = []
    for turn in turns:
        theirs = found.get((peer, turn.load)) or found.get((peer, "hot"), [])
        ratios = [ratio(found[turn.who, turn.load], theirs, value) for value in FIGURES.values()]
        rows.append([turn.name, *(NOTHING if one is None else f"{one:.2f}" for one in ratios)])
    note = "Zipf against its Zipf, all others against its one hot post."
    return Table(f"The same, as multiples of {peer.partition(',')[0]}", ["contender", *FIGURES], rows, note)


def promised(found: Rounds) -> list[Target]:
    """Return what was promised beside what was measured."""

    def times(value: str, mine: tuple[str, str], theirs: tuple[str, str]) -> float | None:
        return ratio(found.get(mine, []), found.get(theirs, []), FIGURES[value])

    hot, zipf = (LANE, "hot"), (LANE, "zipf")
    one, many = "CPU of a like, one hot post, times", "CPU of a like, Zipf over 10,000 posts, times"
    return [
        Target(f"{one} Express", "≤", 0.28, times("CPU", hot, (EXPRESS, "hot"))),
        Target(f"{one} nginx + Lua", "≤", 1.6, times("CPU", hot, (NGINX, "hot"))),
        Target(f"{one} our own DRF", "≤", 0.15, times("CPU", hot, (DRF, "hot"))),
        Target(f"{many} Express", "≤", 0.32, times("CPU", zipf, (EXPRESS, "zipf"))),
        Target(f"{many} nginx + Lua", "≤", 2.0, times("CPU", zipf, (NGINX, "zipf"))),
        Target("likes/s of one web process, times Express", "≥", 3.5, times("likes/s", hot, (EXPRESS, "hot"))),
        Target("CPU of an entry of a bulk call, times a single like", "≤", 0.1, times("CPU", (LANE, "bulk"), hot)),
    ]
