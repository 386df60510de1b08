"""An Idempotency-Key: what was answered under it is answered again, and counted no second time."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any
from unittest.mock import patch

import pytest

from likes import audit, counts
from likes.buffer import Broken, buffer, flusher
from likes.counts import KeyReused
from likes.values import Like
from tests.stack import make_posts
from tests.steps import a_post, flush, forget_bases, key, live, only, two_posts_of_a_shard


def posts_of_two_shards() -> tuple[int, int]:
    [first], [second] = make_posts(1, shard=0), make_posts(1, shard=1)
    return first, second


def test_a_like_under_a_key_is_answered_the_same_and_counted_once() -> None:
    post = a_post()
    assert counts.like(post, "a key") == counts.Liked(1, replayed=False)
    counts.like(post)
    assert counts.like(post, "a key") == counts.Liked(1, replayed=True)
    flush(post)
    forget_bases([post])
    assert counts.like(post, "a key") == counts.Liked(1, replayed=True)
    assert live(post) == 2


def test_a_key_counts_once_per_post() -> None:
    first, second = two_posts_of_a_shard()
    for post in (first, second, first):
        assert counts.like(post, "a key").likes == 1
    assert not counts.like(first, "another key").replayed
    assert (live(first), live(second)) == (2, 1)


def test_a_key_is_kept_for_as_long_as_the_settings_say() -> None:
    post = a_post()
    counts.like(post, "a key")
    counts.like_many([(post, 1)], "a key")
    for name in (f"idem:{post}:a key", "idem:bulk:a key"):
        assert 3590 < buffer.client.ttl(key(post, name)) <= 3600


def test_a_bulk_call_under_a_key_is_answered_the_same_and_counted_once() -> None:
    first, second = posts_of_two_shards()
    likes = [(first, 2), (999_999, 5), (second, 3)]
    assert counts.like_many(likes, "a key") == counts.BulkLiked(5, [999_999], replayed=False)
    assert counts.like_many(likes, "a key") == counts.BulkLiked(5, [999_999], replayed=True)
    assert (live(first), live(second)) == (2, 3)


def test_a_key_with_another_body_is_refused_and_nothing_counted() -> None:
    first, second = posts_of_two_shards()
    counts.like_many([(first, 2)], "a key")
    for other in ([(first, 3)], [(first, 2), (second, 1)], [(second, 2)]):
        with pytest.raises(KeyReused):
            counts.like_many(other, "a key")
    assert (live(first), live(second)) == (2, 0)


def test_two_bodies_under_one_key_at_once_do_not_share_an_answer() -> None:
    """The second call asks what is kept before the first has kept anything, and is served after it."""
    post = a_post()
    with patch.object(buffer, "kept_answers", lambda _: {}):
        counts.like_many([(post, 2)], "a key")
        with pytest.raises(KeyReused):
            counts.like_many([(post, 7)], "a key")
    assert live(post) == 2


def test_under_a_key_one_cold_post_keeps_its_shard_from_counting() -> None:
    warm, cold = two_posts_of_a_shard()
    live(warm)
    shard = buffer.shard(warm)
    assert buffer.like_under_key("a key", {shard: ([Like(warm), Like(cold)], "an answer")}) == {shard: (None, [])}
    assert flusher.work() == []
    assert buffer.kept_answers("a key") == {}


def test_under_a_key_a_counter_that_is_none_keeps_its_shard_from_counting() -> None:
    post, broken = two_posts_of_a_shard()
    live(post), live(broken)
    buffer.client.hset(key(broken, f"pending:{broken}"), "somebody", "else's")
    for _ in range(2):
        with pytest.raises(Broken):
            counts.like_many([(post, 2), (broken, 3)], "a key")
    buffer.client.delete(key(broken, f"pending:{broken}"))
    assert live(post) == 0
    assert counts.like_many([(post, 2), (broken, 3)], "a key") == counts.BulkLiked(5, [], replayed=False)
    assert (live(post), live(broken)) == (2, 3)
    assert audit.take().exit_code == 0


def test_a_bulk_call_that_ended_halfway_is_finished_by_its_retry() -> None:
    first, second = posts_of_two_shards()
    likes = [(first, 2), (second, 3)]
    counted = buffer.like_under_key

    def one_shard(key: str, calls: dict[int, tuple[Sequence[Like], str]]) -> dict[int, tuple[str | None, Any]]:
        counted(key, {0: calls[0]})
        raise counts.Unavailable("unknown", "the connection broke between two shards")

    live(first), live(second)
    with patch.object(buffer, "like_under_key", one_shard), pytest.raises(counts.Unavailable):
        counts.like_many(likes, "a key")
    assert (live(first), live(second)) == (2, 0)
    assert counts.like_many(likes, "a key") == counts.BulkLiked(5, [], replayed=False)
    assert (live(first), live(second)) == (2, 3)
    assert audit.take().exit_code == 0


def test_a_bulk_answer_outlives_the_posts_it_names() -> None:
    post = a_post()
    assert counts.like_many([(post, 2)], "a key").accepted == 2
    only(post).delete()
    counts.settle()
    assert counts.like_many([(post, 2)], "a key") == counts.BulkLiked(2, [], replayed=True)
