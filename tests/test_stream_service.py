"""Streams of the whole service: real likes, a real flush, a real end."""

from __future__ import annotations

import json
import time
from contextlib import ExitStack
from urllib.request import Request, urlopen

import psutil
import pytest

from likes import books, counts, events, tasks
from likes.models import Post
from tests.live import Reader, Site, listeners, summed
from tests.servers import Process, Server, eventually

OUTAGE_SECONDS = 30.0  # for which Redis may be away, and no process needs a restart
SHUTDOWN_SECONDS = 5.0  # with streams open
SLACK = 3


@pytest.fixture
def site(process: type[Process], redis: Server) -> Site:
    """The service, listening."""
    running = Site(process).wait_ready()
    eventually(lambda: listeners(redis) == 1, "the service subscribes")
    return running


def like(site: Site, post: Post) -> int:
    request = Request(f"http://127.0.0.1:{site.port}/api/v1/posts/{post.pk}/like", method="POST")
    with urlopen(request, timeout=10) as response:
        likes: int = json.load(response)["likes"]
        return likes


def flush(post: Post) -> int:
    return tasks.flush_shard(counts.buffer.shard(post.pk))


def test_an_eventsource_that_adds_up_counts_has_the_total(site: Site) -> None:
    post = Post.objects.create(title="one")
    other = Post.objects.create(title="two")
    with Reader(site.port) as every:
        assert every.event() == {"count": 0, "likes": {}}
        like(site, post)
        assert every.event() == {"count": 1, "likes": {str(post.pk): 1}}
        with Reader(site.port, f"/events?post={post.pk}") as mine:
            assert mine.event() == {"count": 0, "likes": {str(post.pk): 1}}
            for total in (2, 3, 4):
                assert like(site, post) == total
                assert like(site, other) == total - 1
            # Before the flush: told by the flush first, a total comes without its growth, which then follows.
            assert every.latest_until({str(post.pk): 4, str(other.pk): 3}) == 3 + 3
            assert flush(post) == 4
            assert flush(other) in (0, 3)  # 0 when it shares the shard
            assert 1 + summed(mine.events_until(post.pk, 4)) == 4
        assert like(site, other) == 4
        assert every.event() == {"count": 1, "likes": {str(other.pk): 4}}  # the flush made no event


def test_the_pipeline_tells_what_a_flush_did(site: Site) -> None:
    post = Post.objects.create(title="one")
    with Reader(site.port, "/events/pipeline") as reader:
        assert reader.event()["stage"] == "snapshot"
        like(site, post)
        flush(post)
        told = reader.event()
    assert (told["posts"], told["likes"], told["persisted"]) == (1, 1, {str(post.pk): 1})


def test_after_thirty_seconds_without_redis_streams_deliver(site: Site, redis: Server) -> None:
    post = Post.objects.create(title="one")
    with Reader(site.port, f"/events?post={post.pk}") as old:
        assert old.event()["likes"] == {str(post.pk): 0}
        redis.kill()
        until = time.monotonic() + OUTAGE_SECONDS
        eventually(lambda: time.monotonic() > until, "the outage is long enough", timeout=OUTAGE_SECONDS * SLACK)
        with Reader(site.port, f"/events?post={post.pk}") as new:
            assert new.status == 200
            redis.start()
            assert new.event()["likes"] == {str(post.pk): 0}
            eventually(lambda: listeners(redis) == 1, "the service subscribes again")
            assert like(site, post) == 1
            flush(post)
            assert old.event() == new.event() == {"count": 1, "likes": {str(post.pk): 1}}


def test_a_hundred_streams_hold_no_thread(site: Site) -> None:
    post = Post.objects.create(title="one")
    paths = ("/events", f"/events?post={post.pk}", "/events/pipeline")
    with ExitStack() as stack:
        for path in paths:
            assert stack.enter_context(Reader(site.port, path)).event()
        before = psutil.Process(site.pid).num_threads()
        for number in range(100):
            assert stack.enter_context(Reader(site.port, paths[number % 3])).event()
        assert psutil.Process(site.pid).num_threads() == before


def test_it_ends_within_its_time_with_streams_open(site: Site) -> None:
    posts = range(1, 1_001)
    with ExitStack() as stack:
        readers = [stack.enter_context(Reader(site.port, "/events" if n % 2 else "/events?post=1")) for n in range(20)]
        for reader in readers:
            assert reader.event()["count"] == 0
        stack.enter_context(Reader(site.port, stuck=True))  # takes nothing, and is not waited for
        for version in range(10**12, 10**12 + 60):
            events.announce(dict.fromkeys(posts, (version, version, 1)))
        for reader in readers:
            reader.events_until(1, version)
        site.process.stop(timeout=SHUTDOWN_SECONDS * SLACK)
        for reader in readers:
            while reader.block() is not None:
                pass  # each is ended as HTTP has it, not cut off
    assert "Traceback" not in site.process.output
    assert "Cancel" not in site.process.output  # they ended before the server's deadline


def test_a_process_that_would_shard_otherwise_does_not_start(process: type[Process]) -> None:
    books.check_deployment()
    refused = Site(process, LIKES_SHARDS="3")
    eventually(lambda: not refused.process.running, "it ends")
    assert refused.process.stop() != 0
    assert "LIKES_SHARDS" in refused.process.output


def test_a_process_starts_without_postgresql(process: type[Process], postgres: Server) -> None:
    postgres.stop()
    running = Site(process).wait_ready()
    with Reader(running.port) as reader:
        assert reader.event() == {"count": 0, "likes": {}}
