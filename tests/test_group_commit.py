"""What befalls one trip of the lane, told to each like of it: an error, a loss or a hang-up touches only its own."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from threading import Event
from typing import Any

import pytest
from django.test import override_settings

from likes import audit, counts
from likes.buffer import LIKE, Unavailable, buffer, flusher
from likes.counts import BulkLiked, Liked, UnknownPost
from tests import doors
from tests.doors import PATIENCE, Door
from tests.proxy import Fault, Proxy, keep
from tests.servers import eventually
from tests.stack import make_posts

NAME = LIKE.sha.encode()
REFUSING = "return redis.error_reply(\"OOM command not allowed when used memory > 'maxmemory'.\")"

FAULTS: dict[str, Callable[[], Fault]] = {
    "swallowed": lambda: Fault(NAME, hold=Event()),
    "cut before": lambda: Fault(NAME, reach=False, cut=True, hold=Event()),
    "cut after": lambda: Fault(NAME, cut=True, hold=Event()),
}


@pytest.fixture
def lane(line: Proxy) -> Iterator[Door]:
    """Open the lane, bulk likes to everyone."""
    with override_settings(LIKES_DEMO=True):
        yield doors.lane()


@pytest.fixture
def posts(line: Proxy) -> list[int]:
    """Make warm posts: two of one shard, one of another."""
    mine = [*make_posts(2, shard=1), *make_posts(1, shard=2)]
    counts.totals(mine)
    return mine


def struck(line: Proxy) -> None:
    """Wait until the request has come for which a fault was armed."""
    eventually(lambda: line.armed is None, "the armed request comes")


def go(fault: Fault) -> None:
    assert fault.hold is not None
    fault.hold.set()


class Group:
    """Calls that go together: they come while the reply to one of their kind, `opener`, is held back."""

    def __init__(self, line: Proxy, lane: Door, opener: doors.Call) -> None:
        self.line, self.lane = line, lane
        self._held = line.arm(Fault(NAME, reply=keep, hold=Event()))
        self._opener = lane.begin(opener)
        struck(line)

    def send(self, *calls: doors.Call, fault: Fault | None = None) -> Any:
        """Let them go as one trip, struck by `fault`; return what they will be told."""
        told = self.lane.begin(*calls)
        if fault is not None:
            self.line.arm(fault)
        go(self._held)
        assert outcomes(self._opener.result(PATIENCE))[0] in ("Liked", "BulkLiked")
        return told


def outcomes(told: list[Any]) -> list[str]:
    return [answer.outcome if isinstance(answer, Unavailable) else type(answer).__name__ for answer in told]


def exact(likes: dict[int, int]) -> None:
    """Find the likes in every read and in the books."""
    assert {post: total.likes for post, total in counts.totals(likes).items()} == likes
    assert audit.take().exit_code == 0


@pytest.mark.parametrize("fault", FAULTS)
def test_a_lost_reply_is_unknown_to_its_group_and_those_behind_it_were_never_sent(
    line: Proxy, lane: Door, posts: list[int], fault: str
) -> None:
    one, two, three = posts
    lost = FAULTS[fault]()
    keyed = [doors.like(one, "a"), doors.like(three, "b")]
    told = Group(line, lane, doors.like(one)).send(
        doors.like(one), doors.like(one), *keyed, doors.like(two), fault=lost
    )
    struck(line)
    behind = lane.begin(doors.like(one), doors.like(two, "c"))
    go(lost)
    assert outcomes(told.result(PATIENCE)) == ["unknown"] * 5
    assert outcomes(behind.result(PATIENCE)) == ["not_applied"] * 2
    again = lane.at_once(*keyed)
    assert [liked.replayed for liked in again] == [lost.reach] * 2
    reached = 1 if lost.reach else 0
    exact({one: 1 + 2 * reached + 1, two: reached, three: 1})


def test_likes_of_a_group_are_answered_each_with_its_own_total_and_a_key_of_it_counts_once(
    line: Proxy, lane: Door, posts: list[int]
) -> None:
    one, two, three = posts
    assert lane.like(three, "before") == Liked(1, replayed=False)
    calls = [doors.like(one), doors.like(two), doors.like(one, "a"), doors.like(one, "a"), doors.like(one),
             doors.like(three, "before"), doors.like(three)]  # fmt: skip
    told = Group(line, lane, doors.like(one)).send(*calls).result(PATIENCE)
    trips = [request for request in line.requests if NAME in request]
    assert len(trips) == 3, "the like before, the one that opened the lane, and the group"
    keyed, plain = told[2:4], [told[0], told[4]]
    assert sorted(liked.replayed for liked in keyed) == [False, True]
    assert keyed[0].likes == keyed[1].likes
    assert sorted([keyed[0].likes, *(liked.likes for liked in plain)]) == [2, 3, 4]
    assert told[1] == Liked(1, replayed=False)
    assert told[5:] == [Liked(1, replayed=True), Liked(2, replayed=False)]
    exact({one: 4, two: 1, three: 2})


def refuse_the_second() -> Fault:
    """Let Redis refuse the second script of the next trip, as when its memory is full."""
    sha = flusher.client.script_load(REFUSING).encode()

    def refusing(request: bytes) -> bytes:
        _, second = re.finditer(NAME, request)
        return request[: second.start()] + sha + request[second.end() :]

    return Fault(NAME, sent=refusing, reply=keep)


def test_a_shard_that_is_refused_touches_no_like_of_another(line: Proxy, lane: Door, posts: list[int]) -> None:
    one, two, three = posts
    refused = refuse_the_second()
    told = Group(line, lane, doors.like(one)).send(doors.like(one), doors.like(three), doors.like(two), fault=refused)
    kept, no, kept_too = told.result(PATIENCE)
    assert (kept.likes, outcomes([no]), kept_too.likes) == (2, ["not_applied"], 1)
    exact({one: 2, two: 1, three: 0})


def test_a_bulk_call_is_told_what_became_of_its_own_posts(line: Proxy, lane: Door, posts: list[int]) -> None:
    one, two, three = posts
    calls = [doors.many([(one, 2), (two, 3)]), doors.many([(three, 4)]), doors.many([(one, 5), (three, 6)])]
    told = Group(line, lane, doors.many([(one, 1)])).send(*calls, fault=refuse_the_second()).result(PATIENCE)
    assert told[0] == BulkLiked(5, [], replayed=False)
    assert outcomes(told[1:]) == ["not_applied", "unknown"], "of the last, one post was counted and one refused"
    exact({one: 8, two: 3, three: 0})


def test_a_lost_reply_is_unknown_to_every_bulk_call_of_its_trip(line: Proxy, lane: Door, posts: list[int]) -> None:
    one, two, three = posts
    lost = FAULTS["swallowed"]()
    calls = [doors.many([(one, 2), (three, 3)]), doors.many([(one, 4)])]
    told = Group(line, lane, doors.many([(one, 1)])).send(*calls, fault=lost)
    struck(line)
    behind, gone = lane.begin(doors.many([(two, 5)])), lane.begin(doors.many([(two, 6)]))
    assert gone.cancel()
    go(lost)
    assert outcomes(told.result(PATIENCE)) == ["unknown"] * 2
    assert outcomes(behind.result(PATIENCE)) == ["not_applied"]
    assert lane.like_many([(two, 7)]).accepted == 7
    exact({one: 7, two: 7, three: 3})


@pytest.mark.parametrize("kind", ["hash", "text"])
@pytest.mark.parametrize("name", ["pending", "base", "idem"])
def test_a_fault_at_one_post_touches_no_like_of_another(
    line: Proxy, lane: Door, posts: list[int], name: str, kind: str
) -> None:
    one, two, three = posts
    key = buffer.key(buffer.shard(two), f"idem:{two}:b" if name == "idem" else f"{name}:{two}")
    was = flusher.client.get(key)
    flusher.client.delete(key)
    if kind == "hash":
        flusher.client.hset(key, "somebody", "else's")
    else:
        flusher.client.set(key, "somebody's")
    calls = [doors.like(one), doors.like(two, "b"), doors.like(three), doors.like(one, "a"), doors.many([(one, 5)])]
    told = Group(line, lane, doors.like(one)).send(*calls)
    behind = lane.begin(doors.like(one), doors.like(three))
    assert outcomes(told.result(PATIENCE)) == ["Liked", "Fault", "Liked", "Liked", "BulkLiked"]
    assert outcomes(behind.result(PATIENCE)) == ["Liked", "Liked"]
    flusher.client.delete(key)
    if was is not None:
        flusher.client.set(key, was)
    counted = 1 if (name, kind) == ("base", "text") else 0  # only found out when the total is to be told
    exact({one: 9, two: counted, three: 2})


def test_cold_and_unknown_posts_are_answered_by_django_and_hold_up_nobody(
    line: Proxy, lane: Door, posts: list[int]
) -> None:
    one, _, three = posts
    [cold] = make_posts(1, shard=1)
    calls = [doors.like(one), doors.like(cold), doors.like(cold + 1_000), doors.like(cold, "a"), doors.like(three)]
    told = Group(line, lane, doors.like(one)).send(*calls).result(PATIENCE)
    assert (told[0].likes, told[4].likes) == (2, 1)
    assert isinstance(told[2], UnknownPost)
    assert sorted([told[1].likes, told[3].likes]) == [1, 2]
    exact({one: 2, cold: 2, three: 1})


def test_a_client_that_hangs_up_takes_nobody_with_it(line: Proxy, lane: Door, posts: list[int]) -> None:
    one, two, _ = posts
    held = line.arm(Fault(NAME, reply=keep, hold=Event()))
    under_way = lane.begin(doors.like(two))
    struck(line)
    waiting = lane.begin(doors.like(two, "a"))
    staying = lane.begin(doors.like(one), doors.like(two), doors.like(one))
    assert under_way.cancel()
    assert waiting.cancel()
    go(held)
    told = staying.result(PATIENCE)
    assert [told[0].likes, told[2].likes] == [1, 2]
    assert isinstance(told[1], Liked)
    lane.like(two, "a")
    exact({one: 2, two: 3})
