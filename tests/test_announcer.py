"""What a process tells of its own likes: at once, together, never too often, and never at the cost of a like."""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable, Iterator, Mapping

import pytest
from redis import Redis

from likes import announcer as module
from likes import counts, events
from likes.announcer import CLOSE_SECONDS, MOST_WAITING, PAUSE_SECONDS, Announcer
from likes.events import POSTS_A_MESSAGE, Told, Unheard
from likes.models import Post
from tests.servers import Server, eventually

SLACK = 3


class Streams:
    """Stands for the wire: what was told, when, and whether anybody takes it."""

    def __init__(self) -> None:
        self.told: list[dict[int, Told]] = []
        self.began: list[float] = []
        self.error: Exception | None = None
        self.open = threading.Event()
        self.open.set()

    def __call__(self, posts: Mapping[int, Told]) -> None:
        self.began.append(time.monotonic())
        assert self.open.wait(30), "the test never let it go on"
        if self.error is not None:
            raise self.error
        self.told.append(dict(posts))

    def hold(self, announcer: Announcer) -> None:
        """Keep the announcer in the middle of a message, so that whatever comes has to wait."""
        self.open.clear()
        messages = len(self.began)
        announcer.tell(999, 1, 1, 1)
        eventually(lambda: len(self.began) > messages, "it is telling")

    def latest(self) -> dict[int, Told]:
        return self.told[-1] if self.told else {}


@pytest.fixture
def streams() -> Streams:
    return Streams()


@pytest.fixture
def announcer(streams: Streams) -> Iterator[Announcer]:
    """One that tells `streams`."""
    running = Announcer(streams)
    running.open()
    yield running
    streams.open.set()
    running.close()


def test_likes_of_a_post_are_told_together_with_their_latest_total(announcer: Announcer, streams: Streams) -> None:
    streams.hold(announcer)
    for total in range(11, 21):
        announcer.tell(1, total, total * 10, 1)
    streams.open.set()
    eventually(lambda: streams.latest() == {1: (20, 200, 10)}, "all of them are told at once")


def test_the_newest_total_is_told_whichever_came_last(announcer: Announcer, streams: Streams) -> None:
    streams.hold(announcer)
    announcer.tell(1, 15, 50, 2)  # 13 → 15
    announcer.tell(1, 12, 20, 2)  # 10 → 12, by a thread that was held up; 12 → 13 is another process'
    streams.open.set()
    eventually(lambda: streams.latest() == {1: (15, 50, 5)}, "the newest, with the growth since the first")


def test_a_process_tells_at_most_twenty_times_a_second(announcer: Announcer, streams: Streams) -> None:
    total = 0

    def like() -> bool:
        nonlocal total
        total += 1
        announcer.tell(1, total, total, 1)
        return len(streams.told) == 10

    eventually(like, "it told ten times")
    pauses = [later - before for before, later in zip(streams.began, streams.began[1:], strict=False)]
    assert min(pauses) >= PAUSE_SECONDS == 1 / 20


def test_a_message_is_bounded_and_what_waited_longest_goes_first(announcer: Announcer, streams: Streams) -> None:
    streams.hold(announcer)
    for post in range(1, POSTS_A_MESSAGE + 2):
        announcer.tell(post, 1, 1, 1)
    streams.open.set()
    eventually(lambda: len(streams.told) == 3, "all is told")
    assert [list(told) for told in streams.told] == [[999], list(range(1, POSTS_A_MESSAGE + 1)), [POSTS_A_MESSAGE + 1]]


def test_what_waits_is_bounded_and_the_posts_that_wait_stay_up_to_date(announcer: Announcer, streams: Streams) -> None:
    streams.hold(announcer)
    for post in range(1, MOST_WAITING + 2):
        announcer.tell(post, 1, 1, 1)
    announcer.tell(1, 5, 5, 4)
    streams.open.set()
    eventually(lambda: len(streams.told) == 1 + MOST_WAITING // POSTS_A_MESSAGE, "all is told")
    told = {post: this for message in streams.told[1:] for post, this in message.items()}
    assert told.keys() == set(range(1, MOST_WAITING + 1))
    assert told[1] == (5, 5, 5)


def test_while_redis_is_away_only_the_latest_totals_wait_and_one_line_is_logged(
    announcer: Announcer, streams: Streams, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(module, "AWAY_SECONDS", 0.01)
    streams.error = Unheard("away")
    for total in range(1, 6):
        announcer.tell(1, total, total, 1)
        attempts = len(streams.began)
        eventually(lambda: len(streams.began) > attempts, "it tries again")  # noqa: B023 - called right here
    streams.error = None
    eventually(lambda: streams.told == [{1: (5, 5, 5)}], "what waited is told once")
    assert [record.levelname for record in caplog.records if record.levelno >= logging.INFO] == ["WARNING"]


def test_a_fault_of_ours_costs_one_message_and_no_like(
    announcer: Announcer, streams: Streams, caplog: pytest.LogCaptureFixture
) -> None:
    streams.error = ZeroDivisionError("a fault")
    announcer.tell(1, 1, 1, 1)
    eventually(lambda: any(record.levelname == "ERROR" for record in caplog.records), "it is shown")
    streams.error = None
    announcer.tell(1, 2, 2, 1)
    eventually(lambda: streams.latest() == {1: (2, 2, 1)}, "the next like is told")


def test_what_waits_at_the_end_is_told(announcer: Announcer, streams: Streams) -> None:
    streams.hold(announcer)
    for post in range(1, 2 * POSTS_A_MESSAGE + 1):
        announcer.tell(post, 1, 1, 1)
    threading.Timer(0.05, streams.open.set).start()
    announcer.close()
    assert [len(told) for told in streams.told] == [1, POSTS_A_MESSAGE, POSTS_A_MESSAGE]
    announcer.tell(1, 2, 2, 1)  # too late
    assert len(streams.told) == 3


def test_an_end_with_redis_frozen_is_bounded(redis: Server) -> None:
    announcer = Announcer()
    announcer.open()
    redis.freeze()
    announcer.tell(1, 1, 1, 1)
    began = time.monotonic()
    announcer.close()
    assert time.monotonic() - began < CLOSE_SECONDS * SLACK
    redis.thaw()


@pytest.fixture
def heard(redis: Server) -> Iterator[Callable[[float], dict[int, Told] | None]]:
    """Return what is told within some seconds, None where nothing is."""
    with Redis.from_url(redis.server.url).pubsub(ignore_subscribe_messages=True) as subscription:
        subscription.subscribe(events.WIRE)
        assert subscription.get_message(timeout=10) is None

        def next_told(timeout: float) -> dict[int, Told] | None:
            message = subscription.get_message(timeout=timeout)
            update = events.parse(message["data"]) if message else None
            return update.posts if isinstance(update, events.Update) else None

        yield next_told


def test_one_connection_serves_all_messages(heard: Callable[[float], dict[int, Told] | None], redis: Server) -> None:
    announcer = Announcer()
    announcer.open()
    with Redis.from_url(redis.server.url) as client:
        announcer.tell(1, 1, 1, 1)
        assert heard(10) == {1: (1, 1, 1)}
        before = client.info("stats")["total_connections_received"]
        for total in range(2, 6):
            announcer.tell(1, total, total, 1)
            assert heard(10) == {1: (total, total, 1)}
        assert client.info("stats")["total_connections_received"] == before
    announcer.close()


def test_only_a_web_process_tells(heard: Callable[[float], dict[int, Told] | None]) -> None:
    post = Post.objects.create(title="one")
    counts.like(post.pk)
    module.announcer.close()  # it was never opened here; whatever waited would be told by this
    events.announce({999: (1, 1, 1)})
    assert heard(10) == {999: (1, 1, 1)}
