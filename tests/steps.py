"""The steps of a flush and of a cold read, one at a time, for tests that put something between two of them."""

from __future__ import annotations

from collections.abc import Iterable

from django.db.models import QuerySet
from django.test import override_settings

from likes import counts, ledger
from likes.buffer import buffer, flusher
from likes.models import Post
from likes.values import Acked, Batch, Look


def a_post(likes: int = 0) -> int:
    return Post.objects.create(title="a post", likes=likes).pk


def two_posts_of_a_shard() -> tuple[int, int]:
    first = a_post()
    while buffer.shard(second := a_post()) != buffer.shard(first):
        pass
    return first, second


def only(*posts: int) -> QuerySet[Post]:
    return Post.objects.filter(pk__in=posts)


def live(post: int) -> int:
    """Return what a reader is told."""
    return counts.totals([post])[post].likes


def persisted(post: int) -> int:
    return Post.objects.get(pk=post).likes


def key(post: int, name: str) -> str:
    return buffer.key(buffer.shard(post), name)


def base(post: int) -> str | None:
    """Return the base of a post as it stands in Redis."""
    return buffer.client.get(key(post, f"base:{post}"))


def expires(post: int) -> bool:
    """Return whether the base of a post, which must be there, has an expiry."""
    seconds = buffer.client.ttl(key(post, f"base:{post}"))
    assert seconds != -2, f"post {post} has no base"
    return bool(seconds > 0)


def drain(post: int) -> Batch:
    """Drain the post's shard, where nothing may be in flight."""
    batch = flusher.drain(buffer.shard(post))
    assert isinstance(batch, Batch)
    assert not batch.adopted
    return batch


def adopt(post: int) -> Batch:
    """Take over the batch in flight of the post's shard."""
    with override_settings(LIKES_ADOPT_SECONDS=0):
        batch = flusher.drain(buffer.shard(post))
    assert isinstance(batch, Batch)
    assert batch.adopted
    return batch


def ack(batch: Batch) -> Acked:
    """Apply a batch, or find that it was, and let it go."""
    return flusher.ack(batch, ledger.apply(batch).totals)


def flush(post: int) -> None:
    assert ack(drain(post)).status == "acked"


class ColdReader:
    """A reader of one post that stops before PostgreSQL, and again before it stores what it learnt there."""

    def __init__(self, post: int) -> None:
        self.post, self.shard = post, buffer.shard(post)
        self.seen = self._look({})
        assert post in self.seen.missing, "the post is not cold"
        self.found: dict[int, tuple[Look, dict[int, int]]] = {}

    def ask_postgres(self) -> ColdReader:
        self.found = counts._ask_postgres({self.shard: self.seen})
        return self

    def store(self) -> int | None:
        """Store the base if nothing moved; return the live total, None when it has to begin again."""
        look = self._look(self.found)
        return look.totals[self.post].likes if self.post in look.totals else None

    def _look(self, found: dict[int, tuple[Look, dict[int, int]]]) -> Look:
        return buffer.look({self.shard: [self.post]}, found)[self.shard]


def forget_bases(posts: Iterable[int]) -> None:
    """Let bases expire."""
    for post in posts:
        buffer.client.delete(key(post, f"base:{post}"))
