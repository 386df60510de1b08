"""The counting protocol, door by door."""

from collections.abc import Callable, Iterator

import pytest
from django.core.management import call_command
from django.db import IntegrityError

from likes import audit, books, counts, events, ledger, tasks
from likes.buffer import Batch
from likes.models import Post


def test_a_like_is_in_every_read_at_once_and_persisted_by_the_flush() -> None:
    post = Post.objects.create(title="one")
    assert counts.like(post.pk).likes == 1
    assert counts.like(post.pk).likes == 2
    total = counts.totals([post.pk])[post.pk]
    assert (total.persisted, total.pending) == (0, 2)
    tasks.flush_shard(counts.buffer.shard(post.pk))
    total = counts.totals([post.pk])[post.pk]
    assert (total.persisted, total.pending) == (2, 0)
    post.refresh_from_db()
    assert post.likes == 2


def test_the_audit_finds_a_like_that_nobody_accepted() -> None:
    post = Post.objects.create(title="one")
    counts.like(post.pk)
    assert audit.take().exit_code == 0
    tasks.flush_shard(counts.buffer.shard(post.pk))
    assert audit.take().exit_code == 0
    Post.objects.filter(pk=post.pk).update(likes=2)
    taken = audit.take()
    assert (taken.exit_code, taken.sums.drift) == (1, 1)


def test_reset_and_delete_are_on_record() -> None:
    posts = [Post.objects.create(title=f"{n}", likes=n) for n in range(3)]
    counts.like_many([(post.pk, 5) for post in posts])
    assert sum(counts.reset(Post.objects.all(), by="a test")) == 2
    assert counts.totals([posts[2].pk])[posts[2].pk].likes == 5
    deleted = posts[1].pk
    posts[1].delete()
    assert counts.settle() == 1
    assert not books.unsettled()
    call_command("flush")
    assert set(counts.totals([post.pk or deleted for post in posts])) == {posts[0].pk, posts[2].pk}
    taken = audit.take()
    assert (taken.exit_code, taken.sums.orphaned, taken.sums.totals) == (0, 5, 10)


@pytest.fixture
def heard() -> Iterator[Callable[[], events.Update]]:
    """Return the next update that the streams are told."""
    with counts.buffer.client.pubsub(ignore_subscribe_messages=True) as subscription:
        subscription.subscribe(events.WIRE)
        subscription.get_message(timeout=5)

        def next_update() -> events.Update:
            while message := subscription.get_message(timeout=10):
                update = events.parse(message["data"])
                if isinstance(update, events.Update):
                    return update
            raise AssertionError("nothing was announced")

        yield next_update


def totals(update: events.Update) -> dict[int, int]:
    return {post: total for post, (total, _, _) in update.posts.items()}


def test_a_reset_reaches_the_streams_at_once(heard: Callable[[], events.Update]) -> None:
    post = Post.objects.create(title="one", likes=7)
    assert sum(counts.reset(Post.objects.all(), by="a test")) == 1
    assert totals(heard()) == {post.pk: 0}


def drained(post: Post) -> Batch:
    batch = counts.flusher.drain(counts.buffer.shard(post.pk))
    assert isinstance(batch, Batch)
    return batch


def finish(batch: Batch) -> None:
    """Do what a flush does after its drain."""
    applied = ledger.apply(batch)
    tasks._announce(batch, applied, counts.flusher.ack(batch, applied.totals), 1.0)


def test_a_flush_tells_the_totals_of_now_and_leaves_growth_to_who_took_the_likes(
    heard: Callable[[], events.Update],
) -> None:
    post = Post.objects.create(title="one")
    counts.like_many([(post.pk, 10)])
    batch = drained(post)
    counts.like_many([(post.pk, 5)])
    finish(batch)
    [(told, (total, _, added))] = heard().posts.items()
    assert (told, total, added) == (post.pk, 15, 0)


def test_a_flush_that_met_an_adjustment_tells_the_totals_of_now(heard: Callable[[], events.Update]) -> None:
    post, neighbour = same_shard(2)
    counts.like_many([(post.pk, 10), (neighbour.pk, 1)])
    batch = drained(post)
    assert sum(counts.reset(Post.objects.filter(pk=neighbour.pk), by="a test")) == 0
    neighbour.delete()
    assert counts.settle() == 1
    finish(batch)
    assert totals(heard()) == {post.pk: 10}


def same_shard(number: int) -> list[Post]:
    posts: dict[int, list[Post]] = {}
    while not any(len(group) == number for group in posts.values()):
        post = Post.objects.create(title="one")
        posts.setdefault(counts.buffer.shard(post.pk), []).append(post)
    return next(group for group in posts.values() if len(group) == number)


def test_a_new_instance_never_writes_over_a_post_that_exists() -> None:
    post = Post.objects.create(title="one", likes=7)
    with pytest.raises(IntegrityError):
        Post(pk=post.pk, title="two").save()
    assert Post.objects.get(pk=post.pk).likes == 7
