"""What a stream tells: a snapshot, then the latest totals, in counts that add up."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import ExitStack

import pytest
from redis import Redis

from likes import events
from tests.live import Reader, Totals, Web, listeners, open_streams, summed
from tests.servers import Server, eventually

EMPTY = {"count": 0, "likes": {}}


@pytest.fixture
def totals() -> Totals:
    """What snapshots read."""
    return Totals()


@pytest.fixture
def web(totals: Totals, redis: Server) -> Iterator[Web]:
    """A server that hears what is announced."""
    running = Web(totals, ping_seconds=0.2)
    eventually(lambda: listeners(redis) == 1, "the server subscribes")
    yield running
    running.stop()
    assert open_streams() == 0


def tell(post: int, total: int, version: int, added: int = 1) -> None:
    events.announce({post: (total, version, added)})


def test_a_filtered_stream_begins_with_the_totals_of_its_posts(web: Web, totals: Totals) -> None:
    totals.set(1, 10, version=5)
    totals.set(2, 20, version=5)
    totals.set(3, 30, version=5)
    with Reader(web.port, "/events?post=1&post=2&post=2&post=999") as reader:
        assert reader.event() == {"count": 0, "likes": {"1": 10, "2": 20}}


def test_a_stream_of_all_posts_begins_empty(web: Web) -> None:
    with Reader(web.port) as reader:
        assert reader.event() == EMPTY
        tell(7, 5, version=1, added=2)
        assert reader.event() == {"count": 2, "likes": {"7": 5}}
        tell(7, 9, version=2, added=1)
        assert reader.event() == {"count": 4, "likes": {"7": 9}}  # what was told adds up, whatever a batch added


def test_an_announcement_that_was_lost_is_made_good(totals: Totals, redis: Server) -> None:
    totals.set(1, 10, version=5)
    web = Web(totals, ping_seconds=0.2, read_again_seconds=0.2)
    with Reader(web.port, "/events?post=1") as reader:
        assert reader.event() == {"count": 0, "likes": {"1": 10}}
        totals.set(1, 11, version=6)  # nobody tells
        assert reader.event() == {"count": 1, "likes": {"1": 11}}
    web.stop()


def test_snapshot_and_counts_add_up_to_the_total(web: Web, totals: Totals) -> None:
    totals.set(1, 10, version=5)
    totals.set(2, 20, version=5)
    with Reader(web.port, "/events?post=1&post=2") as reader:
        snapshot = reader.event()
        tell(1, 13, version=6, added=3)
        tell(2, 25, version=7, added=1)
        tell(1, 12, version=8, added=1)
        tell(2, 0, version=9, added=0)  # taken back
        told = reader.events_until(2, 0)
    assert sum(snapshot["likes"].values()) + summed(told) == 12 + 0


def test_what_was_told_already_adds_nothing_and_makes_no_event(web: Web, totals: Totals) -> None:
    totals.set(1, 15, version=5)  # 5 of them not flushed when the snapshot is read
    with Reader(web.port, "/events?post=1") as reader:
        reader.event()
        tell(1, 15, version=6, added=5)
        tell(1, 16, version=7, added=1)
        assert reader.event() == {"count": 1, "likes": {"1": 16}}


def test_a_filtered_stream_hears_of_its_posts_only(web: Web, totals: Totals) -> None:
    totals.set(1, 1, version=1)
    with Reader(web.port, "/events?post=1") as reader:
        reader.event()
        events.announce({1: (2, 2, 1), 2: (50, 2, 50)})
        assert reader.event() == {"count": 1, "likes": {"1": 2}}


def test_a_post_that_is_made_later_is_heard_of(web: Web) -> None:
    with Reader(web.port, "/events?post=9") as reader:
        assert reader.event() == EMPTY
        tell(9, 3, version=1, added=3)
        assert reader.event() == {"count": 3, "likes": {"9": 3}}


def test_an_older_version_is_dropped(web: Web, totals: Totals) -> None:
    totals.set(1, 10, version=50)
    with Reader(web.port, "/events?post=1") as some, Reader(web.port) as every:
        assert some.event()["likes"] == {"1": 10}
        assert every.event() == EMPTY
        tell(1, 12, version=60, added=2)
        tell(1, 9, version=59, added=0)
        tell(1, 8, version=1, added=0)
        tell(1, 14, version=60, added=2)  # the same version: part of the same change
        assert [event["likes"]["1"] for event in some.events_until(1, 14)] in ([12, 14], [14])
        told = every.events_until(1, 14)
        assert {event["likes"]["1"] for event in told} <= {12, 14}
        assert summed(told) == 4


def test_an_update_that_comes_before_the_snapshot_is_read_is_not_lost(web: Web, totals: Totals) -> None:
    totals.set(1, 10, version=5)
    totals.open.clear()
    with Reader(web.port, "/events?post=1") as reader, Reader(web.port) as every:
        eventually(lambda: totals.reads, "the snapshot is being read")
        every.event()
        tell(1, 11, version=6)
        assert every.event()["likes"] == {"1": 11}
        totals.open.set()  # it answers what it found before: 10, at version 5
        assert reader.event() == {"count": 0, "likes": {"1": 11}}


def test_streams_that_come_at_once_share_their_reads(web: Web, totals: Totals) -> None:
    for post in range(1, 6):
        totals.set(post, post, version=1)
    totals.open.clear()
    with ExitStack() as stack:
        first = stack.enter_context(Reader(web.port, "/events?post=1"))
        eventually(lambda: totals.reads, "the first snapshot is being read")
        rest = [stack.enter_context(Reader(web.port, f"/events?post={n % 5 + 1}")) for n in range(40)]
        eventually(lambda: open_streams() == 41, "all are open")
        totals.open.set()
        assert first.event()["likes"] == {"1": 1}
        assert [reader.event()["likes"] for reader in rest] == [{str(n % 5 + 1): n % 5 + 1} for n in range(40)]
    assert len(totals.reads) == 2
    assert sorted(totals.reads[1]) == [1, 2, 3, 4, 5]


def test_a_post_that_cannot_be_read_holds_up_no_stream_of_others(web: Web, totals: Totals) -> None:
    for post in range(1, 6):
        totals.set(post, post, version=1)
    totals.away = {2}
    totals.open.clear()
    with ExitStack() as stack:
        first = stack.enter_context(Reader(web.port, "/events?post=5"))
        eventually(lambda: totals.reads, "a snapshot is being read, so that the next have to wait and are read at once")
        rest = [stack.enter_context(Reader(web.port, f"/events?post={post}")) for post in (1, 2, 3, 4)]
        eventually(lambda: open_streams() == 5, "all are open")
        totals.open.set()
        assert [reader.event()["likes"] for reader in (first, rest[0], rest[2], rest[3])] == [
            {"5": 5}, {"1": 1}, {"3": 3}, {"4": 4},
        ]  # fmt: skip
        assert sorted(totals.reads[1]) == [1, 2, 3, 4]
        tell(2, 5, version=2)
        totals.away = set()
        assert rest[1].event() == {"count": 0, "likes": {"2": 5}}


def test_a_reader_that_is_slow_gets_fewer_events_and_the_right_end(web: Web, totals: Totals) -> None:
    posts = range(1, 1_001)
    for post in posts:
        totals.set(post, 0, version=1)
    paths = ("/events", "/events?" + "&".join(f"post={post}" for post in range(1, 101)))
    with ExitStack() as stack:
        slow = [stack.enter_context(Reader(web.port, path, stuck=True)) for path in paths]
        quick = stack.enter_context(Reader(web.port))
        assert quick.event() == EMPTY
        rounds = 60
        for version in range(2, rounds + 2):
            events.announce(dict.fromkeys(posts, (version * 10**12, version, 10**12)))
        last = (rounds + 1) * 10**12
        quick.events_until(1, last)
        for reader in slow:
            reader.hurry()
        assert slow[0].event() == EMPTY
        everything, hundred = slow[0].events_until(1, last), slow[1].events_until(1, last)
    assert len(everything) < rounds
    assert everything[-1]["likes"] == {str(post): last for post in posts}
    assert summed(everything) == rounds * 10**12 * len(posts)
    assert hundred[-1]["likes"] == {str(post): last for post in range(1, 101)}
    assert sum(hundred[0]["likes"].values()) + summed(hundred) == last * 100


def test_the_pipeline_tells_of_batches(web: Web) -> None:
    with Reader(web.port, "/events/pipeline") as reader:
        assert reader.event() == {"stage": "snapshot", "posts": 0, "likes": 0, "milliseconds": 0, "persisted": {}}
        events.announce_pipeline("acked", posts=1, likes=3, milliseconds=2.5, persisted={4: 9})
        assert reader.event() == {"stage": "acked", "posts": 1, "likes": 3, "milliseconds": 2.5, "persisted": {"4": 9}}


def test_a_silent_stream_is_pinged_by_comments(web: Web) -> None:
    with Reader(web.port) as reader:
        assert (reader.block() or "").startswith("retry: ")
        assert reader.block() == "data: " + json.dumps(EMPTY, separators=(",", ":"))
        assert [reader.block() for _ in range(3)] == [":"] * 3


def test_strangers_on_the_wire_change_nothing(web: Web, redis: Server, caplog: pytest.LogCaptureFixture) -> None:
    data = json.dumps({"posts": [1], "totals": [99], "versions": [9], "added": [99]})
    theirs = json.dumps({"channel": "theirs:likes", "event_type": "message", "data": data, "pub_id": None})
    with Reader(web.port) as reader, Redis.from_url(redis.server.url) as client:
        reader.event()
        for raw in (b"\xff", "nonsense", "[]", '{"channel":"likes:likes","event_type":"message","data":"{"}', theirs):
            assert client.publish(events.WIRE, raw) == 1
        tell(1, 4, version=1)
        assert reader.event() == {"count": 1, "likes": {"1": 4}}
    assert not [record for record in caplog.records if record.levelname in ("WARNING", "ERROR")]


@pytest.mark.parametrize("last", ["1", "likes:likes:99999999", "%00,;:", "error", "", "9" * 4_000])
def test_any_last_event_id_is_harmless(web: Web, totals: Totals, last: str) -> None:
    totals.set(1, 10, version=5)
    with Reader(web.port, "/events?post=1", Last_Event_ID=last) as reader:
        assert reader.status == 200
        assert reader.event() == {"count": 0, "likes": {"1": 10}}
