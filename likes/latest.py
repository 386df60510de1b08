"""The latest total of each post, as one process knows it; knows versions and arithmetic, no streams and no network."""

from __future__ import annotations

from collections import OrderedDict
from typing import NamedTuple

UNKNOWN = -1  # below every version: the next total is taken, whatever its version


class Latest:
    """The latest known total of one post; `text` is its member of an event, made once for all who are told."""

    __slots__ = ("_post", "text", "total", "version")

    def __init__(self, post: int) -> None:
        self._post = post
        self.total: int | None = None
        self.version = UNKNOWN
        self.text = ""

    def offer(self, total: int, version: int) -> bool:
        """Take `total`, unless it is older than what is known; return whether anything changed."""
        if version < self.version:
            return False
        self.version = version
        if total == self.total:
            return False
        self.total = total
        self.text = f'"{self._post}":{total}'
        return True


class _Entry(NamedTuple):
    total: int
    version: int
    at: int  # the value of Announced.now that this change made


class Announced:
    """The totals that flushes announced, in the order of their last change, and how much they grew altogether.

    A stream of all posts needs no memory of its own beside two numbers: `now` and `grown` at its last event.
    Holds the `limit` posts that changed last.
    """

    def __init__(self, limit: int) -> None:
        self._entries: OrderedDict[int, _Entry] = OrderedDict()
        self._limit = limit
        self._text: tuple[int, int, str] = (0, 0, "")
        self.now = 0
        self.grown = 0
        self.forgotten = 0  # changes up to this one may be gone

    def offer(self, post: int, total: int, version: int, added: int) -> None:
        """Take `total` unless it is older than what is known; a post not known counts as grown by `added`."""
        known = self._entries.get(post)
        if known is None:
            self._change(post, total, version, added)
        elif version >= known.version and total != known.total:
            self._change(post, total, version, total - known.total)
        elif version > known.version:
            self._entries[post] = known._replace(version=version)

    def correct(self, post: int, total: int, version: int) -> None:
        """Take a total that was read, not announced: of a post not known, nobody can say how much it grew."""
        if post in self._entries:
            self.offer(post, total, version, 0)

    def _change(self, post: int, total: int, version: int, growth: int) -> None:
        self.now += 1
        self.grown += growth
        self._entries[post] = _Entry(total, version, self.now)
        self._entries.move_to_end(post)
        if len(self._entries) > self._limit:
            _, oldest = self._entries.popitem(last=False)
            self.forgotten = oldest.at

    def doubt(self) -> None:
        """Forget every version: Redis was away, may have been wiped, and what it says next is right."""
        for post, entry in self._entries.items():
            self._entries[post] = entry._replace(version=UNKNOWN)

    def last(self, number: int) -> list[int]:
        """Return the `number` posts that changed last, the latest first."""
        return [post for post, _ in zip(reversed(self._entries), range(number), strict=False)]

    def since(self, at: int) -> str:
        """Return the members of an event that tells every change after `at`; streams at one place share the text."""
        if self._text[:2] != (at, self.now):
            self._text = (at, self.now, self._members(at))
        return self._text[2]

    def _members(self, at: int) -> str:
        members = []
        for post, entry in reversed(self._entries.items()):
            if entry.at <= at:
                break
            members.append(f'"{post}":{entry.total}')
        return ",".join(members)
