"""What readers cost who never read: memory that a process keeps for them, beside what it would have sent them."""

from __future__ import annotations

from dataclasses import dataclass

from bench.streams.helper import Helper
from bench.streams.site import OURS, Site

READERS = 100
EVENTS = 20  # a second, each of every post
PATH = "/events"


@dataclass(frozen=True)
class Unread:
    """KiB that a reader who reads was told, and that the process grew by for each one who does not."""

    told: float
    grown: float


def unread(site: Site, posts: list[int], seconds: float) -> Unread:
    """Announce many posts, without and with readers of all of them who take nothing."""
    web = site.web(OURS)

    def growth() -> int:
        before = web.look().memory
        sender.ask("run", events=round(EVENTS * seconds), rate=EVENTS, count=1)
        return web.look().memory - before

    sender = Helper("bench.streams.announcing", "0", *map(str, posts))
    reading, stuck = (Helper("bench.streams.reader", str(web.port)) for _ in range(2))
    try:
        reading.ask("open", streams=1, path=PATH)
        growth()  # whatever it keeps of these posts is there from then on
        without = growth()
        stuck.ask("stick", streams=READERS, path=PATH)
        reading.ask("mark")
        grown = growth() - without
        return Unread(reading.ask("report")["bytes"] / 1024, grown / 1024 / READERS)
    finally:
        for helper in (sender, reading, stuck):
            helper.end()
        web.end()
