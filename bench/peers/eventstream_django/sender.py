"""`python -m bench.peers.eventstream_django.sender`: sends events as any Django process would, at a steady pace.

The text is that of our own events, so that both sides deliver the same bytes.
"""

from __future__ import annotations

import os
import time
from typing import Any

import django

from bench.streams.helper import serve, to_last_core

os.environ["DJANGO_SETTINGS_MODULE"] = "bench.peers.eventstream_django.settings"
django.setup()

from django_eventstream import send_event  # noqa: E402  it reads settings when imported


class Sender:
    """Sends totals that grow from run to run."""

    def __init__(self) -> None:
        self._total = 0

    def run(self, channel: str, events: int, rate: float, count: int) -> dict[str, Any]:
        """Send as many events at `rate` a second, each of `count` more likes; return when each went and was sent."""
        started, late, likes = time.monotonic(), 0.0, []
        for number in range(events):
            due = started + number / rate
            time.sleep(max(0.0, due - time.monotonic()))
            self._total += count
            written = time.monotonic()
            text = f'{{"count":{count},"likes":{{"1":{self._total}}}}}'
            send_event(channel, "message", text, json_encode=False)
            likes.append((written, time.monotonic(), self._total))
            late = max(late, written - due)
        time.sleep(max(0.0, started + events / rate - time.monotonic()))
        return {"likes": likes, "late": late}


if __name__ == "__main__":
    to_last_core()
    serve({"run": Sender().run})
