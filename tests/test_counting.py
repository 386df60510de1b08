"""The counting protocol, door by door."""

from likes import counts, tasks
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
