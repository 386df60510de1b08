"""The room of the live streams, in front of Django: `/events` and `/events/pipeline`, as server-sent events.

Writes by itself, so that neither a thread nor middleware is held for as long as a stream is open. A stream opens even
where its snapshot cannot be read yet, because an EventSource that is once answered 503 never comes back; the snapshot
follows as soon as Redis does. `Last-Event-ID` is not looked at: every stream begins with a snapshot, and there is
nothing to make up for. Must not know how totals are counted.
"""

from __future__ import annotations

import asyncio
import random
from collections.abc import Callable
from contextlib import AbstractContextManager, suppress

from django.conf import settings

from likes.admission import Opened, admit, is_stream, start_of, whole
from likes.asgi_types import App, Receive, Scope, Send
from likes.hub import READ_AGAIN_SECONDS, Hub
from likes.instruments import OPEN_STREAMS
from likes.lifespan import Lifespan
from likes.mailboxes import Mailbox
from likes.snapshots import Read

PING_SECONDS = 15.0  # proxies close what is silent for 30 to 60 s
WRITE_SECONDS = 30.0  # a reader that takes nothing for so long is dropped
END_SECONDS = 1.0  # for a reader to take the end of its stream
RETRY_MILLISECONDS = (1_000, 3_000)  # streams of a server that ends come back over a while, not at one moment
PING = ":\n\n"


class Stream:
    """ASGI middleware. `snapshot` returns the live totals of posts; it may block, and is called in a thread.

    `startup` runs before the process takes requests, and ends it by raising. Times are in seconds.
    """

    def __init__(
        self,
        app: App,
        snapshot: Read,
        *,
        startup: Callable[[], None] | None = None,
        ping_seconds: float = PING_SECONDS,
        write_seconds: float = WRITE_SECONDS,
        read_again_seconds: float = READ_AGAIN_SECONDS,
    ) -> None:
        self._app = app
        self._snapshot = snapshot
        self._ping_seconds = ping_seconds
        self._write_seconds = write_seconds
        self._read_again_seconds = read_again_seconds
        self._hub: Hub | None = None
        self._writing: set[asyncio.Timeout] = set()
        self._lifespan = Lifespan(startup, opened=self._running, closing=self._close, closed=self._stop)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve the streams and the lifespan, which Django's application does not know; pass on everything else."""
        if scope["type"] == "lifespan":
            await self._lifespan(receive, send)
        elif scope["type"] == "http" and is_stream(scope):
            await self._serve(scope, receive, send)
        else:
            await self._app(scope, receive, send)

    async def _serve(self, scope: Scope, receive: Receive, send: Send) -> None:
        answer = admit(scope, full=self._running().streams >= settings.LIKES_STREAMS)
        if isinstance(answer, Opened) and scope["method"] == "GET":
            # The mailbox first: it is what the bound counts, and nothing may be awaited between the two.
            with self._mailbox(answer) as mailbox, OPEN_STREAMS.track_inprogress():
                await send(start_of(answer))
                await self._tell(mailbox, receive, send)
        else:
            for message in whole(answer):
                await send(message)

    def _mailbox(self, answer: Opened) -> AbstractContextManager[Mailbox]:
        hub = self._running()
        if answer.pipeline:
            return hub.pipeline()
        return hub.everything() if answer.posts is None else hub.posts(answer.posts)

    async def _tell(self, mailbox: Mailbox, receive: Receive, send: Send) -> None:
        """Write events until the reader goes, takes nothing for too long, or the process ends."""
        watch = asyncio.create_task(close_when_gone(receive, mailbox))
        try:
            await self._write(send, f"retry: {random.randint(*RETRY_MILLISECONDS)}\n\n")  # noqa: S311 - no secret
            while not mailbox.closed:
                event = await mailbox.next(self._ping_seconds)
                if not mailbox.closed:
                    await self._write(send, event or PING)
        except OSError:  # a TimeoutError is one; others are how some servers say that the reader has gone
            abort(send)
        except asyncio.CancelledError:
            pass  # only the server does that, at its deadline for shutting down: the stream ends like any other
        finally:
            watch.cancel()
        await end(send)

    async def _write(self, send: Send, text: str) -> None:
        async with asyncio.timeout(self._write_seconds) as deadline:
            self._writing.add(deadline)
            try:
                await send({"type": "http.response.body", "body": text.encode(), "more_body": True})
            finally:
                self._writing.discard(deadline)

    def _running(self) -> Hub:
        """Return the hub; it starts with the process, or with the first stream where a server has no lifespan."""
        if self._hub is None:
            self._hub = Hub(self._snapshot, read_again_seconds=self._read_again_seconds)
            self._hub.start()
        return self._hub

    def _close(self) -> None:
        """End every stream; one whose reader takes nothing is not waited for."""
        self._running().close()
        soon = asyncio.get_running_loop().time() + END_SECONDS
        for deadline in self._writing:
            if not deadline.expired():
                deadline.reschedule(soon)

    async def _stop(self) -> None:
        await self._running().stop()


async def close_when_gone(receive: Receive, mailbox: Mailbox) -> None:
    """Close the mailbox when its reader has gone."""
    while (await receive())["type"] != "http.disconnect":
        pass  # a body, which nobody asked for
    mailbox.close()


async def end(send: Send) -> None:
    """End the answer; where its reader does not take even that, the connection is the server's to close."""
    with suppress(OSError):
        async with asyncio.timeout(END_SECONDS):
            await send({"type": "http.response.body", "body": b"", "more_body": False})


def abort(send: Send) -> None:
    """Cut a connection whose reader takes nothing, and free what is waiting to be written to it.

    ASGI has no message for that, and a server that closes politely waits until the reader has taken everything:
    uvicorn's transport is reached through the object that its `send` belongs to. Other servers end it their way.
    """
    transport = getattr(getattr(send, "__self__", None), "transport", None)
    if transport is not None:
        transport.abort()
