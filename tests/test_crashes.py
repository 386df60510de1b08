"""A real worker, killed at every boundary of the flush; whoever comes after it finds every like once."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from likes import audit, books, counts
from likes.buffer import flusher
from likes.models import Adjustment, Batch, Post
from tests.doors import lane
from tests.servers import Process, folder, manage
from tests.stack import Start, make_posts, nothing_left, persisted, tick_until, wait_until_idle, worker

# Whether the batch is in the ledger when the worker dies at this boundary of the flush.
FLUSH = {
    "after the drain": False,
    "after the barrier": False,
    "after the ledger row": False,
    "after the lock": False,
    "after the update": False,
    "before the commit": False,
    "after the commit": True,
    "before the ack": True,
    "after the ack": True,
}
SHARD = 3
LANE = lane()
NEXT = "next"  # the queue of the worker that comes after


@pytest.fixture(scope="module", autouse=True)
def healthy() -> Iterator[Process]:
    """Keep one worker beside the dying ones; it gets no task before a test wants it to."""
    mine = worker(Process, "--concurrency", "1", QUEUE=NEXT)
    yield mine
    mine.kill()


def crash(start: Start, boundary: str, **environment: str) -> None:
    """Let a worker of two children die at the boundary."""
    doomed = worker(start, "--concurrency", "2", CRASH_AT=boundary, **environment)
    tick_until(lambda: not doomed.running, f"the worker dies {boundary}")
    assert doomed.popen is not None
    assert doomed.popen.returncode == -9, doomed.output


def finish() -> None:
    """Let the healthy worker bring in what is left."""
    tick_until(nothing_left, "the next worker finishes", NEXT)
    wait_until_idle(NEXT)


def live(posts: list[int]) -> dict[int, int]:
    """Return what readers are told, which is the same at both doors."""
    at_once, told = LANE.likes(posts), {post: total.likes for post, total in counts.totals(posts).items()}
    assert at_once == told
    return told


@pytest.mark.parametrize("boundary", FLUSH)
def test_a_worker_killed_anywhere_in_a_flush_counts_every_like_once(process: Start, boundary: str) -> None:
    posts = make_posts(3, shard=SHARD)
    for likes, post in enumerate(posts, start=1):
        counts.like_many([(post, likes)])
    crash(process, boundary)

    assert Batch.objects.exists() == FLUSH[boundary]
    assert live(posts) == dict(zip(posts, (1, 2, 3), strict=True)), "a reader saw the crash"
    assert audit.take().exit_code == 0

    LANE.like(posts[0])  # and the service goes on meanwhile
    finish()
    assert persisted(posts) == live(posts) == dict(zip(posts, (2, 2, 3), strict=True))
    assert audit.take().exit_code == 0


def test_one_batch_that_kills_worker_after_worker_is_counted_once(process: Start) -> None:
    [post] = make_posts(1, shard=SHARD)
    counts.like_many([(post, 7)])
    crash(process, "after the barrier")
    crash(process, "before the commit")
    crash(process, "after the commit")
    crash(process, "before the ack")
    finish()
    assert persisted([post]) == live([post]) == {post: 7}
    assert Batch.objects.count() == 1
    told = manage("audit")
    assert told.returncode == 0, told.stdout + told.stderr


def test_a_killed_child_is_replaced_and_its_batch_adopted_by_the_same_worker(process: Start) -> None:
    [post] = make_posts(1, shard=SHARD)
    counts.like_many([(post, 5)])
    once = folder("once") / "crashed"
    alive = worker(process, "--concurrency", "1", CRASH_AT="before the ack", CRASH_WHO="child", CRASH_ONCE=str(once))
    tick_until(once.exists, "the child dies")
    tick_until(nothing_left, "another child adopts the batch")
    assert alive.running
    assert persisted([post]) == live([post]) == {post: 5}
    assert audit.take().exit_code == 0


@pytest.mark.parametrize("boundary", ["before the settle", "mid-settle", "after the settle"])
def test_a_worker_killed_around_a_settle_shows_and_keeps_the_adjusted_total(process: Start, boundary: str) -> None:
    [post] = make_posts(1, shard=SHARD)
    counts.like_many([(post, 9)])
    finish()
    assert live([post]) == {post: 9}
    assert list(books.reset(Post.objects.filter(pk=post), "an operator who dies here")) == [[post]]
    counts.like_many([(post, 5)])
    crash(process, boundary)
    assert Adjustment.objects.filter(settled_at=None).exists() == (boundary != "after the settle")

    tick_until(lambda: not Adjustment.objects.filter(settled_at=None).exists(), "the next worker settles", NEXT)
    finish()
    assert persisted([post]) == live([post]) == {post: 5}, "likes after a reset count from zero"
    assert audit.take().exit_code == 0


def test_a_redis_at_its_memory_limit_recovers_from_a_worker_killed_mid_batch(process: Start) -> None:
    posts = make_posts(3, shard=SHARD)
    counts.like_many([(post, 2) for post in posts])
    flusher.client.config_set("maxmemory", 1)
    try:
        crash(process, "after the barrier")
        assert live(posts) == dict.fromkeys(posts, 2)
        for door in (counts, LANE):
            with pytest.raises(counts.Unavailable) as refused:
                door.like(posts[0])
            assert refused.value.outcome == "not_applied"
        finish()
    finally:
        flusher.client.config_set("maxmemory", 0)
    assert persisted(posts) == live(posts) == dict.fromkeys(posts, 2)
    assert LANE.like(posts[0]).likes == 3
    assert audit.take().exit_code == 0
