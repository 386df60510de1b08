"""Servers that freeze, die and come back: what is answered meanwhile, and that every like lands afterwards."""

from __future__ import annotations

import http.client
import os
import signal
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from typing import Any
from uuid import uuid4

import pytest
from django.db import connection, transaction
from redis import Redis

from likes import audit, counts, tasks
from likes.buffer import Unavailable, flusher
from likes.models import Post
from likesite.celery import app
from likesite.embedded import BROKER
from tests.doors import DOORS
from tests.likers import Likers, through
from tests.servers import Process, Server, eventually, valkey
from tests.stack import Start, Web, beat, make_posts, nothing_left, persisted, tick_until, wait_until_idle, worker

PROMISED = 1.5  # seconds until a like without Redis is answered
SLACK = 3  # times that, on a busy machine
QUEUE = "outages"
# Workers of one test have a queue of their own: a task carries the time limit of whoever sent it.
FROZEN, BLOCKED, STUCK = "frozen", "blocked", "stuck"


@pytest.fixture(scope="module", params=["lane", "views"])
def web(request: pytest.FixtureRequest) -> Iterator[Web]:
    """Keep one web process of each door through all outages: it is never restarted for any of them."""
    mine = Web(Process, LIKES_FASTLANE="on" if request.param == "lane" else "off").start()
    yield mine
    mine.process.kill()


@pytest.fixture(scope="module")
def healthy() -> Iterator[Process]:
    """Keep one worker through all outages; it gets no task before a test wants it to."""
    mine = worker(Process, "--concurrency", "1", QUEUE=QUEUE)
    yield mine
    mine.kill()


@contextmanager
def frozen(server: Server) -> Iterator[None]:
    server.freeze()
    try:
        yield
    finally:
        server.thaw()


def land() -> None:
    """Let the worker bring everything to PostgreSQL."""
    tick_until(nothing_left, "every like lands", QUEUE)
    wait_until_idle(QUEUE)


def like(web: Web, post: int, **headers: str) -> tuple[int, Any]:
    return web.call("POST", f"/api/v1/posts/{post}/like", **headers)


def likes_of(web: Web, post: int) -> Any:
    status, body = web.call("GET", f"/api/v1/posts/{post}/likes")
    assert status == 200, body
    return body["likes"]


def in_time(web: Web, post: int) -> str:
    """Like a post while Redis is away, find the refusal in time, and return its outcome."""
    started = time.monotonic()
    status, body = like(web, post)
    assert time.monotonic() - started < PROMISED * SLACK
    assert status == 503, body
    return str(body["outcome"])


def test_a_frozen_redis_is_answered_in_time_and_serves_on_when_it_thaws(
    web: Web, healthy: Process, redis: Server
) -> None:
    [post] = make_posts(1)
    assert like(web, post) == (202, {"post": post, "likes": 1})
    with frozen(redis):
        assert in_time(web, post) == "unknown"
        assert web.call("GET", f"/likes/{post}")[1]["outcome"] == "not_applied", "a read changes nothing"
    status, body = like(web, post)
    assert status == 202
    assert body["likes"] in (2, 3), "the unknown one was counted once or not at all"
    land()
    assert persisted([post]) == {post: body["likes"]}
    assert audit.take().exit_code == 0


def test_a_killed_redis_refuses_in_time_and_comes_back_with_every_like(
    web: Web, healthy: Process, redis: Server
) -> None:
    [post] = make_posts(1)
    assert like(web, post)[0] == 202
    redis.kill()
    assert in_time(web, post) == "not_applied"
    redis.start()
    assert like(web, post) == (202, {"post": post, "likes": 2})
    land()
    assert persisted([post]) == {post: 2}
    assert audit.take().exit_code == 0


def test_without_postgresql_warm_posts_are_liked_and_read_and_everything_lands_later(
    web: Web, healthy: Process, postgres: Server
) -> None:
    warm, cold = make_posts(2, shard=2)
    assert like(web, warm)[0] == 202
    postgres.kill()
    assert like(web, warm) == (202, {"post": warm, "likes": 2})
    assert likes_of(web, warm) == 2
    status, body = like(web, cold)
    assert (status, body["outcome"]) == (503, "not_applied")
    assert web.call("GET", "/health")[0] == 200
    assert web.call("GET", "/ready")[0] == 503
    said = len(healthy.output)
    tick_until(lambda: "left for later" in healthy.output[said:], "a flush finds no PostgreSQL", QUEUE)
    assert like(web, warm)[1]["likes"] == 3

    postgres.start()
    connection.close()
    assert like(web, cold)[1]["likes"] == 1
    land()
    assert persisted([warm, cold]) == {warm: 3, cold: 1}
    assert audit.take().exit_code == 0


def test_a_frozen_postgresql_holds_workers_no_longer_than_their_time_limit(process: Start, postgres: Server) -> None:
    posts = make_posts(3)
    counts.like_many([(post, 1) for post in posts])
    limited = worker(process, "--concurrency", "2", TASK_SECONDS="2", QUEUE=FROZEN)
    with frozen_while_flushing(postgres, posts[0]):
        tick_until(lambda: "Hard time limit" in limited.output, "a task that hangs is ended", FROZEN)
        counts.like_many([(post, 1) for post in posts])
        assert {total.likes for total in counts.totals(posts).values()} == {2}
    tick_until(nothing_left, "every like lands", FROZEN)
    assert limited.running
    assert persisted(posts) == dict.fromkeys(posts, 2)
    assert audit.take().exit_code == 0


@contextmanager
def frozen_while_flushing(postgres: Server, post: int) -> Iterator[None]:
    """Freeze PostgreSQL in the middle of the transaction that flushes this post."""
    with transaction.atomic():
        Post.objects.select_for_update().get(pk=post)
        tick_until(waiting, "a flush waits for the row", FROZEN)
        postgres.freeze()
        try:
            yield
        finally:
            postgres.thaw()


def waiting() -> list[int]:
    """Return the processes of PostgreSQL's that wait for a row or for another transaction."""
    with connection.cursor() as cursor:
        cursor.execute("SELECT DISTINCT pid FROM pg_locks WHERE NOT granted")
        return [pid for (pid,) in cursor.fetchall()]


def test_a_shard_that_waits_for_a_row_starves_no_other(process: Start) -> None:
    [blocked] = make_posts(1, shard=0)
    free = [make_posts(1, shard=shard)[0] for shard in range(1, flusher.shards)]
    worker(process, "--concurrency", "2", QUEUE=BLOCKED)
    with transaction.atomic():
        Post.objects.select_for_update().get(pk=blocked)
        counts.like(blocked)
        tick_until(waiting, "the flush of the blocked shard waits", BLOCKED)
        for total in (1, 2, 3):
            counts.like_many([(post, 1) for post in free])
            landed = dict.fromkeys(free, total)
            tick_until(lambda landed=landed: persisted(free) == landed, "the other shards land", BLOCKED)
        assert persisted([blocked]) == {blocked: 0}
    tick_until(nothing_left, "the blocked shard lands", BLOCKED)
    assert persisted([blocked]) == {blocked: 1}
    assert audit.take().exit_code == 0


def freeze_one_that_waits() -> list[int]:
    """Stop one process of PostgreSQL's, and return it if it still waits then."""
    for session in waiting():
        os.kill(session, signal.SIGSTOP)
        if session in waiting():
            return [session]
        os.kill(session, signal.SIGCONT)
    return []


def test_a_session_that_freezes_mid_flush_starves_no_other_shard_and_loses_nothing(process: Start) -> None:
    [stuck] = make_posts(1, shard=0)
    free = [make_posts(1, shard=shard)[0] for shard in range(1, flusher.shards)]
    limited = worker(process, "--concurrency", "2", TASK_SECONDS="3", LIKES_ADOPT_SECONDS="2", QUEUE=STUCK)
    session: list[int] = []
    with transaction.atomic():
        Post.objects.select_for_update().get(pk=stuck)
        counts.like(stuck)
        tick_until(lambda: session.extend(freeze_one_that_waits()) or session, "a session freezes", STUCK)
    try:
        tick_until(lambda: "Hard time limit" in limited.output, "the task that hangs is ended", STUCK)
        counts.like_many([(post, 2) for post in free])
        tick_until(lambda: persisted(free) == dict.fromkeys(free, 2), "the other shards land", STUCK)
        assert persisted([stuck]) == {stuck: 0}
    finally:
        os.kill(session[0], signal.SIGCONT)
    tick_until(nothing_left, "the stuck shard lands", STUCK)
    assert persisted([stuck]) == {stuck: 1}
    assert audit.take().exit_code == 0


def test_a_redis_that_is_full_refuses_likes_and_takes_them_again_once_flushed(web: Web, healthy: Process) -> None:
    Post.objects.bulk_create(Post(title="one of many") for _ in range(4_000))
    posts = list(Post.objects.values_list("pk", flat=True))
    counts.totals(posts)
    idle = memory()
    counts.like_many([(post, 1) for post in posts])
    flusher.client.config_set("maxmemory", (idle + memory()) // 2)
    try:
        assert in_time(web, posts[0]) == "not_applied"
        with pytest.raises(Unavailable) as refused:
            counts.like_many([(post, 1) for post in posts])
        assert refused.value.outcome == "not_applied"
        assert likes_of(web, posts[0]) == 1, "reads go on"
        land()
        assert like(web, posts[0]) == (202, {"post": posts[0], "likes": 2})
    finally:
        flusher.client.config_set("maxmemory", 0)
    land()
    assert persisted(posts) == dict.fromkeys(posts, 1) | {posts[0]: 2}
    assert audit.take().exit_code == 0


def memory() -> int:
    """Return what Redis uses, in bytes."""
    return int(flusher.client.info("memory")["used_memory"])


@pytest.mark.parametrize("door", DOORS)
def test_a_redis_killed_again_and_again_under_load_keeps_every_acknowledged_like(
    healthy: Process, redis: Server, door: str
) -> None:
    posts = make_posts(8)
    counts.totals(posts)
    likers = Likers(through(DOORS[door]()), posts, 8)
    for _ in range(3):
        aim, away = likers.acknowledged + 150, likers.turned_away
        tick_until(lambda aim=aim: likers.acknowledged >= aim, "likes are taken", QUEUE)
        redis.kill()
        eventually(lambda away=away: likers.turned_away > away, "somebody notices")
        redis.start()
    likers.end()
    land()
    likers.hold(sum(persisted(posts).values()))
    assert audit.take().exit_code == 0


def insist(web: Web, post: int, number: int) -> None:
    """Like a post so many times, each under a key of its own, and each until it is acknowledged."""
    for _ in range(number):
        key = str(uuid4())
        eventually(lambda key=key: acknowledged(web, post, key), "the like is acknowledged", 60)


def acknowledged(web: Web, post: int, key: str) -> bool:
    try:
        return like(web, post, Idempotency_Key=key)[0] == 202
    except (OSError, http.client.HTTPException):  # the web process died
        return False


@pytest.mark.parametrize("fastlane", ["on", "off"])
def test_worker_beat_and_web_killed_under_load_change_nothing(process: Start, fastlane: str) -> None:
    posts, each = make_posts(4), 60
    own = Web(process, LIKES_FASTLANE=fastlane).start()
    parts = [worker(process, "--concurrency", "2", app="likesite"), beat(process), own.process]
    with ThreadPoolExecutor(len(posts)) as pool:
        likers = [pool.submit(insist, own, post, each) for post in posts]
        for share in (0.15, 0.5):
            for number, part in enumerate(parts):
                aim = len(posts) * each * (share + 0.1 * number)
                eventually(lambda aim=aim: taken(posts) >= aim, "likes are taken", 60)
                part.kill()
                part.start()
        for liker in likers:
            liker.result(60)
    eventually(nothing_left, "every like lands", 60)
    assert persisted(posts) == dict.fromkeys(posts, each)
    assert audit.take().exit_code == 0


def taken(posts: list[int]) -> int:
    return sum(total.likes for total in counts.totals(posts).values())


def test_a_broker_that_was_away_costs_no_like_and_no_restart(process: Start, broker: Server) -> None:
    [post] = make_posts(1)
    parts = [worker(process, "--concurrency", "1", app="likesite"), beat(process)]
    counts.like(post)
    eventually(lambda: persisted([post]) == {post: 1}, "the first like lands", 60)
    broker.kill()
    counts.like(post)
    eventually(lambda: all("refused" in part.output or "Error" in part.output for part in parts), "both notice", 60)
    broker.start()
    eventually(lambda: persisted([post]) == {post: 2}, "the second like lands", 60)
    assert all(part.running for part in parts)
    assert audit.take().exit_code == 0


def evicted(server: Server) -> int:
    """Return how many keys a Valkey has dropped for want of memory."""
    with Redis.from_url(server.server.url) as client:
        return int(client.info("stats")["evicted_keys"])


def test_a_queue_that_nobody_read_until_its_broker_was_full_costs_no_like_and_no_restart(process: Start) -> None:
    [post] = make_posts(1)
    small = valkey(**BROKER | {"maxmemory": "4mb"})
    url = small.server.url.replace("unix://", "redis+socket://")
    sender = beat(process, CELERY_BROKER_URL=url)
    counts.like(post)
    with app.connection_for_write(url) as connected:
        for _ in range(20_000):  # days of ticks; a few thousand fill it
            tasks.tick.apply_async(connection=connected, expires=0)
            if evicted(small):
                break
        assert evicted(small), "the queue outgrew its broker"
    worker(process, "--concurrency", "1", app="likesite", CELERY_BROKER_URL=url)
    eventually(lambda: persisted([post]) == {post: 1}, "the like of then lands", 60)
    counts.like(post)
    eventually(lambda: persisted([post]) == {post: 2}, "the next like lands", 60)
    assert sender.running
    assert audit.take().exit_code == 0
