"""What the state machine knows to be true, kept in plain Python: every like answered 202, and where it has to be.

Knows the product's doors and none of its code: it is told what was done, and says what a reader may then be told.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field

from likes.buffer import buffer
from likes.values import Batch


@dataclass
class Truth:
    """One post. `persisted`, `inflight` (not in PostgreSQL yet) and `pending` are likes.

    `taken` are the totals that adjustments took away and of which Redis has not been told: a reader may be shown the
    total from before any of them. A post that is `gone` may be shown until its delete is settled (`forgotten`).
    """

    persisted: int
    pending: int = 0
    inflight: int = 0
    taken: list[int] = field(default_factory=list)
    gone: bool = False
    forgotten: bool = False

    @property
    def likes(self) -> int:
        return self.persisted + self.inflight + self.pending

    @property
    def shown(self) -> set[int | None]:
        """What a reader may be told; None: that there is no such post."""
        if self.forgotten:
            return {None}
        known: set[int | None] = {self.likes + sum(self.taken[i:]) for i in range(len(self.taken) + 1)}
        return known | {None} if self.gone else known


@dataclass
class Moving:
    """The batch in flight of a shard."""

    batch: Batch
    applied: bool = False


@dataclass
class Model:
    """Every post, the batch in flight of each shard, and what was answered under which key."""

    posts: dict[int, Truth] = field(default_factory=dict)
    moving: dict[int, Moving] = field(default_factory=dict)
    applied: set[str] = field(default_factory=set)
    folded: set[str] = field(default_factory=set)
    orphaned: int = 0
    keys: dict[tuple[int, str], int] = field(default_factory=dict)
    bulk_keys: dict[str, tuple[list[tuple[int, int]], int, list[int]]] = field(default_factory=dict)

    def create(self, post: int, likes: int) -> None:
        self.posts[post] = Truth(likes)

    def accept(self, counts: Iterable[tuple[int, int]], unknown: Iterable[int] = ()) -> int:
        """Take likes that were answered 202; return how many."""
        refused = set(unknown)
        taken = [(post, count) for post, count in counts if post not in refused]
        for post, count in taken:
            self.posts[post].pending += count
        return sum(count for _, count in taken)

    def drain(self, batch: Batch) -> None:
        """Take note of a new batch: it must hold exactly what was pending of its posts."""
        assert batch.likes == {post: self.posts[post].pending for post in batch.likes}
        for post in batch.likes:
            self.posts[post].inflight, self.posts[post].pending = self.posts[post].pending, 0
        self.moving[batch.shard] = Moving(batch)

    def apply(self, batch: Batch) -> bool:
        """Take note of a commit; return whether it was the batch's first."""
        if batch.id in self.applied:
            return False
        self.applied.add(batch.id)
        self.moving[batch.shard].applied = True
        for post, count in batch.likes.items():
            truth = self.posts[post]
            truth.persisted, truth.inflight = truth.persisted + count, 0
            self.orphaned += count if truth.gone else 0
        return True

    def ack(self, batch: Batch) -> bool:
        """Take note of an ack; return whether the batch was still in flight."""
        moving = self.moving.get(batch.shard)
        if moving is None or moving.batch.id != batch.id:
            return False
        assert moving.applied, "a batch was acked that PostgreSQL does not hold"
        del self.moving[batch.shard]
        return True

    def reset(self, posts: Iterable[int]) -> None:
        for post in posts:
            truth = self.posts[post]
            truth.taken, truth.persisted = [*truth.taken, truth.persisted], 0

    def settle(self) -> None:
        for truth in self.posts.values():
            truth.taken, truth.forgotten = [], truth.gone

    def fold(self) -> None:
        """Take note of a fold of everything that is not in flight."""
        self.folded |= self.applied - {moving.batch.id for moving in self.moving.values()}

    def waiting(self, shard: int) -> bool:
        """Return whether likes of a shard are pending."""
        return any(truth.pending for post, truth in self.posts.items() if buffer.shard(post) == shard)

    def busy(self, post: int) -> bool:
        """Return whether likes of a post are pending or in flight in Redis."""
        return bool(self.posts[post].pending) or any(post in moving.batch.likes for moving in self.moving.values())

    def check_shown(self, shown: Mapping[int, int], posts: Iterable[int]) -> None:
        """Hold what a reader was told of posts against the truth."""
        for post in posts:
            likes = shown.get(post)
            assert likes in self.posts[post].shown, f"post {post}: {likes} shown, {self.posts[post]}"
