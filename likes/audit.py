"""Proof that every accepted like is counted once: what Redis took, held against what PostgreSQL has.

Changes nothing, and needs no quiet: it looks again where a batch moved while it looked.
"""

from __future__ import annotations

import time
from collections.abc import Iterator
from dataclasses import asdict, dataclass, field
from typing import Any

from likes import books
from likes.buffer import flusher

SHARD_SECONDS = 20.0  # how long a shard is looked at again and again while batches move
PAUSE = 0.05  # seconds between two looks


@dataclass(frozen=True, slots=True)
class Shard:
    """Likes of one life of a shard: taken by Redis, and where they are now."""

    shard: int
    epoch: str
    accepted: int
    drained: int
    inflight: int
    pending: int

    @property
    def drift(self) -> int:
        """Likes accepted that are nowhere; below zero, likes that nobody accepted."""
        return self.accepted - self.drained - self.inflight - self.pending


@dataclass(frozen=True, slots=True)
class Loss:
    """What a Redis that was wiped took with it, at least."""

    shard: int
    epoch: str
    likes: int
    noted: bool


@dataclass(slots=True)
class Audit:
    """The books at one moment; `undecided` names shards that would not hold still."""

    sums: books.Sums
    shards: list[Shard] = field(default_factory=list)
    losses: list[Loss] = field(default_factory=list)
    undecided: list[int] = field(default_factory=list)

    @property
    def drifting(self) -> bool:
        lost = any(loss.likes and not loss.noted for loss in self.losses)
        return bool(self.sums.drift) or lost or any(shard.drift for shard in self.shards)

    @property
    def exit_code(self) -> int:
        """0: every like is where it belongs; 1: some are not; 2: could not tell."""
        return 1 if self.drifting else 2 if self.undecided else 0

    def as_json(self) -> dict[str, Any]:
        """Return the audit as plain values, with the drift of each part."""
        return {
            "exit_code": self.exit_code,
            "sums": asdict(self.sums) | {"drift": self.sums.drift},
            "shards": [asdict(shard) | {"drift": shard.drift} for shard in self.shards],
            "losses": [asdict(loss) for loss in self.losses],
            "undecided": self.undecided,
        }


def take(seconds: float = SHARD_SECONDS) -> Audit:
    """Audit every shard, then the totals. Raises buffer.Unavailable, django.db.Error when a server is away."""
    audit = Audit(sums=books.sums())
    for number in range(flusher.shards):
        shard = _settled_look(number, seconds)
        if shard is None:
            audit.undecided.append(number)
        else:
            audit.shards.append(shard)
    audit.losses = list(_losses({shard.shard: shard.epoch for shard in audit.shards}))
    return audit


def _settled_look(number: int, seconds: float) -> Shard | None:
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        if shard := _look(number):
            return shard
        time.sleep(PAUSE)
    return None


def _look(number: int) -> Shard | None:
    """Look at Redis, then at PostgreSQL; None when a batch moved between the two."""
    seen = flusher.audit_look(number)
    if seen is None:
        return None
    drained, applied = books.drained(number, seen.batch)
    if flusher.gen(number) != seen.gen:
        return None
    inflight = 0 if applied else seen.inflight
    return Shard(number, seen.epoch, seen.accepted, drained.get(seen.epoch, 0), inflight, seen.pending)


def _losses(living: dict[int, str]) -> Iterator[Loss]:
    """Yield the epochs that ended: their Redis was wiped, and what it had not given away is gone."""
    for known in books.epochs():
        if known.shard in living and str(known.epoch) != living[known.shard]:
            yield Loss(known.shard, str(known.epoch), max(known.shortfall, 0), known.noted_at is not None)
