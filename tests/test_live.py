"""A like is on every screen at once: told by the process that took it, and by the flush a second time for nothing."""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from itertools import count
from typing import Any

import pytest

from likes import counts, tasks
from likes.buffer import buffer
from tests.live import Reader, listeners, summed
from tests.servers import Process, Server, eventually
from tests.stack import Web, make_posts

Start = Callable[..., Web]


@pytest.fixture
def start(process: type[Process], redis: Server) -> Start:
    """Start a web process that listens."""
    running = count(1)

    def one(**environment: str) -> Web:
        web = Web(process, LIKES_DEMO="on", **environment).start()
        number = next(running)
        eventually(lambda: listeners(redis) == number, "it subscribes")
        return web

    return one


def like(web: Web, post: int, **headers: str) -> None:
    status, _ = web.call("POST", f"/api/v1/posts/{post}/like", **headers)
    assert status == 202


def like_many(web: Web, post: int, likes: int, **headers: str) -> None:
    status, _ = web.call("POST", "/api/v1/likes", {"likes": [{"post": post, "count": likes}]}, **headers)
    assert status == 202


WAYS: dict[str, Callable[[Web, int], Any]] = {
    "a like": like,
    "a like under a key": lambda web, post: like(web, post, Idempotency_Key="one"),
    "a bulk call": lambda web, post: like_many(web, post, 1),
    "a bulk call under a key": lambda web, post: like_many(web, post, 1, Idempotency_Key="one"),
}


@pytest.mark.parametrize("lane", ["on", "off"])
def test_a_total_on_screen_never_waits_for_postgresql(start: Start, postgres: Server, lane: str) -> None:
    web = start(LIKES_FASTLANE=lane)
    posts = dict(zip(WAYS, make_posts(len(WAYS)), strict=True))
    assert web.call("GET", "/api/v1/likes?" + "&".join(f"post={post}" for post in posts.values()))[0] == 200  # warm now
    with ExitStack() as stack:
        every = stack.enter_context(Reader(web.port))
        assert every.event() == {"count": 0, "likes": {}}
        mine = {way: stack.enter_context(Reader(web.port, f"/events?post={post}")) for way, post in posts.items()}
        assert [reader.event()["likes"] for reader in mine.values()] == [{str(post): 0} for post in posts.values()]
        postgres.stop()
        for way, post in posts.items():
            WAYS[way](web, post)
            assert mine[way].event() == {"count": 1, "likes": {str(post): 1}}
            assert every.event() == {"count": 1, "likes": {str(post): 1}}


@pytest.mark.parametrize("way", WAYS)
def test_a_replay_tells_nothing(start: Start, way: str) -> None:
    web = start()
    [post, other] = make_posts(2)
    with Reader(web.port) as every:
        every.event()
        WAYS[way](web, post)
        assert every.event() == {"count": 1, "likes": {str(post): 1}}
        if "key" in way:
            WAYS[way](web, post)
        like(web, other)
        assert every.event() == {"count": 1, "likes": {str(other): 1}}


def test_what_a_flush_tells_adds_nothing(start: Start) -> None:
    web = start()
    [post] = make_posts(1)
    with Reader(web.port) as every, Reader(web.port, f"/events?post={post}") as mine:
        assert every.event()["count"] == mine.event()["count"] == 0
        for total in (1, 2):
            like(web, post)
            assert every.event() == mine.event() == {"count": 1, "likes": {str(post): total}}
        assert tasks.flush_shard(buffer.shard(post)) == 2
        like(web, post)  # the flush's own announcement was no event between the two
        assert every.event() == mine.event() == {"count": 1, "likes": {str(post): 3}}


def test_a_flush_tells_what_no_web_process_told(start: Start) -> None:
    web = start()
    [post] = make_posts(1)
    with Reader(web.port) as every, Reader(web.port, f"/events?post={post}") as mine:
        assert every.event()["count"] == mine.event()["count"] == 0
        counts.like(post)  # here, where nobody announces
        assert tasks.flush_shard(buffer.shard(post)) == 1
        assert every.event()["likes"] == mine.event()["likes"] == {str(post): 1}


def test_likes_of_several_processes_and_the_flush_are_counted_once_on_every_screen(start: Start) -> None:
    webs = [start(), start(LIKES_FASTLANE="off")]
    posts = make_posts(3)
    each = 40
    with ExitStack() as stack:
        query = "&".join(f"post={post}" for post in posts)
        every = [stack.enter_context(Reader(web.port)) for web in webs]
        mine = [stack.enter_context(Reader(web.port, f"/events?{query}")) for web in webs]
        for reader in (*every, *mine):
            assert reader.event()["count"] == 0
        with ThreadPoolExecutor(6) as pool:
            done = [pool.submit(like, web, post) for _ in range(each) for post in posts for web in webs]
            for post in posts:
                tasks.flush_shard(buffer.shard(post))
            assert [one.result() for one in done] == [None] * (2 * each * len(posts))
        for post in posts:
            tasks.flush_shard(buffer.shard(post))
        totals = {str(post): 2 * each for post in posts}
        assert [reader.latest_until(totals) for reader in (*every, *mine)] == [sum(totals.values())] * 4


def test_after_a_restart_of_redis_likes_are_told_again(start: Start, redis: Server) -> None:
    web = start()
    [post] = make_posts(1)
    with Reader(web.port, f"/events?post={post}") as mine:
        mine.event()
        like(web, post)
        assert mine.event()["likes"] == {str(post): 1}
        redis.kill()
        redis.start()
        eventually(lambda: listeners(redis) == 1, "it subscribes again")
        like(web, post)
        told = mine.events_until(post, 2)
    assert summed(told) == 1


def test_what_was_liked_last_is_told_before_a_process_ends(start: Start, redis: Server) -> None:
    staying, ending = start(), start()
    [post] = make_posts(1)
    with Reader(staying.port, f"/events?post={post}") as mine:
        assert mine.event()["count"] == 0
        for _ in range(5):
            like(ending, post)
        ending.process.stop()
        assert summed(mine.events_until(post, 5)) == 5
