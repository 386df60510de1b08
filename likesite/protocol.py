"""uvicorn's HTTP/1.1 with a short way into the fast lane: a like needs no task of its own, and its answer one write.

For `likesite.asgi:application`, as `uvicorn --http likesite.protocol:Protocol`; without it, or on another server, the
lane is the same ASGI room and only dearer. Parsing, pipelining, keep-alive and shutting down stay uvicorn's.
"""

from __future__ import annotations

import logging
from typing import Any, ClassVar, cast

from uvicorn.middleware.proxy_headers import ProxyHeadersMiddleware
from uvicorn.protocols.http.httptools_impl import STATUS_LINE, HttpToolsProtocol, RequestResponseCycle

from likes.asgi_types import Scope
from likes.fastlane import FastLane, may_take
from likes.replies import Reply
from likesite.asgi import lane

log = logging.getLogger(__name__)


class Protocol(HttpToolsProtocol):
    """One connection."""

    _defaults: ClassVar[tuple[object, bytes]] = (None, b"")

    def _start_asgi_task(self, cycle: RequestResponseCycle, app: Any) -> None:
        # Another application than ours is uvicorn's own, for a server that has enough to do.
        open_ = lane is not None and app is self.app and not self.access_log and not self.flow.write_paused
        if not (open_ and may_take(cast(Scope, cycle.scope)) and self._taken(cycle, app)):
            self.go_the_long_way(cycle, app)

    def _taken(self, cycle: RequestResponseCycle, app: Any) -> bool:
        try:
            scope = self._as_forwarded(cast(Scope, cycle.scope))
            return cast(FastLane, lane).take(scope, Errand(self, cycle, app).answer)
        except Exception:  # raised in the parser, it would be answered as a fault of the client's
            log.exception("the fast lane failed")
            return False

    def go_the_long_way(self, cycle: RequestResponseCycle, app: Any) -> None:
        """Call the application in a task, as uvicorn does."""
        super()._start_asgi_task(cycle, app)

    def _as_forwarded(self, scope: Scope) -> Scope:
        """Return the scope as the application would get it from uvicorn, behind a proxy that it trusts."""
        if not self.config.proxy_headers or not any(name.startswith(b"x-forwarded-") for name, _ in scope["headers"]):
            return scope
        scope = dict(scope)
        forwarded = ProxyHeadersMiddleware(cast(Any, nothing), self.config.forwarded_allow_ips)
        run_now(forwarded(cast(Any, scope), cast(Any, None), cast(Any, None)))
        return scope

    def write_whole(self, cycle: RequestResponseCycle, reply: Reply) -> None:
        """Write an answer, and let the connection go on to its next request."""
        close = b"" if cycle.keep_alive else b"connection: close\r\n"
        self.transport.write(STATUS_LINE[reply.status] + self._default_headers() + close + reply.text())
        cycle.response_started = cycle.response_complete = True
        cycle.message_event.set()
        if not cycle.keep_alive:
            self.transport.close()
        on_response, cycle.on_response = cycle.on_response, nothing_more
        on_response()

    def _default_headers(self) -> bytes:
        """Return Date, Server and such, which uvicorn makes anew every second."""
        pairs = self.server_state.default_headers
        if Protocol._defaults[0] is not pairs:
            Protocol._defaults = (pairs, b"".join(b"%b: %b\r\n" % pair for pair in pairs))
        return Protocol._defaults[1]


class Errand:
    """One request on the short way, and where its answer goes."""

    __slots__ = ("_app", "_cycle", "_protocol")

    def __init__(self, protocol: Protocol, cycle: RequestResponseCycle, app: Any) -> None:
        self._protocol, self._cycle, self._app = protocol, cycle, app

    def answer(self, reply: Reply | None) -> None:
        """Answer the client, unless it is gone; without a reply, have Django answer."""
        transport = self._protocol.transport
        if self._cycle.disconnected or transport.is_closing():
            return
        try:
            if reply is None:
                self._protocol.go_the_long_way(self._cycle, self._app)
            else:
                self._protocol.write_whole(self._cycle, reply)
        except Exception:  # a client that is answered nothing at all would wait for ever
            log.exception("an answer could not be written")
            transport.abort()


def nothing_more() -> None:
    """Follow an answer, in the place of what has been called: it would keep the connection in memory."""


async def nothing(*_: object) -> None:
    """Stand for the application where only what uvicorn makes of a scope is wanted."""


def run_now(call: Any) -> None:
    """Run a coroutine that awaits nothing."""
    try:
        call.send(None)
    except StopIteration:
        return
    raise RuntimeError("it awaited something")
