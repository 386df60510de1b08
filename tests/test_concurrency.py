"""Many writers at both doors, many flushers, deletes and saves among them: every like once, and no total falls."""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from threading import Event, Thread
from typing import Any

import pytest
from django.db import connection, transaction
from django.test import override_settings

from likes import audit, counts, ledger, tasks
from likes.buffer import Batch, flusher
from likes.models import Adjustment, OrphanedLikes, Post
from likes.models import Batch as Entry
from tests.doors import DOORS, PATIENCE, Door, like
from tests.servers import eventually
from tests.stack import Start, beat, make_posts, nothing_left, persisted, worker

PATIENT = override_settings(LIKES_ADOPT_SECONDS=20)  # a flush waits for a row as long as it ever does
WRITERS, FLUSHERS, LIKES = 6, 3, 150  # threads, threads, likes of each writer


def with_its_connection_closed(run: Callable[..., Any]) -> Callable[..., Any]:
    """A thread has a connection to PostgreSQL of its own, which nobody closes when it ends."""

    def wrapped(*args: Any) -> Any:
        try:
            return run(*args)
        finally:
            connection.close()

    return wrapped


class Reader(Thread):
    """Reads totals again and again, and keeps note of any that fell."""

    def __init__(self, posts: list[int]) -> None:
        super().__init__()
        self.posts, self.done, self.fell, self.looks = posts, Event(), list[str](), 0
        self.error: Exception | None = None

    @with_its_connection_closed
    def run(self) -> None:
        seen: Counter[int] = Counter()
        while not self.done.is_set():
            for post, total in counts.totals(self.posts).items():
                if total.likes < seen[post]:
                    self.fell.append(f"post {post}: {seen[post]}, then {total.likes}")
                seen[post] = total.likes
            self.looks += 1

    def end(self) -> None:
        self.done.set()
        self.join()
        assert self.looks > 1
        assert self.fell == []


@with_its_connection_closed
def write(door: Door, posts: list[int], number: int, seed: int) -> Counter[int]:
    """Like posts of a few favourites, one at a time or in bulk; return what was taken."""
    chance = random.Random(seed)
    taken: Counter[int] = Counter()
    for _ in range(number):
        post = posts[min(int(chance.expovariate(0.3)), len(posts) - 1)]
        if chance.random() < 0.2:
            many = Counter({post: 2, chance.choice(posts): 3})
            assert door.like_many(list(many.items())).accepted == many.total()
            taken += many
        else:
            assert not door.like(post).replayed
            taken[post] += 1
    return taken


@with_its_connection_closed
def flush_until(done: Event) -> None:
    """Flush every shard again and again, taking over from others at any moment."""
    while not done.is_set():
        for shard in flusher.work():
            tasks.flush_shard(shard)


@pytest.fixture
def both() -> Iterator[list[Door]]:
    """Open both doors to everyone, bulk likes too: half of the writers come through each."""
    with override_settings(LIKES_DEMO=True):
        yield [new() for new in DOORS.values()]


@pytest.fixture
def pool() -> Iterator[ThreadPoolExecutor]:
    with ThreadPoolExecutor(16) as mine:
        yield mine


def collect(writers: list[Future[Counter[int]]]) -> dict[int, int]:
    total: Counter[int] = Counter()
    for writer in writers:
        total += writer.result(60)
    return dict(total)


def exact(expected: dict[int, int]) -> None:
    """Find the likes in every read, in PostgreSQL and in the books."""
    assert {post: total.likes for post, total in counts.totals(expected).items()} == expected
    assert persisted(expected) == expected
    assert audit.take().exit_code == 0


@override_settings(LIKES_ADOPT_SECONDS=0, LIKES_BATCH_POSTS=3)
def test_writers_and_flushers_that_take_each_others_batches_count_exactly(
    both: list[Door], pool: ThreadPoolExecutor
) -> None:
    posts = make_posts(12)
    reader, done = Reader(posts), Event()
    reader.start()
    flushers = [pool.submit(flush_until, done) for _ in range(FLUSHERS)]
    try:
        expected = collect([pool.submit(write, both[seed % 2], posts, LIKES, seed) for seed in range(WRITERS)])
        eventually(nothing_left, "every like is persisted")
    finally:
        done.set()
        reader.done.set()
    for mine in flushers:
        mine.result(30)
    reader.end()
    exact(expected | {post: 0 for post in posts if post not in expected})


def test_two_beats_and_two_workers_count_exactly(process: Start, both: list[Door], pool: ThreadPoolExecutor) -> None:
    posts = make_posts(12)
    options = {"LIKES_BATCH_POSTS": "2", "LIKES_ADOPT_SECONDS": "0.05"}
    workers = [worker(process, "--concurrency", "2", app="likesite", **options) for _ in range(2)]
    beats = [beat(process) for _ in range(2)]
    reader = Reader(posts)
    reader.start()
    try:
        expected = collect([pool.submit(write, both[seed % 2], posts, LIKES, seed) for seed in range(WRITERS)])
        eventually(nothing_left, "every like is persisted", 60)
    finally:
        reader.done.set()
    reader.end()
    assert all(one.running for one in (*workers, *beats))
    assert all("flush shard=" in one.output for one in workers), "one worker did everything"
    exact(expected | {post: 0 for post in posts if post not in expected})


@PATIENT
def test_two_flushers_that_apply_the_same_batch_at_once_add_it_once(pool: ThreadPoolExecutor) -> None:
    [post] = make_posts(1)
    counts.like_many([(post, 5)])
    with override_settings(LIKES_ADOPT_SECONDS=0):
        first, second = (flusher.drain(flusher.shard(post)) for _ in range(2))
    assert isinstance(first, Batch)
    assert isinstance(second, Batch)
    assert (first.id, second.adopted) == (second.id, True)
    with transaction.atomic():
        Post.objects.select_for_update().get(pk=post)  # so that both wait for the same commit
        applying = [pool.submit(with_its_connection_closed(ledger.apply), batch) for batch in (first, second)]
        eventually(lambda: waiting() == 2, "both wait")
    assert sorted(one.result(10).repeated for one in applying) == [False, True]
    acks = [
        flusher.ack(batch, one.result().totals).status for batch, one in zip((first, second), applying, strict=True)
    ]
    assert acks == ["acked", "late"]
    exact({post: 5})


def waiting() -> int:
    """Return how many sessions wait for a lock."""
    with connection.cursor() as cursor:
        cursor.execute("SELECT count(DISTINCT pid) FROM pg_locks WHERE NOT granted")
        [number] = cursor.fetchone()
    return int(number)


@PATIENT
def test_likes_of_a_post_deleted_mid_flush_are_accounted_for(pool: ThreadPoolExecutor) -> None:
    gone, kept = make_posts(2, shard=1)
    counts.like_many([(gone, 5), (kept, 2)])
    with transaction.atomic():
        Post.objects.filter(pk=gone).delete()
        flushing = pool.submit(with_its_connection_closed(tasks.flush_shard), 1)
        eventually(lambda: waiting() == 1, "the flush waits for the row")
    assert flushing.result(10) == 7
    assert [(orphan.post_id, orphan.likes) for orphan in OrphanedLikes.objects.all()] == [(gone, 5)]
    assert counts.settle() == 1
    with pytest.raises(counts.UnknownPost):
        counts.like(gone)
    exact({kept: 2})


def test_a_post_deleted_between_drain_and_apply_is_accounted_for() -> None:
    gone, kept = make_posts(2, shard=1)
    counts.like_many([(gone, 4), (kept, 1)])
    batch = flusher.drain(1)
    assert isinstance(batch, Batch)
    counts.like_many([(gone, 3)])  # after the drain, before the delete
    Post.objects.get(pk=gone).delete()
    assert counts.settle() == 1
    applied = ledger.apply(batch)
    assert applied.totals == {kept: 1}
    assert flusher.ack(batch, applied.totals).status == "adjusted"
    tasks.flush_shard(1)
    assert sum(orphan.likes for orphan in OrphanedLikes.objects.all()) == 7
    assert Adjustment.objects.get().kind == "delete"
    exact({kept: 1})


@PATIENT
def test_saving_a_post_that_was_loaded_before_a_flush_keeps_its_likes(pool: ThreadPoolExecutor) -> None:
    [post] = make_posts(1)
    counts.like_many([(post, 3)])
    loaded = Post.objects.get(pk=post)
    tasks.flush_shard(flusher.shard(post))
    loaded.title = "edited meanwhile"
    loaded.save()
    assert Post.objects.get(pk=post).title == "edited meanwhile"
    exact({post: 3})

    counts.like_many([(post, 4)])
    with transaction.atomic():
        loaded.title = "edited during a flush"
        loaded.save()
        flushing = pool.submit(with_its_connection_closed(tasks.flush_shard), flusher.shard(post))
        eventually(lambda: waiting() == 1, "the flush waits for the save")
    assert flushing.result(10) == 4
    assert Post.objects.get(pk=post).title == "edited during a flush"
    exact({post: 7})


def test_the_same_key_counts_on_two_posts_and_once_on_each_however_many_send_it_to_whichever_door(
    both: list[Door],
) -> None:
    posts = make_posts(2)
    for post in posts:
        sent = [door.begin(*[like(post, "one-key")] * 4) for door in both]
        liked = [one for door in sent for one in door.result(PATIENCE)]
        assert {one.likes for one in liked} == {1}
        assert sorted(one.replayed for one in liked) == [False] + [True] * 7
    for post in posts:
        tasks.flush_shard(flusher.shard(post))
    assert Entry.objects.count() == len({flusher.shard(post) for post in posts})
    exact(dict.fromkeys(posts, 1))
