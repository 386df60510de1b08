"""One run as one process with users sees it: which posts, how many likes, and what became of each like sent.

Knows nothing of HTTP or of other processes; `participant` tells those what this one counted.
"""

import random
from collections import Counter
from collections.abc import Callable, Mapping
from itertools import accumulate
from typing import TypedDict

from gevent.greenlet import Greenlet
from gevent.pool import Group

from likesite.loadtest.outcome import Outcome


class Report(TypedDict):
    """What a process tells the organiser of a run, as Locust's messages carry it."""

    run: str
    requests: int  # like requests answered, retries among them: so many are in Locust's figures
    falls: int  # totals that were seen going down
    likes: list[list[int]]  # post, acknowledged, unknown, refused


class Run:
    """The likes of one run in this process.

    A like is unknown from the moment it is sent until an answer decides it, so that likes in flight when a process
    is stopped, or killed with their user, are counted as unknown with no further bookkeeping.
    """

    def __init__(self, name: str, posts: list[int], budget: int | None, on_spent: Callable[[], None]) -> None:
        """`budget`: how many likes to send, None for as many as there is time for. `on_spent`: after the last one."""
        self.name = name
        self.posts = posts
        self.requests = 0
        self.falls = 0
        self.closing = False
        self._left = budget
        self._open = 0
        self._on_spent = on_spent
        self._weights = list(accumulate(1 / rank for rank in range(1, len(posts) + 1)))
        self._sent: Counter[int] = Counter()
        self._decided: dict[Outcome, Counter[int]] = {outcome: Counter() for outcome in Outcome}
        self._in_flight = Group()

    def pick(self) -> int:
        """A post to look at or like: Zipf, the first of n posts gets about 1/ln(n) of everything."""
        return random.choices(self.posts, cum_weights=self._weights)[0]  # noqa: S311 (load, no secret)

    def over(self) -> bool:
        """No more likes: the run is being closed, or its budget is used up."""
        return self.closing or self._left == 0

    def send(self, post: int, deliver: Callable[[], Outcome]) -> "Greenlet[..., None]":
        """Send one like in a greenlet of its own: it ends with an outcome even when its user is stopped meanwhile."""
        if self._left is not None:
            self._left -= 1
        self._open += 1
        self._sent[post] += 1
        return self._in_flight.spawn(self._settle, post, deliver)

    def _settle(self, post: int, deliver: Callable[[], Outcome]) -> None:
        try:
            self._decided[deliver()][post] += 1
        finally:
            self._open -= 1
        if self._left == 0 and self._open == 0:
            self._on_spent()

    def drain(self, seconds: float) -> None:
        """Wait until no like is in flight, at most so long; what is still open then stays unknown."""
        self._in_flight.join(timeout=seconds)

    def compare(self, highest: dict[int, int], totals: Mapping[int, int]) -> list[int]:
        """Note totals that are lower than what the same reader saw before; answers their posts."""
        fallen = [post for post, total in totals.items() if total < highest.get(post, total)]
        highest.update({post: max(total, highest.get(post, total)) for post, total in totals.items()})
        self.falls += len(fallen)
        return fallen

    def report(self) -> Report:
        """Everything so far."""
        return Report(run=self.name, requests=self.requests, falls=self.falls, likes=[self._row(p) for p in self._sent])

    def _row(self, post: int) -> list[int]:
        acknowledged = self._decided[Outcome.ACKNOWLEDGED][post]
        refused = self._decided[Outcome.REFUSED][post] + self._decided[Outcome.NOT_APPLIED][post]
        return [post, acknowledged, self._sent[post] - acknowledged - refused, refused]
