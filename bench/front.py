"""`python -m bench front`: what a durable like costs, here and elsewhere, on the same route and with the same answer.

One Valkey counts for all (append-only file, fsync always). Each contender is one web process with what its users give
it in production. They take turns, so that every figure is also a ratio within the run.
"""

from __future__ import annotations

import argparse
import json
import os
import re
import shutil
import subprocess
from collections.abc import Sequence

import redis
from django.db import connection

from bench import contenders, front_tables, load, report, servers
from bench.front_tables import Rounds
from bench.turns import EXPRESS, LOADS, NGINX, POSTS, TURNS, Course, Turn
from tests.servers import manage

SEED = f"from likes.models import Post; Post.objects.bulk_create([Post(title=f'post {{n}}') for n in range({POSTS})])"
NOTE = """\
CPU: microseconds per acknowledged like, of the web process and of its store, children included. Same route, status,
body and headers for all; {connections} connections kept open, {few} for bulk calls. {pinned} The store is one Valkey
on a unix socket, append-only file, fsync always, and for the Django view PostgreSQL, fsync on. Zipf: 10,000 posts,
exponent 1. Express with ioredis as it comes; pipelined: with its enableAutoPipelining. Times are those of a call, of
1,000 entries too. The flush to PostgreSQL is measured on its own. In every turn the totals of likesite grew by what
was acknowledged, and at most by what was under way at the end."""
PINNED = "The load generator has a core of its own, web process and store share what is left."
FREE = "Nothing is tied to a core: this system has no call for it."
PROGRAMS = {"wrk": ("wrk", "-v"), "Node.js": ("node", "--version"), "nginx": ("nginx", "-v")}


def arguments() -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(prog="./run.sh bench front", description=__doc__)
    parser.add_argument("--rounds", type=report.positive, default=5)
    parser.add_argument("--seconds", type=report.positive, default=3, help="of each turn that count")
    parser.add_argument("--only", nargs="+", metavar="TEXT", help="rows whose name holds one of these; writes nothing")
    parser.add_argument("--no-wrk", action="store_true", help="use the bundled generator although wrk is installed")
    report.add_options(parser)
    return parser.parse_args()


def measure(course: Course, turns: Sequence[Turn], rounds: int, seconds: int) -> Rounds:
    """Let the contenders that are there take turns, in every round each of them once under each of its loads."""
    found: Rounds = {(turn.who, turn.load): [] for turn in turns}
    for number in range(1, rounds + 1):
        for turn in turns:
            if turn.who not in course.absent:
                print(f"round {number} of {rounds}: {turn.name}", flush=True)
                found[turn.who, turn.load].append(course.take(turn, seconds))
    return found


def make_posts() -> None:
    """Insert the posts, ids from 1."""
    made = manage("shell", "-c", SEED)
    if made.returncode:
        raise RuntimeError(f"no posts could be made:\n{made.stdout}{made.stderr}")


def versions(started: servers.Servers, generator: str) -> dict[str, str]:
    """Return the versions of all that had a part."""
    found = report.packages("Django", "djangorestframework", "uvicorn", "redis", "hiredis", "Flask", "gunicorn")
    with redis.Redis.from_url(started.redis.server.url, socket_timeout=10) as client:
        found["Valkey"] = client.info("server")["valkey_version"]
    connection.ensure_connection()
    found["PostgreSQL"] = ".".join(map(str, divmod(connection.pg_version, 10_000)))
    connection.close()
    found |= {name: says(*command) for name, command in PROGRAMS.items() if shutil.which(command[0])}
    packages = json.loads((contenders.PEERS / "express" / "package.json").read_text())["dependencies"]
    return found | packages | {"load by": generator}


def says(*command: str) -> str:
    """Return the number in what a program says of itself."""
    done = subprocess.run(command, capture_output=True, text=True, timeout=10, check=False)
    found = re.search(r"\d+\.\d+[\w.]*", done.stdout + done.stderr)
    return found[0] if found else "unknown"


def main() -> None:
    """Start everything, take the rounds and publish."""
    options = arguments()
    turns = [turn for turn in TURNS if not options.only or any(text in turn.name for text in options.only)]
    wrk = None if options.no_wrk else load.find_wrk()
    cores = load.cores()
    if len(cores) > 1:
        os.sched_setaffinity(0, cores[:-1])  # and what is started from here on; the generator gets the last one
    started = servers.start()
    make_posts()
    course = Course(started, turns, cores[-1:], wrk)
    course.heat_up(turns)
    found = measure(course, turns, options.rounds, options.seconds)
    note = NOTE.format(
        connections=LOADS["hot"].connections, few=LOADS["bulk"].connections, pinned=PINNED if len(cores) > 1 else FREE
    )
    tables = [
        front_tables.figures_table(found, course.absent, turns, note),
        *(front_tables.ratios_table(found, turns, peer) for peer in (EXPRESS, NGINX)),
        report.targets(front_tables.promised(found)),
    ]
    generator = "wrk" if wrk else "the bundled generator"
    report.publish("front", tables, versions=versions(started, generator), write=not (options.no_write or options.only))


if __name__ == "__main__":
    main()
