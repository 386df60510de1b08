"""Group commit: calls that arrive while a trip to Redis is under way go together with the next.

One trip at a time, in a thread of the lane's own. Knows neither HTTP nor what a trip carries.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Generic, TypeVar

Call = TypeVar("Call")
Answer = TypeVar("Answer")


class Full(Exception):
    """As many calls wait as may; nothing was done with this one."""


class Lane(Generic[Call, Answer]):
    """Calls of one event loop, made in groups by `trip`, which blocks and returns an answer or an error for each.

    A trip that raises fails its own calls with that error, and those that wait behind it with what `stranded` makes of
    it: they are not sent into what just failed, one timeout after another.
    """

    def __init__(
        self,
        trip: Callable[[Sequence[Call]], Sequence[Answer | Exception]],
        stranded: Callable[[Exception], Exception],
        *,
        most_waiting: int,
        most_a_trip: int,
    ) -> None:
        self._trip, self._stranded = trip, stranded
        self._most_waiting, self._most_a_trip = most_waiting, most_a_trip
        self._waiting: list[tuple[Call, asyncio.Future[Answer]]] = []
        self._under_way: list[tuple[Call, asyncio.Future[Answer]]] = []
        self._thread = ThreadPoolExecutor(max_workers=1, thread_name_prefix="lane")

    def join(self, call: Call) -> asyncio.Future[Answer]:
        """Let a call go with the next trip and return its answer to be. Raises Full."""
        if len(self._under_way) + len(self._waiting) >= self._most_waiting:
            raise Full
        answer: asyncio.Future[Answer] = asyncio.get_running_loop().create_future()
        self._waiting.append((call, answer))
        if not self._under_way:
            self._depart()
        return answer

    def _depart(self) -> None:
        group, self._waiting = self._waiting[: self._most_a_trip], self._waiting[self._most_a_trip :]
        self._under_way = group
        if group:
            loop = asyncio.get_running_loop()
            trip = loop.run_in_executor(self._thread, self._trip, [call for call, _ in group])
            trip.add_done_callback(self._arrive)

    def _arrive(self, trip: asyncio.Future[Sequence[Answer | Exception]]) -> None:
        group = self._under_way
        error = trip.exception()
        if error is None:
            for (_, waiting), answer in zip(group, trip.result(), strict=True):
                settle(waiting, answer)
        else:
            fail(group, as_exception(error))
            stranded, self._waiting = self._waiting, []
            fail(stranded, self._stranded(as_exception(error)))
        self._depart()


def settle(waiting: asyncio.Future[Answer], answer: Answer | Exception) -> None:
    """Answer one call; one whose client is gone was cancelled, and setting that would stop the lane for all others."""
    if waiting.done():
        return
    if isinstance(answer, Exception):
        waiting.set_exception(answer)
    else:
        waiting.set_result(answer)


def fail(group: Sequence[tuple[Call, asyncio.Future[Answer]]], error: Exception) -> None:
    """Answer every call of a group with the same error."""
    for _, waiting in group:
        settle(waiting, error)


def as_exception(error: BaseException) -> Exception:
    """Return what a trip raised; an interpreter that ends is one more reason why a call was not answered."""
    return error if isinstance(error, Exception) else RuntimeError(repr(error))
