"""Group commit: calls that arrive while a trip to Redis is under way go together with the next.

One trip at a time, on the event loop. Knows neither HTTP nor what a trip carries.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable, Sequence
from typing import Generic, TypeVar

log = logging.getLogger(__name__)

# Between two departures: a trip costs Redis a sync of its disk however few it carries. Who comes alone leaves at once.
GATHER_SECONDS = 0.003

Call = TypeVar("Call")
Answer = TypeVar("Answer")
Waiting = Callable[[Answer | Exception], None]


class Full(Exception):
    """As many calls wait as may; nothing was done with this one."""


class Lane(Generic[Call, Answer]):
    """Calls of one event loop, made in groups by `trip`, which returns an answer or an error for each.

    A trip that raises fails its own calls with that error, and those that wait behind it with what `stranded` makes of
    it: they are not sent into what just failed, one timeout after another. The bounds are sums of what calls `weigh`.
    """

    def __init__(
        self,
        trip: Callable[[Sequence[Call]], Awaitable[Sequence[Answer | Exception]]],
        stranded: Callable[[Exception], Exception],
        *,
        most_waiting: int,
        most_a_trip: int,
        weigh: Callable[[Call], int] = lambda _: 1,
    ) -> None:
        self._trip, self._stranded, self._weigh = trip, stranded, weigh
        self._most_waiting, self._most_a_trip = most_waiting, most_a_trip
        self._calls: list[Call] = []
        self._waiting: list[Waiting[Answer]] = []
        self._next = 0.0  # when the next trip may leave, by the loop's clock
        self._load = 0  # of all calls that wait or are under way
        self._running: asyncio.Task[None] | None = None

    def call(self, call: Call, waiting: Waiting[Answer]) -> None:
        """Let a call go with the next trip; `waiting` is told its answer or its error. Raises Full."""
        weight = self._weigh(call)
        if self._load + weight > self._most_waiting:
            raise Full
        self._load += weight
        self._calls.append(call)
        self._waiting.append(waiting)
        if self._running is None:  # it leaves when everything that this turn of the loop has read is aboard
            self._running = asyncio.get_running_loop().create_task(self._run())

    def join(self, call: Call) -> asyncio.Future[Answer]:
        """Let a call go with the next trip and return its answer to be. Raises Full."""
        answer: asyncio.Future[Answer] = asyncio.get_running_loop().create_future()
        self.call(call, lambda told: settle(answer, told))
        return answer

    async def _run(self) -> None:
        """Make trips until nobody waits; one so soon after another waits for more to come along."""
        now = asyncio.get_running_loop().time
        try:
            while self._calls:
                if (early := self._next - now()) > 0:
                    await asyncio.sleep(early)
                self._next = now() + GATHER_SECONDS
                await self._depart()
        finally:
            self._running = None

    async def _depart(self) -> None:
        aboard, load = self._aboard()
        calls, self._calls = self._calls[:aboard], self._calls[aboard:]
        waiting, self._waiting = self._waiting[:aboard], self._waiting[aboard:]
        try:
            answers = await self._trip(calls)
        except Exception as error:  # noqa: BLE001 - whatever it was, everybody who waits is told
            stranded, self._calls, self._waiting = self._waiting, [], []
            self._load = 0
            tell(waiting, [error] * len(waiting))
            tell(stranded, [self._stranded(error)] * len(stranded))
        else:
            self._load -= load
            tell(waiting, answers)

    def _aboard(self) -> tuple[int, int]:
        """Return how many calls go with the next trip, one at least, and their weight."""
        aboard, load = 0, 0
        for call in self._calls:
            weight = self._weigh(call)
            if aboard and load + weight > self._most_a_trip:
                break
            aboard, load = aboard + 1, load + weight
        return aboard, load


def tell(waiting: Sequence[Waiting[Answer]], answers: Sequence[Answer | Exception]) -> None:
    """Tell each its answer; one that cannot take it must not stop the lane for all others."""
    for told, answer in zip(waiting, answers, strict=True):
        try:
            told(answer)
        except Exception:
            log.exception("an answer could not be given")


def settle(waiting: asyncio.Future[Answer], answer: Answer | Exception) -> None:
    """Answer one call; one whose client is gone was cancelled, and setting that would raise."""
    if waiting.done():
        return
    if isinstance(answer, Exception):
        waiting.set_exception(answer)
    else:
        waiting.set_result(answer)
