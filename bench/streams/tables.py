"""What the legs of all rounds come to: medians, ratios within a round, and the tables. Measures nothing."""

from __future__ import annotations

import os
import statistics
from collections.abc import Callable, Sequence

from bench import report
from bench.streams.audience import CAUGHT_UP_SECONDS, SAMPLE
from bench.streams.legs import Leg
from bench.streams.unread import EVENTS, READERS, Unread

OURS, PEER = SIDES = ("likesite", "django-eventstream")
PROMISED = 1_000  # streams, at 1,000 likes a second

Rounds = dict[tuple[str, int], list[Leg]]  # by side and number of streams
Figure = Callable[[Leg], float]


def median(legs: Sequence[Leg], figure: Figure) -> float:
    """Return the median over all rounds."""
    return statistics.median(figure(leg) for leg in legs)


def ratio(rounds: Rounds, streams: int, figure: Figure) -> float | None:
    """Return the median of ours to theirs in each round; None where theirs did not open as many streams."""
    mine, theirs = (rounds.get((side, streams), []) for side in SIDES)
    pairs = zip(mine, theirs, strict=True)
    found = [figure(one) / figure(other) for one, other in pairs if other.opened == streams and figure(other)]
    return statistics.median(found) if found else None


def delivery(leg: Leg) -> float:
    """Return microseconds of CPU."""
    return leg.microseconds


def announced(leg: Leg) -> float:
    """Return microseconds of CPU where likes are not taken by the same process."""
    return leg.announced


def memory(leg: Leg) -> float:
    """Return KiB of a stream."""
    return leg.kib


def written(leg: Leg) -> list[float]:
    """Return latencies from the request."""
    return leg.live.since_written


def answered(leg: Leg) -> list[float]:
    """Return latencies from the 202."""
    return leg.live.since_answered


def taken(leg: Leg) -> list[float]:
    """Return latencies of the 202."""
    return leg.live.answers


def quantile(part: int, of: Callable[[Leg], list[float]]) -> Figure:
    """Return the figure that is a percentile of a leg's latencies."""
    return lambda leg: of(leg)[len(of(leg)) * part // 100]


def promises(rounds: Rounds) -> report.Table:
    """Return the targets. Of the two ways to feed our streams, the dearer one counts."""
    legs = rounds.get((OURS, PROMISED), [])
    stale = [leg.live.stale for (side, _), found in rounds.items() if side == OURS for leg in found]
    costs = [cost for figure in (delivery, announced) if (cost := ratio(rounds, PROMISED, figure)) is not None]

    def of(figure: Figure) -> float | None:
        return median(legs, figure) if legs else None

    return report.targets([
        report.Target(f"like → screen, p90, {PROMISED:,} streams", "≤", 100, of(quantile(90, written)), "ms"),
        report.Target("streams that end stale", "≤", 0, max(stale)),
        report.Target("CPU of a delivery, of django-eventstream's", "≤", 0.5, max(costs, default=None)),
        report.Target("an open stream", "≤", 25, of(memory), "KiB"),
        report.Target("threads of an open stream", "≤", 0, of(lambda leg: leg.threads)),
    ])  # fmt: skip


def cost(rounds: Rounds) -> report.Table:
    """Return what deliveries and open streams cost."""
    columns = ["streams", "open", "events/s to each", "web CPU", "µs a delivery", "of peer's", "sent alike",
               "of peer's", "KiB a stream", "of peer's", "threads a stream", "ended stale", "readers CPU"]  # fmt: skip
    rows = [row(rounds, side, streams) for side, streams in rounds]
    return report.Table("Deliveries and open streams", columns, rows, notes(rounds))


def row(rounds: Rounds, side: str, streams: int) -> list[str]:
    """Return the figures of one side at one number of streams."""
    legs = rounds[side, streams]
    figures = (delivery, announced, memory)
    ratios = [shown(ratio(rounds, streams, figure)) if side == OURS else "" for figure in figures]
    values = [f"{median(legs, figure):.1f}" for figure in figures]
    return [
        f"{side}, {streams:,}",
        f"{median(legs, lambda leg: leg.opened):,.0f}",
        f"{median(legs, lambda leg: leg.events_each):.1f}",
        f"{median(legs, lambda leg: leg.live.load.cpu / leg.live.load.seconds):.0%}",
        *(cell for pair in zip(values, ratios, strict=True) for cell in pair),
        f"{median(legs, lambda leg: leg.threads):.2f}",
        f"{max(leg.live.stale for leg in legs):,}",
        f"{median(legs, lambda leg: leg.live.readers):.0%}",
    ]


def shown(quotient: float | None) -> str:
    """Return a ratio as text."""
    return report.NOT_MEASURED if quotient is None else f"{quotient:.2f}"


def notes(rounds: Rounds) -> str:
    """Return how the costs were taken, and which streams did not open."""
    legs = [(f"{side}, {streams:,}", leg) for (side, streams), found in rounds.items() for leg in found]
    refused = {f"{name}: {leg.why}." for name, leg in legs if leg.why}
    taken_how = (
        "CPU of a delivery: of the web process under load, less idle streams, less the load without readers, by the"
        " events that readers got; sent alike: both are sent events by another process, and ours takes no likes. Memory"
        " is the process' own (USS); sockets are the kernel's. Readers, senders and servers share"
        f" {os.cpu_count()} cores. Stale: in the worst round, {CAUGHT_UP_SECONDS:g} s after the last like."
    )
    return " ".join([taken_how, *sorted(refused)])


def latency(rounds: Rounds) -> report.Table:
    """Return how soon likes are on screen."""
    columns = ["streams", "likes/s", "p50", "p90", "p99", "p50 from 202", "p90", "p99", "202: p50", "p90", "p99",
               "sent late", "failed"]  # fmt: skip
    parts = [quantile(part, of) for of in (written, answered, taken) for part in (50, 90, 99)]
    rows = [
        [
            f"{streams:,}",
            f"{median(legs, lambda leg: leg.live.load.units / leg.live.load.seconds):,.0f}",
            *(f"{median(legs, part):.0f} ms" for part in parts),
            f"{max(leg.live.late for leg in legs) * 1000:.0f} ms",
            f"{max(leg.live.failed for leg in legs):,}",
        ]
        for (side, streams), legs in rounds.items()
        if side == OURS
    ]
    note = (
        f"From a like's request, and from its 202, until each of {SAMPLE} streams had an event with its total or a"
        " higher one; then until the 202 itself. One hot post, everybody reads; likes are due at a steady pace however"
        " the server feels, and the last two columns tell of the worst round."
    )
    return report.Table("Like → screen", columns, rows, note)


def never(found: Sequence[Unread]) -> report.Table:
    """Return what readers cost who never read."""
    told, grown = statistics.median(one.told for one in found), statistics.median(one.grown for one in found)
    columns = ["streams that nobody reads", "told to a reader who reads", "grown for each who does not", "ratio"]
    cells = [f"{READERS}, of all posts", f"{told:,.0f} KiB", f"{grown:,.0f} KiB", f"{grown / told:.3f}"]
    note = f"All totals change {EVENTS} times a second. Growth of USS, less its growth without such readers."
    return report.Table("Readers that take nothing", columns, [cells], note)
