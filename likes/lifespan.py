"""The beginning and the end of a web process, as ASGI tells them; knows neither streams nor counting.

uvicorn says `lifespan.shutdown` only once every answer has ended, and a stream never ends by itself. So the signal
that asks a process to end is listened to here as well, ahead of the server's own handler.
"""

from __future__ import annotations

import asyncio
import logging
import signal
import threading
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager
from types import FrameType

from likes.asgi_types import Receive, Send

logger = logging.getLogger(__name__)


class Lifespan:
    """Runs `startup` in a thread, then `opened`; calls `closing` at the first sign of the end, `closed` at the end.

    Then `shutdown`, in a thread.
    """

    def __init__(
        self,
        startup: Callable[[], None] | None,
        shutdown: Callable[[], None] | None,
        opened: Callable[[], object],
        closing: Callable[[], None],
        closed: Callable[[], Awaitable[None]],
    ) -> None:
        self._startup = startup
        self._shutdown = shutdown
        self._opened = opened
        self._closing = closing
        self._closed = closed

    async def __call__(self, receive: Receive, send: Send) -> None:
        """Answer both messages; a startup that raises ends the process, with its reason."""
        await receive()
        try:
            await self._start()
        except Exception as error:  # whatever it is, the server is told, and exits
            logger.exception("the process cannot start")
            await send({"type": "lifespan.startup.failed", "message": f"{type(error).__name__}: {error}"})
            return
        with before_exit(self._closing):
            await send({"type": "lifespan.startup.complete"})
            await receive()
        await self._closed()
        if self._shutdown is not None:
            await asyncio.to_thread(self._shutdown)
        await send({"type": "lifespan.shutdown.complete"})

    async def _start(self) -> None:
        if self._startup is not None:
            await asyncio.to_thread(self._startup)
        self._opened()


@contextmanager
def before_exit(closing: Callable[[], None]) -> Iterator[None]:
    """Call `closing` on the running loop when a signal asks the process to end, then the handler that was there.

    Off the main thread no signal can be caught: streams then end at the server's own deadline.
    """
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    loop = asyncio.get_running_loop()
    mine = {number: ahead_of(signal.getsignal(number), loop, closing) for number in (signal.SIGTERM, signal.SIGINT)}
    before = {number: signal.signal(number, handler) for number, handler in mine.items()}
    try:
        yield
    finally:
        for number, handler in before.items():
            if signal.getsignal(number) is mine[number]:
                signal.signal(number, handler)


Handler = Callable[[int, FrameType | None], object] | int | signal.Handlers | None


def ahead_of(
    handler: Handler, loop: asyncio.AbstractEventLoop, closing: Callable[[], None]
) -> Callable[[int, FrameType | None], None]:
    """Return a signal handler that has `closing` called, then does what `handler` did."""

    def both(number: int, frame: FrameType | None) -> None:
        loop.call_soon_threadsafe(closing)
        if callable(handler):
            handler(number, frame)

    return both
