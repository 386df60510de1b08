"""What the fast lane's groups are in Redis: many likes or reads, one round trip, on the event loop.

Knows no HTTP; the keys and the scripts are the buffer's.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import NamedTuple

from likes.announcer import announcer
from likes.buffer import COLD, REPLAYED, Buffer, looked
from likes.values import Like, Total
from likes.wire import Broken, Unavailable, pool, send_each

Fault = Unavailable | Broken


class Taken(NamedTuple):
    """A like that was counted, now or before, and the live total that it made."""

    likes: int
    replayed: bool


class Trips:
    """Round trips for one event loop, through connections of its own."""

    def __init__(self, buffer: Buffer, url: str) -> None:
        self._buffer, self._pool = buffer, pool(url)

    async def count(self, likes: Sequence[Like]) -> list[Taken | Fault | None]:
        """Count a group of likes: those of one post that have no key as one, each answered with its own total.

        None for a like of a cold post, not counted; a fault for one whose shard refused it. Raises Unavailable.
        """
        together: dict[int, int] = {}
        keyed: list[Like] = []
        for like in likes:
            if like.key is None:
                together[like.post] = together.get(like.post, 0) + like.count
            else:
                keyed.append(like)
        answers = await self._count([*(Like(post, count) for post, count in together.items()), *keyed])
        of_post = dict(zip(together, answers, strict=False))
        of_keyed = iter(answers[len(together) :])
        told: list[Taken | Fault | None] = []
        for like in likes:
            if like.key is not None:
                told.append(next(of_keyed))
                continue
            answer = of_post[like.post]
            together[like.post] = later = together[like.post] - like.count
            told.append(Taken(answer.likes - later, replayed=False) if isinstance(answer, Taken) else answer)
        return told

    async def _count(self, likes: Sequence[Like]) -> list[Taken | Fault | None]:
        groups = self._buffer.places_by_shard(likes)
        calls = [self._buffer.like_call(shard, [likes[i] for i in places]) for shard, places in groups.items()]
        told: list[Taken | Fault | None] = [None] * len(likes)
        for places, reply in zip(groups.values(), await send_each(self._pool, calls), strict=True):
            if isinstance(reply, Unavailable | Broken):
                for place in places:
                    told[place] = reply
                continue
            for place, (status, base, inflight, pending, version) in zip(places, reply[1], strict=True):
                if status == COLD:
                    continue
                told[place] = taken = Taken(int(base) + int(inflight) + int(pending), status == REPLAYED)
                if not taken.replayed:
                    announcer.tell(likes[place].post, taken.likes, int(version), likes[place].count)
        return told

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
            if isinstance(reply, Unavailable | Broken):
                faults.update(dict.fromkeys(posts, reply))
            else:
                known.update(looked(posts, *reply).totals)
        return [answer_of(posts, known, faults) for posts in reads]


def answer_of(
    posts: Sequence[int], known: Mapping[int, Total], faults: Mapping[int, Fault]
) -> Mapping[int, Total] | Fault | None:
    """Return what one read is told: the fault of a shard that it asked, None where a post is cold, or the totals."""
    for post in posts:
        if post in faults:
            return faults[post]
    return known if all(post in known for post in posts) else None
