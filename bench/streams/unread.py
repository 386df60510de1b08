"""What readers cost who never read: memory that a process keeps for them, beside what it would have sent them."""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import Any

from bench.streams.helper import Helper
from bench.streams.site import OURS, Site, Web

READERS = 20
CALLS = 20  # bulk calls a second, each a like of every post
PATH = "/events"


@dataclass(frozen=True)
class Unread:
    """KiB that a reader who reads was told, and that the process grew by for each one who does not."""

    told: float
    grown: float


def unread(site: Site, posts: list[int], seconds: float) -> Unread:
    """Like many posts at once, without and with readers of all of them who take nothing."""
    web = site.web(OURS)
    client, reading, stuck = Helper("bench.streams.likes", str(web.port)), *readers(web)
    body = json.dumps({"likes": [{"post": post, "count": 1} for post in posts]}, separators=(",", ":"))

    def like() -> dict[str, Any]:
        calls = int(CALLS * seconds)
        answer: dict[str, Any] = client.ask("run", path="/api/v1/likes", requests=calls, rate=CALLS, body=body)
        if set(answer["statuses"]) != {"202"}:
            raise RuntimeError(f"not all likes were taken: {answer['statuses']}")
        return answer

    try:
        reading.ask("open", streams=1, path=PATH)
        like()
        before = web.look().memory
        like()
        without = web.look().memory - before
        stuck.ask("stick", streams=READERS, path=PATH)
        before = web.look().memory
        reading.ask("mark")
        like()
        grown = web.look().memory - before - without
        return Unread(reading.ask("report")["bytes"] / 1024, grown / 1024 / READERS)
    finally:
        for helper in (client, reading, stuck):
            helper.end()
        web.end()


def readers(web: Web) -> tuple[Helper, Helper]:
    """Return a process of those who read, and one of those who do not."""
    return Helper("bench.streams.reader", str(web.port)), Helper("bench.streams.reader", str(web.port))
