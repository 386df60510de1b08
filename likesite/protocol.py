"""uvicorn's HTTP/1.1 with a short way for the fast lane: a like needs no task of its own, and its answer one write.

Parsing, pipelining, keep-alive and shutting down stay uvicorn's. `uvicorn --http likesite.protocol:Protocol`; without
it, or on another server, the fast lane is the same ASGI room and only dearer. Knows no route.
"""

from __future__ import annotations

import logging
from typing import Any, ClassVar, NoReturn, cast

from django.conf import settings
from uvicorn.protocols.http.httptools_impl import STATUS_LINE, HttpToolsProtocol, RequestResponseCycle

from likes.asgi_types import App, Message, Scope
from likes.fastlane import SHORT_WAY, may_take
from likes.replies import Reply

log = logging.getLogger(__name__)


class Errand:
    """One request on the short way: a `likes.fastlane.ShortWay`."""

    __slots__ = ("_app", "_cycle", "_protocol", "taken")

    def __init__(self, protocol: Protocol, cycle: RequestResponseCycle, app: App) -> None:
        self._protocol, self._cycle, self._app = protocol, cycle, app
        self.taken = False

    def answer(self, reply: Reply | None) -> None:
        """Answer the client, unless it is gone; without a reply, by the long way."""
        if self._cycle.disconnected:
            return
        if reply is None:
            self._protocol.go_the_long_way(self._cycle, self._app)
        else:
            self._protocol.write_whole(self._cycle, reply)


class Protocol(HttpToolsProtocol):
    """One connection."""

    _open: ClassVar[bool] = settings.LIKES_FASTLANE
    _defaults: ClassVar[tuple[object, bytes]] = (None, b"")

    def _start_asgi_task(self, cycle: RequestResponseCycle, app: Any) -> None:
        scope = cast(Scope, cycle.scope)
        errand = Errand(self, cycle, app)
        if Protocol._open and may_take(scope) and not self.access_log and not self.flow.write_paused:
            self._go(app({**scope, "extensions": {SHORT_WAY: errand}}, nothing, nothing))
        if not errand.taken:
            self.go_the_long_way(cycle, app)

    def _go(self, call: Any) -> None:
        """Run a call that awaits nothing, without a task: the rooms in front of the fast lane only hand on."""
        try:
            call.send(None)
        except StopIteration:
            return
        call.close()
        Protocol._open = False
        log.error("something in front of the fast lane awaits: likes go the long way from now on")

    def go_the_long_way(self, cycle: RequestResponseCycle, app: Any) -> None:
        """Call the application in a task, as uvicorn does."""
        super()._start_asgi_task(cycle, app)

    def write_whole(self, cycle: RequestResponseCycle, reply: Reply) -> None:
        """Write an answer, and let the connection go on to its next request."""
        close = b"" if cycle.keep_alive else b"connection: close\r\n"
        self.transport.write(STATUS_LINE[reply.status] + self._default_headers() + close + reply.text())
        cycle.response_started = cycle.response_complete = True
        cycle.message_event.set()
        if not cycle.keep_alive:
            self.transport.close()
        cycle.on_response()

    def _default_headers(self) -> bytes:
        """Return Date, Server and such, which uvicorn makes anew every second."""
        pairs = self.server_state.default_headers
        if Protocol._defaults[0] is not pairs:
            Protocol._defaults = (pairs, b"".join(b"%b: %b\r\n" % pair for pair in pairs))
        return Protocol._defaults[1]


async def nothing(_: Message | None = None) -> NoReturn:
    """Stand for what a request on the short way has no use for."""
    raise RuntimeError("the short way neither reads nor sends")
