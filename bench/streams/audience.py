"""Those who read: a crowd, and a sample among it whose every event is timed, each in a process of its own.

Knows no server beside its port, and no figure beside what the readers counted.
"""

from __future__ import annotations

import time
from collections import Counter
from dataclasses import dataclass

from bench.streams.helper import Helper

SAMPLE = 20  # streams
OPEN_SECONDS = 120.0  # for all of them
CAUGHT_UP_SECONDS = 5.0  # for the last total to reach everybody, after the last like


@dataclass(frozen=True)
class Told:
    """What an audience was told since a mark: events, CPU seconds of the readers, streams that ended."""

    events: int
    cpu: float
    ended: int


class Audience:
    """The readers of one web process."""

    def __init__(self, port: int) -> None:
        self._crowd, self._sample = (Helper("bench.streams.reader", str(port)) for _ in range(2))
        self._marked = 0.0
        self.why = ""

    def open(self, streams: int, path: str) -> int:
        """Open streams, the sample spread among them, and return how many are open; `why` tells what kept others."""
        opened, started = 0, time.monotonic()
        for number in range(1, SAMPLE + 1):
            crowd = (streams - SAMPLE) * number // SAMPLE - (streams - SAMPLE) * (number - 1) // SAMPLE
            answers = [self._crowd.ask("open", streams=crowd, path=path)]
            answers.append(self._sample.ask("open", streams=1, path=path, sample=True))
            opened = sum(answer["opened"] for answer in answers)
            self.why = "; ".join(answer["why"] for answer in answers if answer["why"])
            if not self.why and opened < streams and time.monotonic() - started > OPEN_SECONDS:
                self.why = f"no more than {opened:,} opened within {OPEN_SECONDS:g} s"
            if self.why:
                break
        if not opened:
            raise RuntimeError(f"no stream opened: {self.why}")
        return opened

    def visit(self, path: str) -> None:
        """Open and close one stream: whatever a server sets up for the first is there from then on."""
        self._sample.ask("open", streams=1, path=path)
        self._sample.ask("close")

    def mark(self) -> None:
        """Count from now on."""
        self._marked = self._crowd.ask("mark") + self._sample.ask("mark")

    def told(self) -> Told:
        """Return what was counted since the mark."""
        reports = [reader.ask("report") for reader in (self._crowd, self._sample)]
        events, cpu, ended = (sum(report[name] for report in reports) for name in ("events", "cpu", "ended"))
        return Told(events, cpu - self._marked, ended)

    def stale(self, total: int) -> int:
        """Return how many streams were last told something else than `total`, once they had time to catch up."""
        deadline = time.monotonic() + CAUGHT_UP_SECONDS
        while (behind := self._behind(total)) and time.monotonic() < deadline:
            time.sleep(0.1)
        return behind

    def _behind(self, total: int) -> int:
        last: Counter[int] = Counter()
        for reader in (self._crowd, self._sample):
            last.update(dict(reader.ask("report")["last"]))
        return last.total() - last[total]

    def seen(self) -> list[list[tuple[float, int]]]:
        """Return time and total of each event of each stream of the sample since the mark."""
        return [[(at, total) for at, total in stream] for stream in self._sample.ask("seen")]

    def end(self) -> None:
        """End both processes, and with them their streams."""
        for reader in (self._crowd, self._sample):
            reader.end()
