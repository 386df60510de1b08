"""Group commit, call by call: who waits, who goes together, and that nobody stops the lane for the others."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable, Sequence

import pytest

from likes.lane import Full, Lane

WAIT = 20.0  # seconds until a test gives up


class Trips:
    """Trips that a test lets arrive one by one; a call below zero is an error of its own, `broken` fails all."""

    def __init__(self) -> None:
        self.groups: list[list[int]] = []
        self.open = threading.Semaphore(0)
        self.broken = False

    def __call__(self, calls: Sequence[int]) -> list[int | Exception]:
        self.groups.append(list(calls))
        assert self.open.acquire(timeout=WAIT)
        if self.broken:
            raise OSError("the trip failed")
        return [call * 10 if call >= 0 else ValueError(call) for call in calls]


def lane(trips: Trips, most_waiting: int = 100, most_a_trip: int = 3) -> Lane[int, int]:
    return Lane(trips, lambda error: KeyError(str(error)), most_waiting=most_waiting, most_a_trip=most_a_trip)


async def answers(waiting: Sequence[asyncio.Future[int]]) -> list[int | BaseException]:
    async with asyncio.timeout(WAIT):
        return await asyncio.gather(*waiting, return_exceptions=True)


def in_a_loop(test: Callable[[], object]) -> None:
    asyncio.run(test())  # type: ignore[arg-type]  # each is a coroutine function


def test_calls_gather_while_a_trip_is_under_way() -> None:
    async def scene() -> None:
        trips = Trips()
        mine = lane(trips)
        waiting = [mine.join(call) for call in range(5)]
        trips.open.release(3)
        assert await answers(waiting) == [0, 10, 20, 30, 40]
        assert trips.groups == [[0], [1, 2, 3], [4]]

    in_a_loop(scene)


def test_a_call_that_fails_or_is_given_up_touches_no_other() -> None:
    async def scene() -> None:
        trips = Trips()
        mine = lane(trips)
        waiting = [mine.join(call) for call in (1, -2, 3, 4)]
        waiting[2].cancel()
        trips.open.release(2)
        told = await answers(waiting)
        assert [told[0], told[3]] == [10, 40]
        assert isinstance(told[1], ValueError)
        assert isinstance(told[2], asyncio.CancelledError)
        trips.open.release()
        assert await answers([mine.join(5)]) == [50]

    in_a_loop(scene)


def test_a_trip_that_fails_strands_those_behind_it_and_the_lane_goes_on() -> None:
    async def scene() -> None:
        trips = Trips()
        mine = lane(trips)
        trips.broken = True
        waiting = [mine.join(call) for call in range(3)]
        trips.open.release()
        assert [type(told) for told in await answers(waiting)] == [OSError, KeyError, KeyError]
        trips.broken = False
        trips.open.release()
        assert await answers([mine.join(7)]) == [70]
        assert trips.groups == [[0], [7]]

    in_a_loop(scene)


def test_more_than_may_wait_are_turned_away_at_once() -> None:
    async def scene() -> None:
        trips = Trips()
        mine = lane(trips, most_waiting=4)
        waiting = [mine.join(call) for call in range(4)]
        with pytest.raises(Full):
            mine.join(4)
        trips.open.release(2)
        assert await answers(waiting) == [0, 10, 20, 30]

    in_a_loop(scene)
