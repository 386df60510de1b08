"""Group commit, call by call: who waits, who goes together, and that nobody stops the lane for the others."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence

import pytest

from likes.lane import Full, Lane

WAIT = 20.0  # seconds until a test gives up


class Trips:
    """Trips that a test lets arrive one by one; a call below zero is an error of its own, `broken` fails all."""

    def __init__(self) -> None:
        self.groups: list[list[int]] = []
        self.open = asyncio.Semaphore(0)
        self.leaving = asyncio.Event()
        self.broken = False

    async def __call__(self, calls: Sequence[int]) -> list[int | Exception]:
        self.groups.append(list(calls))
        self.leaving.set()
        async with asyncio.timeout(WAIT):
            await self.open.acquire()
        if self.broken:
            raise OSError("the trip failed")
        return [call * 10 if call >= 0 else ValueError(call) for call in calls]

    def let(self, number: int = 1) -> None:
        """Let so many trips arrive."""
        for _ in range(number):
            self.open.release()

    async def left(self, number: int) -> None:
        """Wait until so many trips have left."""
        async with asyncio.timeout(WAIT):
            while len(self.groups) < number:
                await self.leaving.wait()
                self.leaving.clear()


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
        waiting = [mine.join(call) for call in range(2)]  # in one turn of the loop: these go together
        await trips.left(1)
        waiting += [mine.join(call) for call in range(2, 6)]
        trips.let(3)
        assert await answers(waiting) == [0, 10, 20, 30, 40, 50]
        assert trips.groups == [[0, 1], [2, 3, 4], [5]]

    in_a_loop(scene)


def test_a_call_that_fails_or_is_given_up_touches_no_other() -> None:
    async def scene() -> None:
        trips = Trips()
        mine = lane(trips)
        waiting = [mine.join(call) for call in (1, -2, 3, 4)]
        waiting[2].cancel()
        trips.let(2)
        told = await answers(waiting)
        assert [told[0], told[3]] == [10, 40]
        assert isinstance(told[1], ValueError)
        assert isinstance(told[2], asyncio.CancelledError)
        trips.let()
        assert await answers([mine.join(5)]) == [50]

    in_a_loop(scene)


def test_a_trip_that_fails_strands_those_behind_it_and_the_lane_goes_on() -> None:
    async def scene() -> None:
        trips = Trips()
        mine = lane(trips)
        trips.broken = True
        waiting = [mine.join(0)]
        await trips.left(1)
        waiting += [mine.join(call) for call in (1, 2)]
        trips.let()
        assert [type(told) for told in await answers(waiting)] == [OSError, KeyError, KeyError]
        trips.broken = False
        trips.let()
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
        trips.let(2)
        assert await answers(waiting) == [0, 10, 20, 30]

    in_a_loop(scene)


def test_one_who_cannot_take_an_answer_stops_nobody_else() -> None:
    async def scene() -> None:
        trips = Trips()
        mine = lane(trips)

        def refuses(_: int | Exception) -> None:
            raise RuntimeError("a connection that is gone")

        mine.call(1, refuses)
        other = mine.join(2)
        trips.let(2)
        assert await answers([other]) == [20]
        assert await answers([mine.join(3)]) == [30]

    in_a_loop(scene)
