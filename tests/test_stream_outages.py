"""Streams when Redis is away or a reader is stuck: they deliver again, and nothing is held for good."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import count

import psutil
import pytest

from likes import events
from tests.live import Reader, Totals, Web, listeners, open_streams
from tests.servers import Server, eventually


@pytest.fixture
def totals() -> Totals:
    """What snapshots read."""
    return Totals()


@pytest.fixture
def web(totals: Totals, redis: Server) -> Iterator[Web]:
    """A server that hears what is announced, and that drops a reader soon."""
    running = Web(totals, ping_seconds=0.1, write_seconds=0.3)
    eventually(lambda: listeners(redis) == 1, "the server subscribes")
    yield running
    running.stop()
    assert open_streams() == 0


def connections(web: Web) -> int:
    """Return how many connections the server holds."""
    held = psutil.Process().net_connections("tcp4")
    return sum(one.laddr.port == web.port and one.status == psutil.CONN_ESTABLISHED for one in held)


def test_a_redis_that_was_killed_is_listened_to_again(web: Web, totals: Totals, redis: Server) -> None:
    for post in (1, 2, 3):
        totals.set(post, post * 10, version=5)
    with Reader(web.port, "/events?post=1") as old, Reader(web.port) as every:
        assert old.event()["likes"] == {"1": 10}
        every.event()
        events.announce({2: (21, 6, 1)})
        assert every.event() == {"count": 1, "likes": {"2": 21}}
        totals.away = {1, 2, 3}
        redis.kill()
        totals.set(1, 11, version=3)  # changed, and nobody could tell; in a wiped Redis the version is lower
        totals.set(2, 23, version=3)
        with Reader(web.port, "/events?post=3") as new:
            assert (new.block() or "").startswith("retry: ")
            assert [new.block() for _ in range(3)] == [":"] * 3  # open, and waiting for its snapshot
            redis.start()
            totals.away = set()
            assert new.event() == {"count": 0, "likes": {"3": 30}}
            assert old.event() == {"count": 1, "likes": {"1": 11}}
            assert every.event() == {"count": 2, "likes": {"2": 23}}
            eventually(lambda: listeners(redis) == 1, "the server subscribes again")
            events.announce({3: (31, 9, 1)})
            assert new.event() == every.event() == {"count": 1, "likes": {"3": 31}}


def test_a_connection_that_is_dead_but_open_is_noticed(
    web: Web, redis: Server, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(events, "QUIET_SECONDS", 0.1)
    with Reader(web.port) as reader:
        assert reader.event()["likes"] == {}
        events.announce({1: (5, 1, 5)})  # whatever is heard ends a wait that began before
        assert reader.event()["likes"] == {"1": 5}
        redis.freeze()
        eventually(lambda: "interrupted: Redis said nothing" in caplog.text, "the silence is noticed")
        redis.thaw()
        eventually(lambda: listeners(redis) == 1, "the server subscribes again")
        events.announce({1: (6, 2, 1)})
        assert reader.event() == {"count": 1, "likes": {"1": 6}}


def test_a_reader_that_takes_nothing_is_cut_off(web: Web) -> None:
    posts = range(1, 1_001)
    with Reader(web.port, stuck=True) as stuck, Reader(web.port) as quick:
        eventually(lambda: open_streams() == 2, "both are open")
        for version in count(10**12):
            events.announce(dict.fromkeys(posts, (version, version, 1)))
            quick.events_until(1, version)
            if open_streams() == 1:
                break
        eventually(lambda: connections(web) == 1, "nothing waits to be written to it any more")
        stuck.hurry()
        with pytest.raises((EOFError, ConnectionResetError)):
            stuck.events_until(0, 0)  # reads whatever was on its way, and then the cut


def test_a_reader_that_goes_is_forgotten(web: Web, totals: Totals) -> None:
    totals.away = {1}  # one of them goes before its snapshot could be read
    for path in ("/events", "/events?post=1", "/events/pipeline"):
        with Reader(web.port, path):
            eventually(lambda: open_streams() == 1, "it is open")
        eventually(lambda: open_streams() == 0, "it is forgotten")


def test_a_server_that_cancels_its_streams_leaves_no_traceback(web: Web, caplog: pytest.LogCaptureFixture) -> None:
    with Reader(web.port) as reader, Reader(web.port, "/events?post=1") as other:
        assert reader.event() == other.event() == {"count": 0, "likes": {}}
        web.stop()  # in a thread no signal is caught, so that they end at the server's own deadline
        while reader.block() is not None:
            pass
        while other.block() is not None:
            pass
    assert "Traceback" not in caplog.text
    assert "ASGI" not in caplog.text
