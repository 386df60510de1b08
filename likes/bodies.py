"""What is read of a request before a view sees it, and how its body is understood; knows no route."""

from __future__ import annotations

import asyncio
import json
import sys
from collections.abc import Callable, Iterable
from typing import IO, Any, NoReturn

from django.conf import settings
from django.http import HttpRequest
from django.http.response import HttpResponseBase
from rest_framework.exceptions import ParseError
from rest_framework.negotiation import DefaultContentNegotiation
from rest_framework.parsers import BaseParser
from rest_framework.renderers import BaseRenderer
from rest_framework.request import Request

from likes import problems
from likes.asgi_types import App, Message, Receive, Scope, Send


class BoundedBody:
    """The room in front of Django that never reads more of a body than the bound and one chunk.

    Django's own ASGI handler reads a body to its end, onto the disk, before anything can look at it. From here a body
    that is too large arrives empty, under its true length, and `refuse_large_bodies` answers it. One that was sent in
    chunks arrives whole, under a Content-Length: DRF takes a body without one for none.
    """

    def __init__(self, app: App) -> None:
        self.app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            return await self.app(scope, receive, send)
        scope = without_charset(scope)
        declared = content_length(scope)
        if declared is not None:
            return await self.app(scope, unread() if declared > bound() else receive, send)
        body = await read(receive)
        if body is None:
            return None
        if len(body) > bound():
            return await self.app(with_length(scope, len(body)), unread(), send)
        return await self.app(with_length(scope, len(body)) if body else scope, first(body, receive), send)


def bound() -> int:
    """Return the largest body that is read, in bytes."""
    limit = settings.DATA_UPLOAD_MAX_MEMORY_SIZE
    return sys.maxsize if limit is None else limit


def content_length(scope: Scope) -> int | None:
    """Return the length that the client declared; None without one."""
    value = dict(scope["headers"]).get(b"content-length")
    return None if value is None else length(value.decode("latin-1"))


def length(header: str) -> int:
    """Return what a Content-Length says, in bytes, 0 where it is no number; digits past the 18th only say more."""
    return int(header[:18]) if header.isascii() and header.isdigit() else 0


def with_length(scope: Scope, size: int) -> Scope:
    """Return the scope of the same request with its length declared."""
    kept = [pair for pair in scope["headers"] if pair[0] not in (b"content-length", b"transfer-encoding")]
    return {**scope, "headers": [*kept, (b"content-length", b"%d" % size)]}


def without_charset(scope: Scope) -> Scope:
    """Return the scope with JSON as UTF-8, which is all that it can be.

    For any charset Django reads the query while it still makes the request, and does not catch what that raises.
    """
    headers = [(name, strip_charset(value) if name == b"content-type" else value) for name, value in scope["headers"]]
    return {**scope, "headers": headers}


def strip_charset(kind: bytes) -> bytes:
    """Return a Content-Type without its parameters, unless it is a form's, whose boundary is one."""
    return kind if kind.lower().startswith(b"multipart/") else kind.partition(b";")[0]


async def read(receive: Receive) -> bytes | None:
    """Return the body, or as much of it as shows that it is too large; None when the client went away."""
    body = bytearray()
    while len(body) <= bound():
        message = await receive()
        if message["type"] == "http.disconnect":
            return None
        body += message.get("body", b"")
        if not message.get("more_body", False):
            break
    return bytes(body)


def first(body: bytes, receive: Receive) -> Receive:
    """Return a `receive` that gives the whole body once, and then what the server has to say."""
    waiting = [{"type": "http.request", "body": body, "more_body": False}]

    async def replay() -> Message:
        return waiting.pop() if waiting else await receive()

    return replay


def unread() -> Receive:
    """Return a `receive` for a body that is not wanted: an empty one, and then silence until the answer is out."""
    return first(b"", silence)


async def silence() -> Message:
    """Wait to be cancelled."""
    never: asyncio.Future[Message] = asyncio.get_running_loop().create_future()
    return await never


def refuse_large_bodies(
    get_response: Callable[[HttpRequest], HttpResponseBase],
) -> Callable[[HttpRequest], HttpResponseBase]:
    """Make the middleware that answers 413 from the declared length, before any view reads the body.

    It stands last, next to the views, and is synchronous on purpose: Django then runs all middleware in the thread of
    the view, instead of crossing to another thread and back for each of them.
    """

    def middleware(request: HttpRequest) -> HttpResponseBase:
        if length(request.META.get("CONTENT_LENGTH", "")) > bound():
            return problems.too_large()
        return get_response(request)

    return middleware


class StrictJSONParser(BaseParser):
    """JSON as RFC 8259 has it: UTF-8 whatever charset was claimed, no NaN, and no nesting that ends the stack."""

    media_type = "application/json"

    def parse(self, stream: IO[bytes], media_type: str | None = None, parser_context: Any = None) -> Any:
        """Return the value in `stream`; raise ParseError where it is none."""
        try:
            return json.loads(stream.read().decode(), parse_constant=refuse)
        except (ValueError, RecursionError) as error:
            raise ParseError(f"The body is not JSON: {error}") from error


def refuse(constant: str) -> NoReturn:
    """Refuse NaN and the infinities, which Python would read."""
    raise ValueError(f"{constant} is no number")


class Negotiation(DefaultContentNegotiation):
    """Every route has one form of answer, so that an odd Accept header gets it too, and not a 406."""

    def select_parser(self, request: Request, parsers: list[BaseParser]) -> BaseParser | None:  # type: ignore[override]  # DRF returns None for 415
        """Return the parser of the Content-Type; a body without one is JSON, as all of them are."""
        return super().select_parser(request, parsers) if request.content_type else parsers[0]

    def select_renderer(
        self, request: Request, renderers: Iterable[BaseRenderer], format_suffix: str | None = None
    ) -> tuple[BaseRenderer, str]:
        """Return the first renderer of the view."""
        renderer = next(iter(renderers))
        return renderer, renderer.media_type or ""
