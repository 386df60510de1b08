"""Replies of Redis that never arrive: a like is counted once, or reported unknown, and never counted twice."""

from __future__ import annotations

import time
from collections.abc import Iterator
from threading import Event
from typing import Any

import pytest
from django.test import override_settings

from likes import audit, books, counts, tasks
from likes.buffer import ACK, DRAIN, LIKE, SETTLE, TOTALS, Batch, Unavailable, buffer, flusher
from likes.models import Adjustment, Post
from likes.models import Batch as Entry
from likes.wire import connect
from tests import doors
from tests.doors import DOORS, Door
from tests.proxy import Fault, Proxy, keep
from tests.servers import free_port, valkey
from tests.stack import make_posts, persisted

PROMISED = 1.5  # seconds until a like without Redis is answered
SLACK = 3  # times that, on a busy machine
SYNCED = b"*2\r\n:1\r\n:0\r\n"  # what WAITAOF answers once the write is on disk
UNSYNCED = b"*2\r\n:0\r\n:0\r\n"


@pytest.fixture(params=DOORS)
def door(request: pytest.FixtureRequest) -> Iterator[Door]:
    """Open each door, bulk likes to everyone."""
    with override_settings(LIKES_DEMO=True):
        yield DOORS[request.param]()


@pytest.fixture
def post() -> int:
    """Make a post that Redis knows, and nobody likes yet."""
    [post] = make_posts(1)
    counts.totals([post])
    return post


def swallowed(request: bytes) -> Fault:
    return Fault(request)


def cut_before(request: bytes) -> Fault:
    return Fault(request, reach=False, cut=True)


def cut_after(request: bytes) -> Fault:
    return Fault(request, cut=True)


FAULTS = [swallowed, cut_before, cut_after]


def name(script: Any) -> bytes:
    return str(script.sha).encode()


def total(post: int) -> int:
    return counts.totals([post])[post].likes


def flush() -> None:
    """Flush every shard, taking over what somebody else left."""
    with override_settings(LIKES_ADOPT_SECONDS=0):
        for shard in flusher.work():
            tasks.flush_shard(shard)


def exact(post: int, likes: int) -> None:
    """Flush, and find the likes in every read and in the books."""
    assert total(post) == likes
    flush()
    assert total(post) == likes
    assert persisted([post]) == {post: likes}
    assert flusher.work() == []
    assert audit.take().exit_code == 0


@pytest.mark.parametrize("fault", FAULTS)
def test_a_like_whose_reply_is_lost_is_unknown_and_counted_at_most_once(
    line: Proxy, door: Door, post: int, fault: Any
) -> None:
    struck = line.arm(fault(name(LIKE)))
    with pytest.raises(Unavailable) as lost:
        door.like(post)
    assert struck.happened.is_set()
    assert lost.value.outcome == "unknown"
    exact(post, 1 if struck.reach else 0)


@pytest.mark.parametrize("fault", FAULTS)
def test_under_a_key_it_is_retried_and_counted_exactly_once(line: Proxy, door: Door, post: int, fault: Any) -> None:
    struck = line.arm(fault(name(LIKE)))
    with pytest.raises(Unavailable) as lost:
        door.like(post, "a-key")
    assert lost.value.outcome == "unknown"
    assert door.like(post, "a-key") == counts.Liked(1, replayed=struck.reach)
    exact(post, 1)
    assert door.like(post, "a-key") == counts.Liked(1, replayed=True), "the flush changed the answer"


@pytest.mark.parametrize("fault", FAULTS)
def test_bulk_likes_over_many_shards_are_counted_once_too(line: Proxy, door: Door, fault: Any) -> None:
    likes = [(post, 1 + post % 3) for post in make_posts(12)]
    counts.totals(dict(likes))
    struck = line.arm(fault(name(LIKE)))
    with pytest.raises(Unavailable) as lost:
        door.like_many(likes, "bulk")
    assert struck.happened.is_set()
    assert lost.value.outcome == "unknown"
    assert door.like_many(likes, "bulk").accepted == sum(dict(likes).values())
    flush()
    assert persisted(dict(likes)) == dict(likes)
    assert audit.take().exit_code == 0


@pytest.mark.parametrize("fault", FAULTS)
def test_bulk_likes_without_a_key_are_counted_at_most_once(line: Proxy, door: Door, fault: Any) -> None:
    likes = [(post, 1 + post % 3) for post in make_posts(12)]
    counts.totals(dict(likes))
    struck = line.arm(fault(name(LIKE)))
    with pytest.raises(Unavailable) as lost:
        door.like_many(likes)
    assert lost.value.outcome == "unknown"
    flush()
    assert persisted(dict(likes)) == {post: count if struck.reach else 0 for post, count in likes}
    assert audit.take().exit_code == 0


@pytest.mark.parametrize("fault", FAULTS)
def test_a_cold_post_that_cannot_be_warmed_takes_no_like_and_says_so(line: Proxy, door: Door, fault: Any) -> None:
    [post] = make_posts(1)
    line.arm(fault(name(TOTALS)))
    with pytest.raises(Unavailable) as lost:
        door.like(post)
    assert lost.value.outcome == "not_applied"
    exact(post, 0)


def test_a_bulk_call_half_counted_never_says_not_applied(line: Proxy, door: Door, post: int) -> None:
    [cold] = make_posts(1)
    line.arm(swallowed(name(TOTALS)))
    with pytest.raises(Unavailable) as lost:
        door.like_many([(post, 1), (cold, 1)])
    assert lost.value.outcome == "unknown"
    exact(post, 1)


def test_a_reply_that_comes_too_late_is_not_taken_for_the_answer_to_the_next_call(
    line: Proxy, door: Door, post: int
) -> None:
    late = line.arm(Fault(name(LIKE), reply=keep, hold=Event()))
    with pytest.raises(Unavailable):
        door.like(post)
    assert door.like(post).likes == 2, "nobody waits behind the late one"
    assert late.hold is not None
    late.hold.set()
    assert late.happened.wait(10)
    assert door.likes([post]) == {post: 2}
    assert door.like(post).likes == 3
    exact(post, 3)


@pytest.mark.parametrize("fault", FAULTS)
def test_a_drain_whose_reply_is_lost_is_adopted_later(line: Proxy, post: int, fault: Any) -> None:
    counts.like(post)
    struck = line.arm(fault(name(DRAIN)))
    assert tasks.flush_shard(flusher.shard(post)) == 0
    assert struck.happened.is_set()
    assert not Entry.objects.exists()
    counts.like(post)
    exact(post, 2)


@pytest.mark.parametrize("answer", [b"", UNSYNCED])
def test_a_drain_that_may_not_be_on_disk_is_not_applied_before_it_is(line: Proxy, post: int, answer: bytes) -> None:
    counts.like(post)
    struck = line.arm(Fault(name(DRAIN), reply=lambda reply: reply.replace(SYNCED, answer), cut=True))
    assert tasks.flush_shard(flusher.shard(post)) == 0
    assert struck.happened.is_set()
    assert flusher.work() == [flusher.shard(post)], "the drain happened"
    assert not Entry.objects.exists()
    exact(post, 1)


@pytest.mark.parametrize("fault", FAULTS)
def test_an_ack_whose_reply_is_lost_leaves_nothing_to_count_again(line: Proxy, post: int, fault: Any) -> None:
    counts.like(post)
    line.arm(fault(name(ACK)))
    tasks.flush_shard(flusher.shard(post))
    assert Entry.objects.count() == 1
    counts.like(post)
    exact(post, 2)


@pytest.mark.parametrize("fault", FAULTS)
def test_a_reset_whose_settling_is_lost_is_settled_by_the_next_tick(line: Proxy, post: int, fault: Any) -> None:
    counts.like(post)
    flush()
    line.arm(fault(name(SETTLE)))
    with pytest.raises(Unavailable):
        list(counts.reset(Post.objects.filter(pk=post), "a test"))
    assert Adjustment.objects.filter(settled_at=None).count() == 1
    tasks.tick()
    assert not Adjustment.objects.filter(settled_at=None).exists()
    assert list(books.unsettled()) == []
    exact(post, 0)


def test_a_redis_that_syncs_every_second_is_waited_for(post: int, monkeypatch: pytest.MonkeyPatch) -> None:
    lazy = valkey(appendfsync="everysec")
    for door in (buffer, flusher):
        monkeypatch.setattr(door, "client", connect(lazy.server.url, 5.0))  # its disk is synced once a second
    counts.like(post)
    batch = flusher.drain(flusher.shard(post))
    assert isinstance(batch, Batch)
    assert batch.durable
    lazy.restart()
    assert flusher.client.hgetall(flusher.key(batch.shard, "inflight")) == {str(post): "1"}
    lazy.kill()


def test_without_redis_a_like_is_refused_in_time_and_not_applied(door: Door, monkeypatch: pytest.MonkeyPatch) -> None:
    [post] = make_posts(1)
    monkeypatch.setattr(buffer, "client", connect(f"redis://127.0.0.1:{free_port()}"))
    started = time.monotonic()
    with pytest.raises(Unavailable) as refused:
        door.like(post)
    assert time.monotonic() - started < PROMISED * SLACK
    assert refused.value.outcome == "not_applied"


def test_a_pause_of_redis_turns_nobody_away(
    line: Proxy, door: Door, post: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """More likes wait at once than redis-py's pool would take on its own."""
    crowd = 150
    monkeypatch.setattr(buffer, "client", connect(line.url, 20.0))
    flusher.client.client_pause(500, all=True)  # milliseconds
    liked = door.at_once(*[doors.like(post)] * crowd)
    assert sorted(one.likes for one in liked) == list(range(1, crowd + 1))
    exact(post, crowd)
