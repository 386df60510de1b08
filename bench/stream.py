"""`python -m bench.stream`: what it costs to show a like to thousands, and how soon and how surely they see it.

Against django-eventstream's own view, under the same uvicorn, sent the same events at the rate that each of our
streams got. Rounds alternate; every figure is a median of them, every ratio one of ratios within a round.
"""

from __future__ import annotations

import argparse
import os
import statistics
from collections.abc import Callable, Sequence

from django.apps import apps

from bench import report, servers
from bench.streams.legs import Leg, Plan, ours, peer
from bench.streams.site import Site
from bench.streams.unread import EVENTS, READERS, Unread, unread
from likesite.machine.launch import raise_file_limit

SIDES = ("likesite", "django-eventstream")
POSTS = 1_000  # that the readers who never read listen to
PROMISED = 1_000  # streams, at 1,000 likes a second
Rounds = dict[tuple[str, int], list[Leg]]
Figure = Callable[[Leg], float]


def median(legs: Sequence[Leg], figure: Figure) -> float:
    return statistics.median(figure(each) for each in legs)


def ratio(rounds: Rounds, streams: int, figure: Figure) -> float | None:
    """Return ours to theirs, None where theirs opened no stream."""
    mine, theirs = (rounds.get((side, streams), []) for side in SIDES)
    found = [figure(one) / figure(other) for one, other in zip(mine, theirs, strict=True) if other.opened == streams]
    return statistics.median(found) if found else None


def quantile(part: int, of: Callable[[Leg], list[float]]) -> Figure:
    """Return the figure that is the nth percentile of a leg's latencies."""
    return lambda leg: of(leg)[min(len(of(leg)) - 1, len(of(leg)) * part // 100)]


def written(leg: Leg) -> list[float]:
    return leg.since_written


def answered(leg: Leg) -> list[float]:
    return leg.since_answered


def cost(rounds: Rounds) -> report.Table:
    columns = ["streams", "open", "events/s to each", "web CPU", "µs a delivery", "of peer's", "sent alike",
               "of peer's", "KiB a stream", "of peer's", "threads a stream", "ended stale", "readers CPU"]  # fmt: skip
    rows = [row(rounds, *which) for which in rounds]
    return report.Table("Deliveries and open streams", columns, rows, notes(rounds))


def row(rounds: Rounds, side: str, streams: int) -> list[str]:
    legs = rounds[side, streams]
    mine = side == SIDES[0]
    ratios = [shown(ratio(rounds, streams, figure)) if mine else "" for figure in (delivery, announced, memory)]
    return [
        f"{side}, {streams:,}",
        f"{median(legs, lambda leg: leg.opened):,.0f}",
        f"{median(legs, lambda leg: leg.events_each):.1f}",
        f"{median(legs, lambda leg: leg.load.cpu / leg.load.seconds):.0%}",
        f"{median(legs, delivery):.1f}",
        ratios[0],
        f"{median(legs, announced):.1f}",
        ratios[1],
        f"{median(legs, memory):.1f}",
        ratios[2],
        f"{median(legs, lambda leg: leg.threads):.2f}",
        f"{max(leg.stale for leg in legs):,}",
        f"{median(legs, lambda leg: leg.readers):.0%}",
    ]


def delivery(leg: Leg) -> float:
    return leg.microseconds


def announced(leg: Leg) -> float:
    return leg.announced


def shown(quotient: float | None) -> str:
    return report.NOT_MEASURED if quotient is None else f"{quotient:.2f}"


def memory(leg: Leg) -> float:
    return leg.kib


def notes(rounds: Rounds) -> str:
    refused = {
        f"{side}, {streams:,}: {leg.why}." for (side, streams), legs in rounds.items() for leg in legs if leg.why
    }
    told = (
        "CPU of a delivery: of the web process under load, less idle streams and less the load without readers, by the"
        " events that readers got. Memory is the process' own (USS), threads as its kernel counts them; sockets' memory"
        f" is the kernel's. Readers, senders and servers share {os.cpu_count()} cores; stale: at worst, 5 s after."
    )
    return " ".join([told, *sorted(refused)])


def latency(rounds: Rounds) -> report.Table:
    columns = ["streams", "likes/s", "p50", "p90", "p99", "p50 from 202", "p90", "p99", "sent late, worst"]
    rows = [
        [
            f"{streams:,}",
            f"{median(legs, lambda leg: leg.load.units / leg.load.seconds):,.0f}",
            *(f"{median(legs, quantile(part, of)):.0f} ms" for of in (written, answered) for part in (50, 90, 99)),
            f"{max(leg.late for leg in legs) * 1000:.0f} ms",
        ]
        for (side, streams), legs in rounds.items()
        if side == SIDES[0]
    ]
    note = (
        "From the moment a like's request was written, and from its 202, until 20 of the streams had an event with its"
        " total or a higher one; one hot post, paced however the server feels, everybody reads."
    )
    return report.Table("Like → screen", columns, rows, note)


def never(found: Sequence[Unread]) -> report.Table:
    told, grown = statistics.median(one.told for one in found), statistics.median(one.grown for one in found)
    row = [f"{READERS} readers", f"{told:,.0f} KiB", f"{grown:,.0f} KiB", f"{grown / told:.3f}"]
    columns = ["streams that nobody reads", "told to a reader who reads", "grown for each who does not", "ratio"]
    note = (
        f"{POSTS:,} totals, {EVENTS} times a second, to all of them; USS of the process, less its growth without them."
    )
    return report.Table("Readers that take nothing", columns, [row], note)


def promises(rounds: Rounds) -> report.Table:
    legs = rounds.get((SIDES[0], PROMISED), [])
    stale = max((leg.stale for (side, _), each in rounds.items() if side == SIDES[0] for leg in each), default=None)

    def of(figure: Figure) -> float | None:
        return median(legs, figure) if legs else None

    return report.targets([
        report.Target("like → screen, p90, 1,000 streams", "≤", 100, of(quantile(90, written)), "ms"),
        report.Target("streams that end stale", "≤", 0, stale),
        report.Target("CPU of a delivery, times django-eventstream's", "≤", 0.5, ratio(rounds, PROMISED, delivery)),
        report.Target("an open stream", "≤", 25, of(memory), "KiB"),
        report.Target("threads of an open stream", "≤", 0, of(lambda leg: leg.threads)),
    ])  # fmt: skip


def make_posts() -> list[int]:
    model = apps.get_model("likes", "Post")  # it cannot be imported before the servers' addresses are known
    return [post.pk for post in model.objects.bulk_create([model(title=f"post {n}") for n in range(POSTS)])]


def main() -> None:
    parser = argparse.ArgumentParser(prog="bench stream", description=__doc__)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--seconds", type=float, default=10.0, help="of load, in each leg of a round")
    parser.add_argument("--rate", type=float, default=1_000, help="likes a second")
    parser.add_argument("--streams", type=int, nargs="+", default=[PROMISED, 5_000])
    report.add_options(parser)
    options = parser.parse_args()
    raise_file_limit()
    servers.start()
    posts = make_posts()
    plan, site = Plan(options.seconds, options.rate, posts[0]), Site()
    rounds: Rounds = {(side, streams): [] for streams in options.streams for side in SIDES}
    ignored: list[Unread] = []
    for _ in range(options.rounds):
        for streams in options.streams:
            mine = ours(site, plan, streams)
            rounds[SIDES[0], streams].append(mine)
            rounds[SIDES[1], streams].append(peer(site, plan, streams, mine.events_each))
        ignored.append(unread(site, posts, options.seconds))
    tables = [promises(rounds), cost(rounds), latency(rounds), never(ignored)]
    versions = report.packages("django", "uvicorn", "uvloop", "redis", "django-eventstream")
    report.publish("stream", tables, versions=versions, write=not options.no_write)


if __name__ == "__main__":
    main()
