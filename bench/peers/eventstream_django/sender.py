"""`python -m bench.peers.eventstream_django.sender CHANNEL`: sends events as any Django process would.

The text is that of our own events, so that both sides deliver the same bytes.
"""

from __future__ import annotations

import os
import sys

import django

from bench.streams.helper import serve, to_last_core
from bench.streams.pacing import Sender

os.environ["DJANGO_SETTINGS_MODULE"] = "bench.peers.eventstream_django.settings"
django.setup()

from django_eventstream import send_event  # noqa: E402  it reads settings when imported


def send(total: int, count: int) -> None:
    """Send one event."""
    text = f'{{"count":{count},"likes":{{"1":{total}}}}}'
    send_event(sys.argv[1], "message", text, json_encode=False)


if __name__ == "__main__":
    to_last_core()
    serve({"run": Sender(send).run})
