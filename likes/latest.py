"""The latest total of each post, as one process knows it; knows versions and arithmetic, no streams and no network.

What is made of a total is made once, as bytes, for all the streams that are told.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Iterable

UNKNOWN = -1  # below every version: the next total is taken, whatever its version


def event(count: int, members: Iterable[bytes]) -> bytes:
    """Return the event that tells `members`, totals by post; `count`: by how much they grew."""
    return b'data: {"count":%d,"likes":{%b}}\n\n' % (count, b",".join(members))


def member(post: int, total: int) -> bytes:
    """Return what an event says of one post."""
    return b'"%d":%d' % (post, total)


class Latest:
    """The latest known total of one post; `text` is its member of an event, empty while nothing is known."""

    __slots__ = ("_events", "_post", "text", "total", "version")

    def __init__(self, post: int) -> None:
        self._post = post
        self._events: dict[int, bytes] = {}
        self.total: int | None = None
        self.version = UNKNOWN
        self.text = b""

    def offer(self, total: int, version: int) -> bool:
        """Take `total`, unless it is older than what is known; return whether anything changed."""
        if version < self.version:
            return False
        self.version = version
        if total == self.total:
            return False
        self.total = total
        self.text = member(self._post, total)
        self._events.clear()
        return True

    def event_after(self, told: int) -> bytes:
        """Return the event of this post alone for those who were told `told` last: the same bytes for all of them."""
        found = self._events.get(told)
        if found is None:
            found = self._events[told] = event((self.total or 0) - told, [self.text])
        return found


class _Entry:
    __slots__ = ("at", "start", "text", "total", "version")

    def __init__(self, post: int, total: int, version: int, start: int, at: int) -> None:
        self.total, self.version, self.at = total, version, at
        self.text = member(post, total)
        self.start = start  # growth is counted from this total on


class Announced:
    """The totals that were announced, in the order of their last change, and how much they grew altogether.

    A stream of all posts needs no memory of its own beside two numbers: `now` and `grown` at its last event.
    Holds the `limit` posts that changed last.
    """

    def __init__(self, limit: int) -> None:
        self._entries: OrderedDict[int, _Entry] = OrderedDict()
        self._limit = limit
        self._event: tuple[int, int, bytes] = (0, 0, b"")
        self.now = 0
        self.grown = 0
        self.forgotten = 0  # changes up to this one may be gone

    def offer(self, post: int, total: int, version: int, added: int) -> None:
        """Take `total` unless it is older than what is known; a post not known counts as grown by `added`.

        So does what a process added before another one's totals, told first, began.
        """
        entry = self._entries.get(post)
        if entry is None:
            self.now += 1
            self.grown += added
            self._entries[post] = _Entry(post, total, version, total - added, self.now)
            self._forget_oldest()
            return
        growth = total - entry.total if version >= entry.version else 0
        before = entry.start - (total - added) if added and growth >= 0 else 0
        entry.version = max(version, entry.version)
        entry.start = min(entry.start, total - added, total)
        if growth or before > 0:
            self._change(post, entry, growth, max(before, 0))

    def correct(self, post: int, total: int, version: int) -> None:
        """Take a total that was read, not announced: of a post not known, nobody can say how much it grew."""
        if post in self._entries:
            self.offer(post, total, version, 0)

    def _change(self, post: int, entry: _Entry, growth: int, before: int) -> None:
        self.now += 1
        self.grown += growth + before
        entry.total += growth
        entry.text = member(post, entry.total)
        entry.at = self.now
        self._entries.move_to_end(post)

    def _forget_oldest(self) -> None:
        if len(self._entries) > self._limit:
            _, oldest = self._entries.popitem(last=False)
            self.forgotten = oldest.at

    def doubt(self) -> None:
        """Forget every version: Redis was away, may have been wiped, and what it says next is right."""
        for entry in self._entries.values():
            entry.version = UNKNOWN

    def last(self, number: int) -> list[int]:
        """Return the `number` posts that changed last, the latest first."""
        return [post for post, _ in zip(reversed(self._entries), range(number), strict=False)]

    def since(self, at: int, grown: int) -> bytes:
        """Return the event of a stream that was told at `at`, when all had `grown` so much; shared by those there."""
        if self._event[:2] != (at, self.now):
            self._event = (at, self.now, event(self.grown - grown, self._members(at)))
        return self._event[2]

    def _members(self, at: int) -> list[bytes]:
        members = []
        for entry in reversed(self._entries.values()):
            if entry.at <= at:
                break
            members.append(entry.text)
        return members
