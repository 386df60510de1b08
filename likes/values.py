"""What passes between the doors: likes, totals, batches, as plain values. Knows neither Redis nor PostgreSQL."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Literal


@dataclass(frozen=True, slots=True)
class Like:
    """`count` likes of a post, under an Idempotency-Key or none."""

    post: int
    count: int = 1
    key: str | None = None


@dataclass(frozen=True, slots=True)
class Total:
    """A live total of one moment: what PostgreSQL holds, what is on its way there, and when (`version` grows)."""

    persisted: int
    pending: int
    version: int

    @property
    def likes(self) -> int:
        return self.persisted + self.pending


@dataclass(frozen=True, slots=True)
class Counted:
    """A like that was taken, now or, when `replayed`, before under the same key."""

    total: Total
    replayed: bool


@dataclass(frozen=True, slots=True)
class BulkLiked:
    """How many likes a bulk call counted, and which of its posts do not exist."""

    accepted: int
    unknown: list[int]
    replayed: bool


@dataclass(frozen=True, slots=True)
class Look:
    """What one look at posts of a shard saw; `missing` are cold, `inflight` is per post."""

    gen: str
    batch: str
    totals: dict[int, Total]
    missing: dict[int, int]  # cold post → its likes in flight


@dataclass(frozen=True, slots=True)
class Batch:
    """Likes drained together. Times are of Redis' clock; `durable` says that the drain survives a power cut."""

    shard: int
    id: str
    kind: str
    epoch: str
    accepted: int
    drained_at: datetime
    since: datetime
    failures: int
    likes: dict[int, int]
    gen: str
    adopted: bool
    durable: bool
    left: int  # counters still in `dirty`

    @property
    def total(self) -> int:
        """All likes of the batch."""
        return sum(self.likes.values())


@dataclass(frozen=True, slots=True)
class ShardLook:
    """A shard at one moment, for the audit."""

    gen: str
    batch: str
    epoch: str
    accepted: int
    inflight: int
    pending: int


@dataclass(frozen=True, slots=True)
class Acked:
    """What became of an ack: `acked`, `adjusted` (a total changed meanwhile) or `late` (somebody else did it)."""

    status: Literal["acked", "adjusted", "late"]
    version: int
    pending: dict[int, int]


def moment(microseconds: str) -> datetime:
    """Return Redis' TIME in microseconds as a datetime, exactly."""
    seconds, rest = divmod(int(microseconds), 1_000_000)
    return datetime.fromtimestamp(seconds, UTC).replace(microsecond=rest)
