"""What a request for a stream is answered before its first event: the head of a stream, or why not.

Uses what Django and django-cors-headers know of hosts and origins, without a thread or the middleware stack. Must not
know what streams tell.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from http import HTTPStatus
from io import BytesIO
from ipaddress import IPv6Address, ip_address
from typing import cast

from corsheaders.middleware import CorsMiddleware
from django.conf import settings
from django.core.exceptions import SuspiciousOperation, TooManyFieldsSent
from django.core.handlers.asgi import ASGIRequest, get_script_prefix
from django.http import HttpRequest, HttpResponse

from likes import problems
from likes.asgi_types import Message, Scope
from likes.ids import MOST_POSTS, post_ids

POSTS = "/events"
PIPELINE = "/events/pipeline"
RETRY_AFTER = 10  # seconds; streams end when their readers leave the page
ALLOWED = "GET, HEAD, OPTIONS"


class Opened(HttpResponse):
    """The head of a stream. `posts`: those it filters by, None for all; `pipeline`: it tells of batches instead."""

    def __init__(self, posts: list[int] | None, *, pipeline: bool = False) -> None:
        super().__init__(content_type="text/event-stream; charset=utf-8")
        self.headers["Cache-Control"] = "no-cache"
        self.headers["X-Accel-Buffering"] = "no"  # nginx would hold events back until its buffer is full
        self.posts = posts
        self.pipeline = pipeline


class InvalidParameter(Exception):
    """A parameter of the query is not what it must be: its name, and what it must be."""


def is_stream(scope: Scope) -> bool:
    """Tell whether an HTTP request is for one of the streams."""
    path: str = scope["path"].removeprefix(get_script_prefix(scope))
    return path in (POSTS, PIPELINE)


class Places:
    """Who holds how many streams of this process. Belongs to one event loop; keeps nothing of who holds none."""

    def __init__(self) -> None:
        self._taken = 0
        self._by_address: Counter[str] = Counter()

    def refusal(self, scope: Scope) -> str:
        """Return why this client may open no stream now, "" where it may."""
        if self._taken >= settings.LIKES_STREAMS:
            return "This process holds as many streams as it may."
        most = settings.LIKES_STREAMS_PER_ADDRESS
        if most and self._by_address.get(address_of(scope), 0) >= most:
            return "Your address holds as many streams as it may."
        return ""

    @contextmanager
    def taken(self, scope: Scope) -> Iterator[None]:
        """Hold a place for as long as a stream is open."""
        address = address_of(scope)
        self._taken += 1
        self._by_address[address] += 1
        try:
            yield
        finally:
            self._taken -= 1
            self._by_address[address] -= 1
            if not self._by_address[address]:
                del self._by_address[address]


def address_of(scope: Scope) -> str:
    """Return whose streams are counted together: an IPv4 address, or the /64 that one IPv6 subscriber has."""
    client = scope.get("client")
    text = client[0] if client else ""  # none over a unix socket, behind a proxy that names no client
    try:
        address = ip_address(text)
    except ValueError:
        return str(text)
    if not isinstance(address, IPv6Address):
        return str(address)
    return str(address.ipv4_mapped or IPv6Address(int(address) >> 64 << 64))


def admit(scope: Scope, refusal: str) -> HttpResponse:
    """Return the head of the stream that was asked for, an Opened, or else a whole answer.

    `refusal`: why a request that is right gets no stream, "" where it gets one.
    """
    try:
        request = ASGIRequest(scope, BytesIO())
    except UnicodeDecodeError:
        return problems.answer(HTTPStatus.BAD_REQUEST, "The query is not UTF-8.")
    return cast(HttpResponse, CorsMiddleware(partial(answer, refusal=refusal))(request))  # synchronous, as `answer` is


def answer(request: HttpRequest, *, refusal: str) -> HttpResponse:
    """Return the answer, as yet without CORS."""
    try:
        request.get_host()
    except SuspiciousOperation:
        return problems.answer(HTTPStatus.BAD_REQUEST, "The request's Host is not one of this service's.")
    if request.method == "OPTIONS":
        return HttpResponse(status=HTTPStatus.NO_CONTENT, headers={"Allow": ALLOWED})
    if request.method not in ("GET", "HEAD"):
        return problems.not_allowed(request, ALLOWED)
    try:
        opened = Opened(None, pipeline=True) if request.path_info == PIPELINE else Opened(posts_of(request))
    except InvalidParameter as error:
        name, rule = error.args
        return problems.answer(HTTPStatus.BAD_REQUEST, f"{name}: {rule}", errors={name: [rule]})
    return too_many(refusal) if refusal else opened


def too_many(refusal: str) -> HttpResponse:
    """Return 429, for a stream beyond LIKES_STREAMS or LIKES_STREAMS_PER_ADDRESS."""
    response = problems.answer(HTTPStatus.TOO_MANY_REQUESTS, refusal)
    response.headers["Retry-After"] = str(RETRY_AFTER)
    return response


def posts_of(request: HttpRequest) -> list[int] | None:
    """Return the posts of `?post=1&post=2`, those left out that no post could be; None without any: all posts."""
    try:
        given = request.GET.getlist("post")
    except TooManyFieldsSent as error:
        raise InvalidParameter("post", f"must be given at most {MOST_POSTS} times") from error
    if len(given) > MOST_POSTS:
        raise InvalidParameter("post", f"must be given at most {MOST_POSTS} times, not {len(given)}")
    try:
        return post_ids(given) if given else None
    except ValueError as error:
        raise InvalidParameter("post", str(error)) from error


def start_of(response: HttpResponse) -> Message:
    """Return the ASGI message that begins `response`."""
    headers = [(name.lower().encode("ascii"), value.encode("latin-1")) for name, value in response.items()]
    return {"type": "http.response.start", "status": response.status_code, "headers": headers}


def whole(response: HttpResponse) -> Iterator[Message]:
    """Return the ASGI messages of an answer that is no stream."""
    if response.status_code != HTTPStatus.NO_CONTENT and not isinstance(response, Opened):
        response.headers["Content-Length"] = str(len(response.content))
    yield start_of(response)
    yield {"type": "http.response.body", "body": response.content}
