"""The counting protocol, door by door."""

from django.core.management import call_command

from likes import audit, books, counts, events, tasks
from likes.models import Post
from tests.servers import eventually


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


def test_a_reset_reaches_the_streams_at_once() -> None:
    post = Post.objects.create(title="one", likes=7)
    with counts.buffer.client.pubsub(ignore_subscribe_messages=True) as heard:
        heard.subscribe(events.WIRE)
        assert sum(counts.reset(Post.objects.all(), by="a test")) == 1
        updates: list[object] = []
        eventually(lambda: updates.append(heard.get_message()) or updates[-1], "an announcement")
    update = events.parse(updates[-1]["data"])  # type: ignore[index]
    assert isinstance(update, events.Update)
    assert update.totals == {post.pk: 0}
