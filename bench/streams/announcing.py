"""`python -m bench.streams.announcing TOTAL POST...`: tells our streams totals that nobody liked.

As another web process would: what streams cost by themselves, where theirs does not take the likes as well.
"""

from __future__ import annotations

import sys
import time

import django

from bench.streams.helper import serve, to_last_core
from bench.streams.pacing import Sender

django.setup()

from likes import events  # noqa: E402  it reads settings when imported


def send(total: int, count: int) -> None:
    """Announce these posts, under a version above all that Redis gave: those are its time in microseconds."""
    posts = [int(post) for post in sys.argv[2:]]
    version = time.time_ns() // 1_000 + 1_000_000
    events.announce(dict.fromkeys(posts, (total, version, count)))


if __name__ == "__main__":
    to_last_core()
    serve({"run": Sender(send, int(sys.argv[1])).run})
