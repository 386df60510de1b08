"""The headers of an answer, as Django's middleware would write them; learned from it, once for each kind of caller.

Knows what the middleware reads of a request (its host, its origin, whether it came by TLS), and no route.
"""

from __future__ import annotations

from io import BytesIO
from typing import Any, NamedTuple

from corsheaders.middleware import CorsMiddleware
from django.core.exceptions import SuspiciousOperation
from django.core.handlers.asgi import ASGIRequest
from django.http import HttpRequest, HttpResponse, HttpResponseBase
from django.middleware.clickjacking import XFrameOptionsMiddleware
from django.middleware.common import CommonMiddleware
from django.middleware.security import SecurityMiddleware

from likes.asgi_types import Scope

REMEMBERED = 1_000  # kinds of callers; beyond that it begins anew, so that nobody fills the memory with odd origins
OUTERMOST_LAST = (XFrameOptionsMiddleware, CommonMiddleware, CorsMiddleware, SecurityMiddleware)

MOST_BODY = 64 * 1024  # bytes; the body of a like says nothing, and a larger one is refused by Django
LONGEST = 1_000  # bytes of a caller's host and origin together; whoever sends more is left to Django

Headers = dict[bytes, bytes]
Kind = tuple[str, bytes | None, bytes | None, bytes | None, bytes | None]


def once_each(scope: Scope) -> Headers | None:
    """Return the headers by name; None when any came twice, or the body comes in chunks of untold length."""
    headers: Headers = dict(scope["headers"])
    if b"transfer-encoding" in headers:
        return None
    return headers if len(headers) == len(scope["headers"]) else None


def is_small(headers: Headers) -> bool:
    """Tell whether the body, which nobody reads, is one that Django would not refuse."""
    length = headers.get(b"content-length")
    return length is None or (length.isdigit() and len(length) < 6 and int(length) <= MOST_BODY)


class Head(NamedTuple):
    """Headers as pairs, and as the lines of HTTP/1.1 that they are."""

    pairs: list[tuple[bytes, bytes]]
    text: bytes


class Heads:
    """The heads of one route's answers, but for Content-Type and Content-Length; `allow` are its methods."""

    def __init__(self, allow: str) -> None:
        self._allow = allow
        self._known: dict[Kind, Head | None] = {}

    def of(self, scope: Scope, headers: Headers) -> Head | None:
        """Return the head for a request; None where Django would answer it otherwise: a wrong host, a redirect."""
        get = headers.get
        # What the middleware reads; a test holds it against Django's.
        kind = (scope["scheme"], get(b"host"), get(b"origin"), get(b"x-forwarded-proto"), get(b"x-forwarded-host"))
        try:
            return self._known[kind]
        except KeyError:
            if sum(len(value) for value in kind if value) > LONGEST:
                return None
            if len(self._known) >= REMEMBERED:
                self._known.clear()
            self._known[kind] = head = learn(scope, self._allow)
            return head


def learn(scope: Scope, allow: str) -> Head | None:
    """Send a request through the middleware and return what it adds to an answer, None where it has one of its own."""

    def view(_: HttpRequest) -> HttpResponseBase:
        return HttpResponse(headers={"Allow": allow})

    handler: Any = view
    for middleware in OUTERMOST_LAST:
        handler = middleware(handler)
    try:
        response = handler(ASGIRequest(scope, BytesIO()))
    except SuspiciousOperation:
        return None
    if response.status_code != 200:
        return None
    del response.headers["Content-Type"], response.headers["Content-Length"]
    pairs = [(name.lower().encode("latin-1"), value.encode("latin-1")) for name, value in response.items()]
    return Head(pairs, b"".join(b"%b: %b\r\n" % pair for pair in pairs))
