"""What operators ask of counting Redis: how it is set up, what waits, what the audit needs. Changes nothing there.

Names the keys, which `likes.buffer` counts and moves with. Knows no model and no SQL.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, cast
from zlib import crc32

import redis
from redis.exceptions import ResponseError

from likes.values import ShardLook, moment
from likes.wire import Call, Script, Unavailable, ask

LOOK = Script.load("look")


class Survey:
    """The keys of one deployment's counters in one Redis, and questions about them."""

    def __init__(self, client: redis.Redis, prefix: str, shards: int) -> None:
        self.client, self.prefix, self.shards = client, prefix, shards
        self._counters: dict[int, tuple[str, list[str]]] = {}

    def shard(self, post: int) -> int:
        """Return the shard of a post: fixed for the life of a deployment."""
        return crc32(str(post).encode()) % self.shards

    def key(self, shard: int, name: str) -> str:
        """Return a key of a shard; the braces put all of a shard into one slot of a cluster."""
        return f"{{{self.prefix}:{shard:02d}}}:{name}"

    def keys(self, shard: int, *names: str) -> list[str]:
        """Return several keys of a shard."""
        tag = self.key(shard, "")
        return [tag + name for name in names]

    def counters(self, shard: int) -> tuple[str, list[str]]:
        """Return the tag of a shard, and the keys that every like of it touches."""
        known = self._counters.get(shard)
        if known is None:
            names = ("dirty", "inflight", "accepted", "version", "since", "epoch")
            known = self._counters[shard] = self.key(shard, ""), self.keys(shard, *names)
        return known

    def by_shard(self, posts: Iterable[int]) -> dict[int, list[int]]:
        """Group posts by their shard."""
        groups: defaultdict[int, list[int]] = defaultdict(list)
        for post in posts:
            groups[self.shard(post)].append(post)
        return dict(groups)

    def syncs_always(self) -> bool:
        """Return whether a reply of Redis means that the write is on disk. Raises Unavailable."""
        replies = ask(self.client, [], ("CONFIG", "GET", "appendonly"), ("CONFIG", "GET", "appendfsync"))
        return [_setting(reply) for reply in replies] == ["yes", "always"]

    def waits_for_disk(self) -> bool:
        """Return whether Redis can be asked to wait until a write is on disk. Raises Unavailable."""
        commands = (("WAITAOF", 0, 0, 1), ("INFO", "persistence"), ("CONFIG", "GET", "appendfsync"))
        reply, persistence, policy = ask(self.client, [], *commands)
        refused = isinstance(reply, ResponseError) or persistence.get("aof_enabled") != 1
        return not refused and _setting(policy) != "no"  # nobody syncs then, and every wait would be in vain

    def evicts(self) -> str:
        """Return Redis' maxmemory policy; anything but noeviction loses likes. Raises Unavailable."""
        [memory] = ask(self.client, [], ("INFO", "memory"))
        return str(memory["maxmemory_policy"])

    def work(self) -> list[int]:
        """Return the shards that have likes to move. Raises Unavailable."""
        commands = [("EXISTS", *self.keys(shard, "dirty", "batch")) for shard in range(self.shards)]
        replies = ask(self.client, [], *commands)
        raise_refusals(replies)
        return [shard for shard, reply in enumerate(replies) if reply]

    def status(self) -> list[dict[str, Any]]:
        """Return for each shard: accepted, epoch, since and batch (`drained_at`, `failures`). Raises Unavailable.

        Times are datetimes of Redis' clock, or None.
        """
        commands: list[Sequence[str]] = [("TIME",)]
        for shard in range(self.shards):
            commands += [
                ("MGET", *self.keys(shard, "accepted", "epoch", "since")),
                ("HGETALL", self.key(shard, "batch")),
            ]
        now, *replies = ask(self.client, [], *commands)
        raise_refusals([now, *replies])
        return [_status(now, *pair) for pair in zip(replies[::2], replies[1::2], strict=True)]

    def audit_look(self, shard: int) -> ShardLook | None:
        """Return a shard as of one moment; None when posts became dirty while it was read. Raises Unavailable."""
        posts = cast("set[str]", self.plain("SMEMBERS", self.key(shard, "dirty")))
        names = ("gen", "batch", "inflight", "accepted", "epoch", "dirty")
        keys = self.keys(shard, *names, *(f"pending:{post}" for post in posts))
        [[gen, batch, accepted, epoch, dirty, inflight, pending]] = ask(self.client, [Call(LOOK, keys, [])])
        counters = [int(likes) for likes in pending if likes is not None]
        if len(counters) != dirty:  # as many as before is not enough: some may have gone while others came
            return None
        return ShardLook(gen, batch, epoch, int(accepted), sum(map(int, inflight)), sum(counters))

    def gen(self, shard: int) -> str:
        """Return the shard's `gen`: unchanged, no batch moved and no total was adjusted. Raises Unavailable."""
        return cast("str", self.plain("GET", self.key(shard, "gen")) or "")

    def plain(self, *command: str | int) -> Any:
        replies = ask(self.client, [], command)
        raise_refusals(replies)
        return replies[0]


def _status(now: Sequence[int], counters: Sequence[str | None], batch: Mapping[str, str]) -> dict[str, Any]:
    accepted, epoch, since = counters
    oldest = [moment(value) for value in (since, batch.get("since")) if value]
    return {
        "now": moment(str(int(now[0]) * 1_000_000 + int(now[1]))),
        "accepted": int(accepted or 0),
        "epoch": epoch,
        "since": min(oldest, default=None),
        "drained_at": moment(batch["drained_at"]) if batch else None,
        "failures": int(batch.get("failures", 0)),
    }


def _setting(reply: Any) -> str | None:
    """Return the value in a reply to CONFIG GET, [name, value]; None where the server forbids asking."""
    return None if isinstance(reply, ResponseError) or len(reply) < 2 else str(reply[1])


def raise_refusals(replies: Sequence[Any]) -> None:
    for reply in replies:
        if isinstance(reply, ResponseError):
            raise Unavailable("not_applied", f"Redis refuses to answer: {reply}")
