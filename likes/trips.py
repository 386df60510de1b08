"""What the fast lane's groups are in Redis: many likes or reads, one round trip, on the event loop.

Knows no HTTP; the keys and the scripts are the buffer's.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping, Sequence
from itertools import repeat
from typing import Any, NamedTuple

from likes.announcer import announcer
from likes.buffer import COLD, FAULTY, REPLAYED, Buffer, looked
from likes.values import Total
from likes.wire import Broken, Unavailable, new_id, pool, send_each

Wanted = tuple[int, str | None]  # a like: its post, and its Idempotency-Key
Fault = Unavailable | Broken
Group = tuple[list[tuple[int, int]], list[tuple[int, str]]]  # of one shard: likes by post, likes under keys
News = tuple[int, tuple[int, int, int]]  # a post: its total, version, growth
Told = int | Fault | None  # the live total that a like made; why it was not counted; None: its post is cold


class Replayed(int):
    """The total of a like that was counted before, under the same key."""


class Many(NamedTuple):
    """What became of one bulk call: its likes that were counted, its cold posts, which were not."""

    accepted: int
    cold: dict[int, int]


class Trips:
    """Round trips for one event loop, through connections of its own."""

    def __init__(self, buffer: Buffer, url: str) -> None:
        self._buffer, self._pool = buffer, pool(url)

    async def count(self, likes: Sequence[Wanted]) -> list[Told]:
        """Count a group of likes: those of one post that have no key as one, each told its own total.

        Raises Unavailable for what befell all of them.
        """
        together: dict[int, int] = {}
        keyed: list[tuple[int, str]] = []
        for post, key in likes:
            if key is None:
                together[post] = together.get(post, 0) + 1
            else:
                keyed.append((post, key))
        of_post, of_keyed = await self._count(together, keyed)
        told: list[Told] = []
        for post, key in likes:
            if key is not None:
                told.append(of_keyed[post, key].pop(0))
                continue
            total = of_post[post]
            together[post] = later = together[post] - 1
            told.append(total - later if isinstance(total, int) else total)
        return told

    async def count_many(self, calls: Sequence[Mapping[int, int]]) -> list[Many | Fault]:
        """Count a group of bulk calls, each likes by post; those of one post as one. Raises Unavailable."""
        together: dict[int, int] = dict(calls[0])
        for call in calls[1:]:
            for post, count in call.items():
                together[post] = together.get(post, 0) + count
        of_post, _ = await self._count(together, ())
        return [became(call, of_post) for call in calls]

    async def _count(
        self, counts: Mapping[int, int], keyed: Sequence[tuple[int, str]]
    ) -> tuple[dict[int, Told], dict[tuple[int, str], list[Told]]]:
        """Count likes by post, and likes under keys; return what each is told, in the order of those under one key."""
        groups: defaultdict[int, Group] = defaultdict(lambda: ([], []))
        shard = self._buffer.shard
        for like in counts.items():
            groups[shard(like[0])][0].append(like)
        for own_like in keyed:
            groups[shard(own_like[0])][1].append(own_like)
        epoch = new_id()
        calls = [
            self._buffer.count_call(number, [*plain, *((post, 1) for post, _ in own)], own, epoch=epoch)
            for number, (plain, own) in groups.items()
        ]
        of_post: dict[int, Told] = {}
        of_keyed: dict[tuple[int, str], list[Told]] = defaultdict(list)
        news: list[News] = []
        for (plain, own), reply in zip(groups.values(), await send_each(self._pool, calls), strict=True):
            answers = repeat(reply) if isinstance(reply, Fault) else iter(reply[1])
            for (post, count), answer in zip(plain, answers, strict=False):
                of_post[post] = told_of(post, count, answer, news)
            for own_like, answer in zip(own, answers, strict=False):
                of_keyed[own_like].append(told_of(own_like[0], 1, answer, news))
        announcer.tell_all(news)
        return of_post, of_keyed

    async def look(self, reads: Sequence[Sequence[int]]) -> list[Mapping[int, Total] | Fault | None]:
        """Read the totals of a group of reads at once; None for a read with a cold post. Raises Unavailable."""
        groups = self._buffer.by_shard({post for posts in reads for post in posts})
        calls = [self._buffer.totals_call(shard, posts) for shard, posts in groups.items()]
        try:
            replies = await send_each(self._pool, calls)
        except Unavailable as error:
            raise Unavailable("not_applied", str(error)) from error  # a read changes nothing
        known: dict[int, Total] = {}
        faults: dict[int, Fault] = {}
        for posts, reply in zip(groups.values(), replies, strict=True):
            if isinstance(reply, Fault):
                faults.update(dict.fromkeys(posts, reply))
            else:
                known.update(looked(posts, *reply).totals)
        return [answer_of(posts, known, faults) for posts in reads]


def told_of(post: int, count: int, answer: Any, news: list[News]) -> Told:
    """Return what a like is told; a total that is new is news."""
    if isinstance(answer, Fault):
        return answer
    try:
        status, base, inflight, pending, version = answer
        if status == COLD:
            return None
        if status == FAULTY:
            return Broken(base)
        total = int(base) + int(inflight) + int(pending)
    except ValueError as error:  # somebody else's text under a key of ours
        return Broken(str(error))
    if status == REPLAYED:
        return Replayed(total)
    news.append((post, (total, version, count)))
    return total


def became(call: Mapping[int, int], of_post: Mapping[int, Told]) -> Many | Fault:
    """Return what became of one bulk call; what was refused in part may not be called not applied."""
    told = [of_post[post] for post in call]
    faults = [fault for fault in told if isinstance(fault, Fault)]
    if broken := [fault for fault in faults if isinstance(fault, Broken)]:
        return broken[0]
    if faults:
        return Unavailable(
            "unknown" if any(isinstance(total, int) for total in told) else "not_applied", str(faults[0])
        )
    cold = {post: count for post, count in call.items() if of_post[post] is None}
    return Many(sum(call.values()) - sum(cold.values()), cold)


def answer_of(
    posts: Sequence[int], known: Mapping[int, Total], faults: Mapping[int, Fault]
) -> Mapping[int, Total] | Fault | None:
    """Return what one read is told: the fault of a shard that it asked, None where a post is cold, or the totals."""
    for post in posts:
        if post in faults:
            return faults[post]
    return known if all(post in known for post in posts) else None
