"""The lane while its servers are slow, away or gone: bounded, no stampede, and nothing acknowledged is lost."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Callable, Iterator
from threading import Event
from typing import Any

import pytest
from django.db import connection
from django.test import override_settings

from likes import audit, counts, wire
from likes.buffer import LIKE, Unavailable, flusher
from likes.counts import BulkLiked, Liked
from tests import doors
from tests.doors import PATIENCE, Door
from tests.proxy import Fault, Proxy, keep
from tests.servers import Server, eventually
from tests.stack import make_posts

PROMISED = 1.5  # seconds until a like without Redis is answered
SLACK = 3  # times that, on a busy machine
NAME = LIKE.sha.encode()
ROOM = 1_000  # likes that may wait, the least that a setting allows


@pytest.fixture
def posts() -> list[int]:
    """Make warm posts of several shards."""
    mine = make_posts(8)
    counts.totals(mine)
    return mine


@pytest.fixture
def lane() -> Iterator[Door]:
    """Open the lane, bulk likes to everyone."""
    with override_settings(LIKES_DEMO=True, LIKES_INFLIGHT=ROOM):
        yield doors.lane()


def told(answers: list[Any]) -> Counter[str]:
    """Count the likes that were acknowledged, and the others by their outcome."""
    return Counter("acknowledged" if isinstance(answer, Liked | BulkLiked) else answer.outcome for answer in answers)


def counted(posts: list[int]) -> int:
    return sum(total.likes for total in counts.totals(posts).values())


@pytest.mark.parametrize("call", [doors.like, lambda post: doors.many([(post, 1)])], ids=["likes", "bulk"])
def test_more_likes_than_may_wait_are_turned_away_at_once_and_those_that_wait_are_counted(
    line: Proxy, posts: list[int], lane: Door, monkeypatch: pytest.MonkeyPatch, call: Callable[[int], doors.Call]
) -> None:
    monkeypatch.setattr(wire, "REPLY_TIMEOUT", PATIENCE)
    slow = line.arm(Fault(NAME, reply=keep, hold=Event()))
    waiting = lane.begin(*(call(posts[turn % 8]) for turn in range(ROOM)))
    turned_away = lane.at_once(*[call(posts[0])] * 50)
    assert told(turned_away) == {"not_applied": 50}
    assert not waiting.done()
    assert slow.hold is not None
    slow.hold.set()
    assert told(waiting.result(PATIENCE)) == {"acknowledged": ROOM}
    assert told(lane.at_once(call(posts[0]))) == {"acknowledged": 1}
    assert counted(posts) == ROOM + 1
    assert audit.take().exit_code == 0


def test_a_crowd_that_comes_again_and_again_to_a_frozen_redis_is_a_few_connections_to_it(
    line: Proxy, posts: list[int], lane: Door, redis: Server
) -> None:
    crowd, rounds = [doors.like(post) for post in posts * 25], 3
    assert told(lane.at_once(*crowd)) == {"acknowledged": 200}
    said = Counter[str]()
    connections, requests = line.connections, len(line.requests)
    redis.freeze()
    for _ in range(rounds):
        said += told(lane.at_once(*crowd))
    redis.thaw()
    assert said["acknowledged"] == 0
    assert said["unknown"] + said["not_applied"] == rounds * 200
    assert line.connections - connections <= 2 * rounds, "a trip fails, and one may be under way behind it"
    assert len(line.requests) - requests <= 2 * rounds
    eventually(lambda: told(lane.at_once(doors.like(posts[0]))) == {"acknowledged": 1}, "the lane is back")
    connections = line.connections
    assert told(lane.at_once(*crowd)) == {"acknowledged": 200}
    assert line.connections - connections <= 1
    assert 401 <= counted(posts) <= 401 + said["unknown"]
    assert audit.take().exit_code == 0


def test_a_redis_that_is_away_is_answered_in_time_however_many_come(
    posts: list[int], lane: Door, redis: Server
) -> None:
    assert told(lane.at_once(doors.like(posts[0]))) == {"acknowledged": 1}
    redis.kill()
    started = time.monotonic()
    assert told(lane.at_once(*(doors.like(post) for post in posts * 50))) == {"not_applied": 400}
    assert time.monotonic() - started < PROMISED * SLACK
    redis.start()
    assert told(lane.at_once(*(doors.like(post) for post in posts))) == {"acknowledged": 8}
    assert counted(posts) == 9
    assert audit.take().exit_code == 0


def test_a_like_that_was_acknowledged_is_on_disk(posts: list[int], lane: Door, redis: Server) -> None:
    """Redis is killed with the acknowledgement in hand; an answer under a key is on disk as well."""
    assert flusher.client.config_get("appendfsync") == {"appendfsync": "always"}
    for turn in range(1, 4):
        keyed = [doors.like(post, f"key-{turn}") for post in posts]
        crowd = [doors.like(posts[0]) for _ in range(50)]
        assert told(lane.at_once(*keyed, *crowd)) == {"acknowledged": 58}
        redis.restart()
        assert counted(posts) == 58 * turn
        assert all(liked.replayed for liked in lane.at_once(*keyed))
    assert audit.take().exit_code == 0


def test_without_postgresql_warm_posts_are_liked_and_read_and_cold_ones_say_so(
    posts: list[int], lane: Door, postgres: Server
) -> None:
    [cold] = make_posts(1)
    postgres.kill()
    calls = [doors.like(posts[0]), doors.like(cold), doors.like(posts[1], "a"), doors.many([(posts[2], 3)])]
    liked, refused, keyed, bulk = lane.at_once(*calls)
    assert (liked, keyed, bulk.accepted) == (Liked(1, False), Liked(1, False), 3)
    assert isinstance(refused, Unavailable)
    assert refused.outcome == "not_applied"
    assert lane.likes(posts[:3]) == {posts[0]: 1, posts[1]: 1, posts[2]: 3}
    postgres.start()
    connection.close()
    assert lane.like(cold).likes == 1
    assert audit.take().exit_code == 0
