"""The room of the live streams, in front of Django: `/events` and `/events/pipeline`, as server-sent events.

Writes by itself, so that neither a thread nor middleware is held for as long as a stream is open. A stream opens even
where its snapshot cannot be read yet, because an EventSource that is once answered 503 never comes back; the snapshot
follows as soon as Redis does. `Last-Event-ID` is not looked at: every stream begins with a snapshot, and there is
nothing to make up for. Must not know how totals are counted.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, suppress

from likes.admission import Opened, Places, admit, is_stream, start_of, whole
from likes.asgi_types import App, Receive, Scope, Send
from likes.delivery import END_SECONDS, Delivery
from likes.hub import READ_AGAIN_SECONDS, Hub
from likes.instruments import OPEN_STREAMS
from likes.lifespan import Lifespan
from likes.mailboxes import Mailbox
from likes.snapshots import Read

PING_SECONDS = 15.0  # proxies close what is silent for 30 to 60 s
WRITE_SECONDS = 30.0  # a reader that takes nothing for so long is dropped
LOOKS = 15  # at each stream within PING_SECONDS: a second between two


class Stream:
    """ASGI middleware. `snapshot` returns the live totals of posts; it may block, and is called in a thread.

    `startup` runs before the process takes requests, and ends it by raising; `shutdown` runs once every answer has
    been given. Both run in a thread. Times are in seconds.
    """

    def __init__(
        self,
        app: App,
        snapshot: Read,
        *,
        startup: Callable[[], None] | None = None,
        shutdown: Callable[[], None] | None = None,
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
        self._places = Places()
        self._deliveries: set[Delivery] = set()
        self._looking: asyncio.Task[None] | None = None
        self._lifespan = Lifespan(startup, shutdown, opened=self._running, closing=self._close, closed=self._stop)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve the streams and the lifespan, which Django's application does not know; pass on everything else."""
        if scope["type"] == "lifespan":
            await self._lifespan(receive, send)
        elif scope["type"] == "http" and is_stream(scope):
            await self._serve(scope, receive, send)
        else:
            await self._app(scope, receive, send)

    async def _serve(self, scope: Scope, receive: Receive, send: Send) -> None:
        answer = admit(scope, self._places.refusal(scope))
        if isinstance(answer, Opened) and scope["method"] == "GET":
            # The place first: nothing may be awaited between the look at what is taken and the taking.
            with self._places.taken(scope), self._mailbox(answer) as mailbox, OPEN_STREAMS.track_inprogress():
                await send(start_of(answer))
                with self._looked_after(Delivery(mailbox, send)) as delivery:
                    await delivery.run(receive)
        else:
            for message in whole(answer):
                await send(message)

    def _mailbox(self, answer: Opened) -> AbstractContextManager[Mailbox]:
        hub = self._running()
        if answer.pipeline:
            return hub.pipeline()
        return hub.everything() if answer.posts is None else hub.posts(answer.posts)

    @contextmanager
    def _looked_after(self, delivery: Delivery) -> Iterator[Delivery]:
        self._deliveries.add(delivery)
        try:
            yield delivery
        finally:
            self._deliveries.discard(delivery)

    def _running(self) -> Hub:
        """Return the hub; it starts with the process, or with the first stream where a server has no lifespan."""
        if self._hub is None:
            self._hub = Hub(self._snapshot, read_again_seconds=self._read_again_seconds)
            self._hub.start()
            self._looking = asyncio.create_task(self._keep_looking())
        return self._hub

    async def _keep_looking(self) -> None:
        """Look at every stream again and again: a timer for each event would cost more than the event."""
        pause = min(self._ping_seconds, self._write_seconds) / LOOKS
        while True:
            await asyncio.sleep(pause)
            now = asyncio.get_running_loop().time()
            for delivery in self._deliveries:
                delivery.look(now, self._ping_seconds - pause, self._write_seconds)

    def _close(self) -> None:
        """End every stream; one whose reader takes nothing is not waited for."""
        self._running().close()
        asyncio.get_running_loop().call_later(END_SECONDS, self._drop_stuck)

    def _drop_stuck(self) -> None:
        for delivery in self._deliveries:
            delivery.drop()

    async def _stop(self) -> None:
        await self._running().stop()
        if self._looking is not None:
            self._looking.cancel()
            with suppress(asyncio.CancelledError):
                await self._looking
