"""What a process does that sends totals to streams at a steady pace; knows neither the streams nor how it sends."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any


class Sender:
    """Sends totals that grow from run to run; `send` takes a total and how many likes it grew by."""

    def __init__(self, send: Callable[[int, int], None], total: int = 0) -> None:
        self._send, self._total = send, total

    def run(self, events: int, rate: float, count: int) -> dict[str, Any]:
        """Send as many events at `rate` a second, each of `count` more likes; return when each went and was sent."""
        started, late, likes = time.monotonic(), 0.0, []
        for number in range(events):
            due = started + number / rate
            time.sleep(max(0.0, due - time.monotonic()))
            self._total += count
            written = time.monotonic()
            self._send(self._total, count)
            likes.append((written, time.monotonic(), self._total))
            late = max(late, written - due)
        time.sleep(max(0.0, started + events / rate - time.monotonic()))
        return {"likes": likes, "late": late, "failed": 0}
