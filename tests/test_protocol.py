"""Each condition of the counting protocol, on its own: what it prevents happens here, and must do no harm."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from django.test import override_settings

from likes import audit, books, counts, ledger
from likes.buffer import buffer, flusher
from tests.steps import (
    ColdReader,
    a_post,
    ack,
    adopt,
    base,
    drain,
    expires,
    flush,
    forget_bases,
    key,
    live,
    only,
    persisted,
    two_posts_of_a_shard,
)

BEYOND_LUA = 2**53 + 1  # the first whole number that a Lua number cannot hold


@pytest.fixture(autouse=True)
def audited() -> object:
    """Whatever a test here does, the books are right in the end."""
    yield
    assert audit.take().exit_code == 0


# --- Draining.


def test_a_drain_takes_what_is_there_and_leaves_what_comes_after() -> None:
    post = a_post()
    counts.like(post)
    batch = drain(post)
    counts.like(post)
    counts.like(post)
    assert batch.likes == {post: 1}
    assert live(post) == 3
    assert ack(batch).pending == {post: 2}
    assert drain(post).likes == {post: 2}


def test_a_young_batch_is_left_to_its_flusher() -> None:
    post = a_post()
    counts.like(post)
    drain(post)
    counts.like(post)
    assert flusher.drain(buffer.shard(post)) == "busy"


def test_an_old_batch_is_adopted_as_it_was() -> None:
    post = a_post()
    counts.like(post)
    left = drain(post)
    counts.like(post)
    taken = adopt(post)
    assert (taken.id, taken.likes, taken.drained_at, taken.gen) == (left.id, {post: 1}, left.drained_at, left.gen)
    with override_settings(LIKES_ADOPT_SECONDS=60):
        assert flusher.drain(buffer.shard(post)) == "busy"  # its age counts from the adoption


def test_a_batch_from_the_future_is_adopted_since_a_clock_was_set_back() -> None:
    post = a_post()
    counts.like(post)
    left = drain(post)
    buffer.client.hincrby(key(post, "batch"), "adopted_at", 3600 * 1_000_000)  # microseconds
    with override_settings(LIKES_ADOPT_SECONDS=60):
        batch = flusher.drain(buffer.shard(post))
    assert batch not in ("busy", "idle")
    assert batch.id == left.id


@pytest.mark.parametrize("count", ["0", "-2"])
def test_counts_of_nothing_and_below_are_moved_like_any_other(count: str) -> None:
    post = a_post(likes=5)
    live(post)
    buffer.client.set(key(post, f"pending:{post}"), count)
    buffer.client.set(key(post, "accepted"), count)
    buffer.client.set(key(post, "epoch"), "6dbb9f6e-3b49-4c20-8e3f-7f1d4b6f2a10")
    buffer.client.sadd(key(post, "dirty"), post)
    flush(post)
    assert flusher.work() == []
    assert persisted(post) == live(post) == 5 + int(count)


def test_the_oldest_like_is_known_until_no_like_of_its_shard_is_waiting() -> None:
    first, second = two_posts_of_a_shard()
    counts.like(first)
    since = buffer.status()[buffer.shard(first)]["since"]
    counts.like(second)
    with override_settings(LIKES_BATCH_POSTS=1):
        batch = drain(first)
        assert (batch.since, batch.left) == (since, 1)
        assert buffer.client.exists(key(first, "since"))  # as one is still waiting
        ack(batch)
        assert buffer.status()[buffer.shard(first)]["since"] == since
        batch = drain(first)
    assert (batch.since, batch.left) == (since, 0)
    assert not buffer.client.exists(key(first, "since"))
    assert buffer.status()[buffer.shard(first)]["since"] == since  # the batch is not persisted yet
    ack(batch)
    assert buffer.status()[buffer.shard(first)]["since"] is None


# --- Letting go of a batch.


def test_a_late_ack_leaves_the_next_batch_in_flight() -> None:
    post = a_post()
    counts.like(post)
    sleeping = drain(post)
    ack(adopt(post))
    counts.like(post)
    counts.like(post)
    following = drain(post)
    assert ack(sleeping).status == "late"
    assert buffer.client.hget(key(post, "batch"), "id") == following.id
    assert live(post) == 3
    assert ack(following).status == "adjusted"  # the late one moved `gen`: no base is set, the next read looks it up
    assert persisted(post) == live(post) == 3


def test_a_late_ack_does_not_put_back_the_total_that_it_knows() -> None:
    post = a_post()
    counts.like(post)
    sleeping = drain(post)
    applied = ledger.apply(sleeping)
    ack(adopt(post))
    counts.like(post)
    flush(post)
    assert flusher.ack(sleeping, applied.totals).status == "late"
    assert base(post) is None
    assert live(post) == 2


def test_an_ack_does_not_put_back_a_total_that_was_adjusted() -> None:
    post = a_post(likes=10)
    counts.like(post)
    batch = drain(post)
    applied = ledger.apply(batch)
    assert sum(counts.reset(only(post), by="a test")) == 1
    assert live(post) == 0
    assert flusher.ack(batch, applied.totals).status == "adjusted"
    assert (live(post), persisted(post)) == (0, 0)


def test_who_adopts_after_an_adjustment_knows_the_total_from_after_it() -> None:
    post = a_post(likes=10)
    counts.like(post)
    drain(post)
    assert sum(counts.reset(only(post), by="a test")) == 1
    assert ack(adopt(post)).status == "acked"
    assert (base(post), live(post), persisted(post)) == ("1", 1, 1)


def test_an_ack_forgets_a_post_that_is_gone() -> None:
    post = a_post()
    counts.like(post)
    only(post).delete()
    batch = drain(post)
    assert ack(batch).status == "acked"
    assert base(post) is None
    counts.settle()
    with pytest.raises(counts.UnknownPost):
        counts.like(post)


# --- Warming a cold post.


def test_a_base_from_before_an_adjustment_is_not_stored() -> None:
    post = a_post(likes=5)
    reader = ColdReader(post).ask_postgres()
    assert sum(counts.reset(only(post), by="a test")) == 1
    forget_bases([post])
    assert reader.store() is None
    assert live(post) == 0


def test_a_base_from_before_a_flush_is_not_stored() -> None:
    post = a_post()
    reader = ColdReader(post).ask_postgres()
    counts.like(post)
    flush(post)
    forget_bases([post])
    assert reader.store() is None
    assert live(post) == 1


def test_a_base_from_beside_another_batch_is_not_stored() -> None:
    """`gen` grows with every drain, so this takes a Redis that lost its last second and a clock that was set back."""
    post = a_post()
    counts.like(post)
    batch = drain(post)
    applied = ledger.apply(batch)
    forget_bases([post])
    reader = ColdReader(post).ask_postgres()  # takes off what is in flight
    flusher.ack(batch, applied.totals)
    counts.like_many([(post, 2)])
    drain(post)
    forget_bases([post])
    buffer.client.set(key(post, "gen"), reader.seen.gen)
    assert reader.store() is None
    assert live(post) == 3


def test_a_base_does_not_replace_one_that_came_first() -> None:
    """Both readers are right, each about its moment; the later word must stand, or a total that fell rises again."""
    post = a_post(likes=5)
    early, late = ColdReader(post).ask_postgres(), ColdReader(post)
    [changed] = books.reset(only(post), by="a test")
    assert late.ask_postgres().store() == 0
    assert early.store() == 0
    counts.settle(changed)
    assert live(post) == 0


def test_a_batch_that_is_in_postgres_and_still_in_flight_is_shown_once() -> None:
    post = a_post(likes=5)
    counts.like_many([(post, 3)])
    batch = drain(post)
    forget_bases([post])
    reader = ColdReader(post)  # sees the batch in flight, and then finds it in the ledger
    applied = ledger.apply(batch)
    assert reader.ask_postgres().store() == 8
    assert base(post) == "5"
    assert flusher.ack(batch, applied.totals).status == "acked"
    assert (base(post), live(post)) == ("8", 8)


def test_a_batch_that_is_applied_while_its_post_is_read_is_shown_once() -> None:
    post = a_post(likes=5)
    counts.like_many([(post, 3)])
    batch = drain(post)
    forget_bases([post])
    reader = ColdReader(post).ask_postgres()  # does not find it in the ledger
    ledger.apply(batch)
    assert reader.store() == 8
    assert base(post) == "5"


def test_a_cold_post_takes_no_like_before_it_is_known_to_exist() -> None:
    assert buffer.like([counts.Like(a_post())]) == [None]
    assert flusher.work() == []
    with pytest.raises(counts.UnknownPost):
        counts.like(12345)
    assert flusher.work() == []


# --- How long a base lives.


def test_a_base_does_not_expire_while_likes_of_its_post_are_on_their_way() -> None:
    post = a_post()
    assert live(post) == 0
    assert expires(post)
    counts.like(post)
    assert not expires(post)
    batch = drain(post)
    assert not expires(post)
    ack(batch)
    assert expires(post)

    counts.like(post)
    batch = drain(post)
    counts.like(post)
    ack(batch)
    assert not expires(post)
    flush(post)
    assert expires(post)


@pytest.fixture
def without_msetex() -> Iterator[None]:
    """A Redis that refuses MSETEX, as those do that never heard of it: before Valkey 9.1 and Redis 8.4."""
    buffer.client.execute_command("ACL", "SETUSER", "default", "-msetex")
    yield
    buffer.client.execute_command("ACL", "SETUSER", "default", "+msetex")


@pytest.mark.usefixtures("without_msetex")
def test_a_base_expires_again_where_redis_cannot_set_many_at_once() -> None:
    post = a_post()
    counts.like(post)
    flush(post)
    assert base(post) == "1"
    assert expires(post)


@pytest.mark.parametrize("where", ["pending", "in flight"])
def test_a_base_that_is_looked_up_while_likes_are_on_their_way_does_not_expire(where: str) -> None:
    post = a_post()
    counts.like(post)
    if where == "in flight":
        drain(post)
    forget_bases([post])
    assert live(post) == 1
    assert not expires(post)


# --- Totals that Lua cannot count.


def test_totals_beyond_lua_are_exact_on_every_path() -> None:
    post = a_post(likes=BEYOND_LUA)
    assert live(post) == BEYOND_LUA
    assert counts.like(post, "a key").likes == BEYOND_LUA + 1
    assert counts.like(post, "a key").likes == BEYOND_LUA + 1
    assert counts.like_many([(post, 1)], "a key").accepted == 1
    assert live(post) == BEYOND_LUA + 2
    batch = drain(post)
    assert counts.like(post).likes == BEYOND_LUA + 3
    applied = ledger.apply(batch)
    forget_bases([post])
    assert live(post) == BEYOND_LUA + 3  # cold, with the batch in the ledger and in flight
    assert flusher.ack(batch, applied.totals).status == "acked"
    assert live(post) == BEYOND_LUA + 3
    flush(post)
    assert persisted(post) == live(post) == BEYOND_LUA + 3
    forget_bases([post])
    assert live(post) == BEYOND_LUA + 3


# --- Versions.


def test_versions_grow_with_every_change_of_a_total() -> None:
    post = a_post()
    versions = []

    def look() -> None:
        versions.append(counts.totals([post])[post].version)

    look()
    for _ in range(3):
        counts.like(post)
        look()
    flush(post)
    look()
    assert versions == sorted(versions)  # a flush changes no total, and takes none back
    list(counts.reset(only(post), by="a test"))
    look()
    buffer.client.delete(*buffer.client.keys("*"))  # a wiped Redis
    counts.like(post)
    look()
    assert versions == sorted(set(versions))


def test_a_shard_whose_epoch_was_deleted_goes_on_under_a_new_one() -> None:
    post = a_post()
    counts.like(post)
    buffer.client.delete(buffer.key(buffer.shard(post), "epoch"))
    flush(post)
    assert counts.totals([post])[post].persisted == 1
