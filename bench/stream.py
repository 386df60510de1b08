"""`python -m bench.stream`: what it costs to show a like to thousands, and how soon and how surely they see it.

Against django-eventstream's own view, under the same uvicorn, sent the same events at the rate that each of our
streams got. Rounds alternate; every figure is a median of them, every ratio one of ratios within a round.
"""

from __future__ import annotations

import argparse

from django.apps import apps

from bench import report, servers
from bench.streams import tables
from bench.streams.legs import Plan, ours, peer
from bench.streams.site import Site
from bench.streams.unread import Unread, unread
from likesite.machine.launch import raise_file_limit

POSTS = 1_000  # that the readers who never read listen to


def parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="bench stream", description=__doc__)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--seconds", type=float, default=10.0, help="of load, in each leg of a round")
    parser.add_argument("--rate", type=float, default=1_000, help="likes a second")
    parser.add_argument("--streams", type=int, nargs="+", default=[tables.PROMISED, 5_000])
    report.add_options(parser)
    return parser.parse_args()


def make_posts() -> list[int]:
    model = apps.get_model("likes", "Post")  # it cannot be imported before the servers' addresses are known
    return [post.pk for post in model.objects.bulk_create([model(title=f"post {n}") for n in range(POSTS)])]


def main() -> None:
    options = parse()
    raise_file_limit()
    servers.start()
    posts, site = make_posts(), Site()
    plan = Plan(options.seconds, options.rate, posts[0])
    rounds: tables.Rounds = {(side, streams): [] for streams in options.streams for side in tables.SIDES}
    ignored: list[Unread] = []
    for _ in range(options.rounds):
        for streams in options.streams:
            mine = ours(site, plan, streams)
            rounds[tables.OURS, streams].append(mine)
            rounds[tables.PEER, streams].append(peer(site, plan, streams, mine.events_each))
        ignored.append(unread(site, posts, options.seconds))
    found = [tables.promises(rounds), tables.cost(rounds), tables.latency(rounds), tables.never(ignored)]
    versions = report.packages("django", "uvicorn", "uvloop", "redis", "django-eventstream")
    report.publish("stream", found, versions=versions, write=not options.no_write)


if __name__ == "__main__":
    main()
