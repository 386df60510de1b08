"""Which posts do not exist, remembered for a moment; knows no server."""

from __future__ import annotations

import time
from collections.abc import Callable, Collection, Iterable

ABSENT_SECONDS = 1.0  # how long a post is remembered as absent
ABSENT_POSTS = 10_000  # how many are

Clock = Callable[[], float]


class Absent:
    """Posts known not to exist, for a second, so that a flood of bad ids is not a flood of SQL.

    Only ids up to the highest that this process has seen: a higher one may be created at any moment.
    """

    def __init__(self, clock: Clock = time.monotonic) -> None:
        self._clock, self._until, self._highest = clock, dict[int, float](), 0

    def note(self, asked: Iterable[int], found: Collection[int]) -> None:
        """Remember what PostgreSQL answered."""
        self._highest = max(self._highest, *found, 0)
        if len(self._until) > ABSENT_POSTS:
            self._until.clear()
        until = self._clock() + ABSENT_SECONDS
        self._until.update({post: until for post in asked if post not in found and post <= self._highest})

    def forget(self) -> None:
        """Forget everything, the highest id too."""
        self._until.clear()
        self._highest = 0

    def __contains__(self, post: int) -> bool:
        return self._until.get(post, 0.0) > self._clock()
