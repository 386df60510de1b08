"""The only door to counting Redis: its keys, its scripts, what they promise. Knows no model and no SQL."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, Literal, cast

from django.conf import settings
from redis.exceptions import ResponseError

from likes.survey import Survey, raise_refusals
from likes.values import Acked, Batch, Counted, Like, Look, Total, moment
from likes.wire import Broken, Call, Script, Unavailable, ask, connect, new_id, send

__all__ = ["Acked", "Batch", "Broken", "Buffer", "Counted", "Like", "Look", "Total", "Unavailable", "buffer", "flusher"]

BASE_SECONDS = 24 * 3600  # how long a post nobody likes stays warm
BARRIER_MILLISECONDS = 1500  # an everysec AOF is synced within one second, on a slow disk two
FLUSHER_TIMEOUT = 5.0  # seconds; a drain of LIKES_BATCH_POSTS counters, and the barrier behind it

LIKE, TOTALS, DRAIN, ACK, SETTLE, FAIL = (
    Script.load(name) for name in ("like", "totals", "drain", "ack", "settle", "fail")
)
COLD, COUNTED, REPLAYED, FAULTY = 0, 1, 2, 3


class Buffer(Survey):
    """Counters of one deployment in one Redis: every script that counts or moves likes."""

    # --- Counting.

    def like(self, likes: Sequence[Like]) -> list[Counted | None]:
        """Count likes, each whole or not at all, and return them in order; None for a cold post, not counted.

        One round trip, one script for each shard. Raises Unavailable.
        """
        groups: defaultdict[int, list[int]] = defaultdict(list)
        for place in sorted(range(len(likes)), key=lambda place: likes[place].key is not None):
            groups[self.shard(likes[place].post)].append(place)
        replies = send(self.client, [self.like_call(s, [likes[i] for i in places]) for s, places in groups.items()])
        counted: list[Counted | None] = [None] * len(likes)
        for places, (_, answers) in zip(groups.values(), replies, strict=True):
            for place, answer in zip(places, answers, strict=True):
                counted[place] = _counted(answer)
        return counted

    def like_under_key(
        self, key: str, calls: Mapping[int, tuple[Sequence[Like], str]]
    ) -> dict[int, tuple[str | None, list[Counted | None]]]:
        """Count, for each shard, its likes under one key of the whole call and keep the answer given beside them.

        Returns for each shard the answer kept, now or before, and what was counted now; no answer, and nothing counted,
        where a post was cold and nothing was written. Raises Unavailable.
        """
        replies = send(self.client, [self.like_call(s, likes, key, keep) for s, (likes, keep) in calls.items()])
        answers: dict[int, tuple[str | None, list[Counted | None]]] = {}
        for (shard, (_, keep)), (kept, entries) in zip(calls.items(), replies, strict=True):
            if any(entry[0] == COLD for entry in entries):
                answers[shard] = None, []
            else:
                answers[shard] = kept or keep, [_counted(entry) for entry in entries]
        return answers

    def kept_answers(self, key: str) -> dict[int, str]:
        """Return what each shard keeps under the key of a whole call. Raises Unavailable."""
        commands = [("GET", self.key(shard, f"idem:bulk:{key}")) for shard in range(self.shards)]
        replies = ask(self.client, [], *commands)
        raise_refusals(replies)
        return {shard: reply for shard, reply in enumerate(replies) if reply is not None}

    def answered(self, posts: Iterable[int], key: str) -> list[int]:
        """Return which of these posts keep the answer to a like under the key. Raises Unavailable."""
        asked = list(posts)
        replies = ask(self.client, [], *(("GET", self.key(self.shard(post), f"idem:{post}:{key}")) for post in asked))
        raise_refusals(replies)
        return [post for post, reply in zip(asked, replies, strict=True) if reply is not None]

    def like_call(self, shard: int, likes: Sequence[Like], call_key: str = "", keep: str = "") -> Call:
        """Return the script that counts likes of one shard, those with a key of their own last."""
        counts = [(like.post, like.count) for like in likes]
        own = [(like.post, like.key) for like in likes if like.key is not None]
        return self.count_call(shard, counts, own, call_key, keep)

    def count_call(
        self,
        shard: int,
        counts: Sequence[tuple[int, int]],
        own: Sequence[tuple[int, str]] = (),
        call_key: str = "",
        keep: str = "",
        epoch: str = "",
    ) -> Call:
        """The same for `(post, likes)` pairs; `own` are the keys of the last of them, each with its post.

        `epoch`: a UUID, fresh for this round trip, for the epoch that may begin with it.
        """
        tag, counters = self.counters(shard)
        names = [str(post) for post, _ in counts]
        keys = [*counters, f"{tag}idem:bulk:{call_key}"]
        keys += [f"{tag}pending:{name}" for name in names]
        keys += [f"{tag}base:{name}" for name in names]
        keys += [f"{tag}idem:{post}:{key}" for post, key in own]
        args: list[str | int] = [settings.LIKES_IDEMPOTENCY_SECONDS, epoch or new_id(), keep, len(own)]
        for name, (_, count) in zip(names, counts, strict=True):
            args += (name, count)
        return Call(LIKE, keys, args)

    # --- Totals, warm and cold.

    def look(
        self, posts: Mapping[int, Sequence[int]], found: Mapping[int, tuple[Look, Mapping[int, int]]]
    ) -> dict[int, Look]:
        """Read live totals of posts, grouped by shard, in one round trip. Raises Unavailable.

        `found` holds, for a shard, the look after which PostgreSQL was asked and the bases it gave; they are stored
        if nothing moved since.
        """
        replies = ask(
            self.client, [self.totals_call(shard, group, *found.get(shard, ())) for shard, group in posts.items()]
        )
        return {shard: looked(group, *reply) for (shard, group), reply in zip(posts.items(), replies, strict=True)}

    def totals_call(
        self, shard: int, posts: Sequence[int], seen: Look | None = None, bases: Mapping[int, int] | None = None
    ) -> Call:
        """Return the script that reads totals of one shard; `seen` and `bases` as `look` has them in `found`."""
        keys = self.keys(shard, "gen", "batch", "inflight", "version")
        args: list[str | int] = [BASE_SECONDS, seen.gen if seen else "", seen.batch if seen else ""]
        for post in posts:
            keys += self.keys(shard, f"base:{post}", f"pending:{post}")
            args += [post, (bases or {}).get(post, "")]
        return Call(TOTALS, keys, args)

    # --- Moving a batch.

    def drain(self, shard: int) -> Batch | Literal["busy", "idle"]:
        """Move counters of a shard into its batch in flight, or adopt one that was left. Raises Unavailable."""
        posts = cast("list[str]", self.plain("SRANDMEMBER", self.key(shard, "dirty"), settings.LIKES_BATCH_POSTS))
        names = ("dirty", "inflight", "batch", "since", "gen", "accepted", "epoch", "never")
        keys = self.keys(shard, *names, *(f"pending:{post}" for post in posts))
        adopt = int(settings.LIKES_ADOPT_SECONDS * 1_000_000)
        [reply], durable = self._durably([Call(DRAIN, keys, [new_id(), adopt, *posts])])
        if reply[0] in ("busy", "idle"):
            return cast('Literal["busy", "idle"]', reply[0])
        return _batch(shard, durable, reply)

    def ack(self, batch: Batch, totals: Mapping[int, int]) -> Acked:
        """Let a batch go that PostgreSQL holds; `totals` are the persisted ones of its posts, gone ones left out.

        Raises Unavailable; the batch is then adopted by a later tick.
        """
        keys = self.keys(batch.shard, "batch", "inflight", "gen", "version")
        args: list[str | int] = [batch.id, batch.gen, BASE_SECONDS]
        keys += self.keys(batch.shard, *(f"{name}:{post}" for name in ("base", "pending") for post in batch.likes))
        args += [totals.get(post, "") for post in batch.likes]
        [[status, version, places, pending]] = send(self.client, [Call(ACK, keys, args)])
        posts = list(batch.likes)
        again = {posts[int(place) - 1]: int(likes) for place, likes in zip(places, pending, strict=True)}
        return Acked(status, int(version), dict.fromkeys(posts, 0) | again)

    def fail(self, batch: Batch) -> int:
        """Count a data error against a batch and return how many it has had. Raises Unavailable."""
        keys = self.keys(batch.shard, "batch", "never")
        return int(send(self.client, [Call(FAIL, keys, [batch.id])])[0])

    def settle(self, posts: Iterable[int]) -> bool:
        """Forget what Redis knew of these totals; return whether that survives a power cut. Raises Unavailable."""
        calls = [
            Call(SETTLE, self.keys(shard, "gen", "version", *(f"base:{post}" for post in group)), [])
            for shard, group in self.by_shard(posts).items()
        ]
        return self._durably(calls)[1]

    def _durably(self, calls: Sequence[Call]) -> tuple[list[Any], bool]:
        """Send scripts and, behind them on the same connection, the question whether they are on disk."""
        if settings.LIKES_BARRIER == "off":
            return send(self.client, calls), True
        *replies, synced = send(self.client, calls, ("WAITAOF", 1, 0, BARRIER_MILLISECONDS))
        if isinstance(synced, ResponseError):  # before Redis 7.2, or without an AOF
            return replies, self.syncs_always()
        return replies, int(synced[0]) >= 1


def _counted(answer: Sequence[Any]) -> Counted | None:
    status, base, inflight, pending, version = answer
    if status == COLD:
        return None
    if status == FAULTY:
        raise Broken(base)
    return Counted(Total(int(base), int(inflight) + int(pending), int(version)), status == REPLAYED)


def looked(posts: Sequence[int], gen: str, batch: str, version: str, answers: Sequence[Sequence[Any]]) -> Look:
    """Return what the script that reads totals answered."""
    totals: dict[int, Total] = {}
    missing: dict[int, int] = {}
    for post, (base, inflight, pending) in zip(posts, answers, strict=True):
        if base is None:
            missing[post] = int(inflight)
        else:
            totals[post] = Total(int(base), int(inflight) + int(pending), int(version))
    return Look(gen, batch, totals, missing)


def _batch(shard: int, durable: bool, reply: Sequence[Any]) -> Batch:
    status, about, inflight, gen, left = reply
    told = dict(zip(about[::2], about[1::2], strict=True))
    return Batch(
        shard=shard,
        id=told["id"],
        kind=told["kind"],
        epoch=told["epoch"],
        accepted=int(told["accepted"]),
        drained_at=moment(told["drained_at"]),
        since=moment(told["since"]),
        failures=int(told["failures"]),
        likes={int(post): int(likes) for post, likes in zip(inflight[::2], inflight[1::2], strict=True)},
        gen=gen,
        adopted=status == "adopted",
        durable=durable,
        left=int(left),
    )


buffer = Buffer(connect(settings.REDIS_URL), settings.LIKES_PREFIX, settings.LIKES_SHARDS)
flusher = Buffer(connect(settings.REDIS_URL, FLUSHER_TIMEOUT), settings.LIKES_PREFIX, settings.LIKES_SHARDS)
