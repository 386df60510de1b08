"""One open stream on its way to its reader: events, pings while there are none, and an end for whoever takes nothing.

Has no timer of its own: `look` is called for all streams now and then, which is what makes an event cheap. Must not
know what events tell, nor who is admitted.
"""

from __future__ import annotations

import asyncio
import random
from contextlib import suppress

from likes.asgi_types import Receive, Send
from likes.mailboxes import Mailbox

END_SECONDS = 1.0  # for a reader to take the end of its stream
RETRY_MILLISECONDS = (1_000, 3_000)  # streams of a server that ends come back over a while, not at one moment
PING = b":\n\n"


class Delivery:
    """Writes what a mailbox tells, in the task that makes it."""

    __slots__ = ("_began", "_dropped", "_loop", "_mailbox", "_ping_due", "_send", "_task", "_writing")

    def __init__(self, mailbox: Mailbox, send: Send) -> None:
        self._mailbox = mailbox
        self._send = send
        self._loop = asyncio.get_running_loop()
        self._task = asyncio.current_task()
        self._began = self._loop.time()  # the last write, in seconds of the loop's clock
        self._ping_due = self._writing = self._dropped = False

    async def run(self, receive: Receive) -> None:
        """Write events until the reader goes, takes nothing for too long, or the process ends."""
        watch = asyncio.create_task(close_when_gone(receive, self._mailbox))
        try:
            await self._write_all()
        except OSError:  # how some servers say that the reader has gone
            abort(self._send)
        except asyncio.CancelledError:
            if self._dropped:
                abort(self._send)
            # Else by the server, at its deadline for shutting down: the stream ends like any other.
        finally:
            self._writing = False
            watch.cancel()
        await end(self._send)

    async def _write_all(self) -> None:
        mailbox, send, now = self._mailbox, self._send, self._loop.time
        event = f"retry: {random.randint(*RETRY_MILLISECONDS)}\n\n".encode()  # noqa: S311 - no secret
        while not mailbox.closed:
            if event:
                self._began, self._ping_due, self._writing = now(), False, True
                await send({"type": "http.response.body", "body": event, "more_body": True})
                self._writing = False
            event = mailbox.take() or (PING if self._ping_due else b"")
            if not event and not mailbox.closed:
                await mailbox.news()  # nothing was awaited since that look: whatever comes wakes it

    def look(self, now: float, ping_seconds: float, write_seconds: float) -> None:
        """Ping a reader that was written nothing for so long; drop one that has not taken it for so long."""
        quiet = now - self._began
        if self._writing:
            if quiet >= write_seconds:
                self.drop()
        elif quiet >= ping_seconds:
            self._ping_due = True
            self._mailbox.wake()

    def drop(self) -> None:
        """Cut off a reader that has yet to take what is being written."""
        if self._writing and not self._dropped and self._task is not None:
            self._dropped = True
            self._task.cancel()


async def close_when_gone(receive: Receive, mailbox: Mailbox) -> None:
    """Close the mailbox when its reader has gone."""
    while (await receive())["type"] != "http.disconnect":
        pass  # a body, which nobody asked for
    mailbox.close()


async def end(send: Send) -> None:
    """End the answer; a reader that has not taken all of it soon after is cut off, and holds up no shutdown."""
    with suppress(OSError):
        async with asyncio.timeout(END_SECONDS):
            await send({"type": "http.response.body", "body": b"", "more_body": False})
    transport = transport_of(send)
    if transport is not None and transport.get_write_buffer_size():
        asyncio.get_running_loop().call_later(END_SECONDS, transport.abort)


def abort(send: Send) -> None:
    """Cut a connection whose reader takes nothing, and free what is waiting to be written to it.

    ASGI has no message for that, and a server that closes politely waits until the reader has taken everything.
    """
    transport = transport_of(send)
    if transport is not None:
        transport.abort()


def transport_of(send: Send) -> asyncio.WriteTransport | None:
    """Return uvicorn's transport, through the object that its `send` belongs to. Other servers end it their way."""
    return getattr(getattr(send, "__self__", None), "transport", None)
