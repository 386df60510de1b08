"""Replies of Redis that never arrive: a like is counted once, or reported unknown, and never counted twice."""

from __future__ import annotations

import time
from collections.abc import Iterator
from threading import Event, Thread
from typing import Any

import pytest
from django.test import Client, override_settings

from likes import audit, books, counts, tasks
from likes.buffer import ACK, DRAIN, LIKE, SETTLE, TOTALS, Batch, Unavailable, buffer, flusher
from likes.models import Adjustment, Post
from likes.models import Batch as Entry
from likes.wire import connect
from tests.proxy import Fault, Proxy
from tests.servers import Server, free_port, valkey
from tests.stack import make_posts, persisted

PROMISED = 1.5  # seconds until a like without Redis is answered
SLACK = 3  # times that, on a busy machine
REPLY = 0.6  # seconds; the product waits longer, and each of these tests would with it
SYNCED = b"*2\r\n:1\r\n:0\r\n"  # what WAITAOF answers once the write is on disk
UNSYNCED = b"*2\r\n:0\r\n:0\r\n"


@pytest.fixture
def line(redis: Server, monkeypatch: pytest.MonkeyPatch) -> Iterator[Proxy]:
    """Put a proxy between the product and a Redis that knows every script, so that a call is one round trip."""
    for script in (LIKE, TOTALS, DRAIN, ACK, SETTLE):
        flusher.client.script_load(script.source)
    proxy = Proxy(redis.server.socket)
    for door in (buffer, flusher):
        monkeypatch.setattr(door, "client", connect(proxy.url, REPLY))
    yield proxy
    proxy.close()


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
def test_a_like_whose_reply_is_lost_is_unknown_and_counted_at_most_once(line: Proxy, post: int, fault: Any) -> None:
    struck = line.arm(fault(name(LIKE)))
    with pytest.raises(Unavailable) as lost:
        counts.like(post)
    assert struck.happened.is_set()
    assert lost.value.outcome == "unknown"
    exact(post, 1 if struck.reach else 0)


@pytest.mark.parametrize("fault", FAULTS)
def test_under_a_key_it_is_retried_and_counted_exactly_once(line: Proxy, post: int, fault: Any) -> None:
    struck = line.arm(fault(name(LIKE)))
    with pytest.raises(Unavailable):
        counts.like(post, "a key")
    assert counts.like(post, "a key") == counts.Liked(1, replayed=struck.reach)
    exact(post, 1)
    assert counts.like(post, "a key") == counts.Liked(1, replayed=True), "the flush changed the answer"


@pytest.mark.parametrize("fault", FAULTS)
def test_the_rest_view_says_unknown_and_a_retry_under_the_key_counts_once(line: Proxy, post: int, fault: Any) -> None:
    line.arm(fault(name(LIKE)))
    path, headers = f"/api/v1/posts/{post}/like", {"Idempotency-Key": "from-a-client"}
    lost = Client().post(path, headers=headers)
    assert lost.status_code == 503
    assert lost["Content-Type"] == "application/problem+json"
    assert int(lost["Retry-After"]) >= 1
    assert lost.json()["outcome"] == "unknown"
    again = [Client().post(path, headers=headers) for _ in range(2)]
    assert [answer.status_code for answer in again] == [202, 202]
    assert [answer.json() for answer in again] == [{"post": post, "likes": 1}] * 2
    assert again[1]["Idempotent-Replayed"] == "true"
    exact(post, 1)


@pytest.mark.parametrize("fault", FAULTS)
def test_bulk_likes_over_many_shards_are_counted_once_too(line: Proxy, fault: Any) -> None:
    posts = make_posts(12)
    body = {"likes": [{"post": post, "count": 1 + post % 3} for post in posts]}
    counts.totals(posts)
    with override_settings(LIKES_DEMO=True):

        def send() -> Any:
            headers = {"Idempotency-Key": "bulk"}
            return Client().post("/api/v1/likes", body, content_type="application/json", headers=headers)

        struck = line.arm(fault(name(LIKE)))
        lost = send()
        assert struck.happened.is_set()
        assert (lost.status_code, lost.json()["outcome"]) == (503, "unknown")
        again = send()
    assert (again.status_code, again.json()) == (202, {"accepted": sum(1 + post % 3 for post in posts), "unknown": []})
    flush()
    assert persisted(posts) == {post: 1 + post % 3 for post in posts}
    assert audit.take().exit_code == 0


@pytest.mark.parametrize("fault", FAULTS)
def test_a_cold_post_that_cannot_be_warmed_takes_no_like_and_says_so(line: Proxy, fault: Any) -> None:
    [post] = make_posts(1)
    line.arm(fault(name(TOTALS)))
    with pytest.raises(Unavailable) as lost:
        counts.like(post)
    assert lost.value.outcome == "not_applied"
    exact(post, 0)


def test_a_bulk_call_half_counted_never_says_not_applied(line: Proxy, post: int) -> None:
    [cold] = make_posts(1)
    line.arm(swallowed(name(TOTALS)))
    with pytest.raises(Unavailable) as lost:
        counts.like_many([(post, 1), (cold, 1)])
    assert lost.value.outcome == "unknown"
    exact(post, 1)


def test_a_reply_that_comes_too_late_is_not_taken_for_the_answer_to_the_next_call(line: Proxy, post: int) -> None:
    late = line.arm(Fault(name(LIKE), reply=lambda reply: reply, hold=Event()))
    with pytest.raises(Unavailable):
        counts.like(post)
    assert late.hold is not None
    late.hold.set()
    assert late.happened.wait(10)
    assert counts.totals([post])[post].pending == 1
    exact(post, 1)


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


def test_without_redis_a_like_is_refused_in_time_and_not_applied(monkeypatch: pytest.MonkeyPatch) -> None:
    [post] = make_posts(1)
    monkeypatch.setattr(buffer, "client", connect(f"redis://127.0.0.1:{free_port()}"))
    started = time.monotonic()
    refused = Client().post(f"/api/v1/posts/{post}/like")
    assert time.monotonic() - started < PROMISED * SLACK
    assert (refused.status_code, refused.json()["outcome"]) == (503, "not_applied")
    assert int(refused["Retry-After"]) >= 1


def test_a_pause_of_redis_turns_nobody_away(line: Proxy, post: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """More likes wait at once than redis-py's pool would take on its own."""
    crowd = 150
    monkeypatch.setattr(buffer, "client", connect(line.url, 20.0))
    flusher.client.client_pause(500, all=True)  # milliseconds
    threads = [Thread(target=counts.like, args=(post,)) for _ in range(crowd)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    exact(post, crowd)
