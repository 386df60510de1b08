"""What a request for a stream is answered before its first event: the head of a stream, or why not.

Uses what Django and django-cors-headers know of hosts and origins, without a thread or the middleware stack. Must not
know what streams tell.
"""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial
from http import HTTPStatus
from io import BytesIO
from typing import cast

from corsheaders.middleware import CorsMiddleware
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


def admit(scope: Scope, *, full: bool) -> HttpResponse:
    """Return the head of the stream that was asked for, an Opened, or else a whole answer; `full`: no more streams."""
    try:
        request = ASGIRequest(scope, BytesIO())
    except UnicodeDecodeError:
        return problems.answer(HTTPStatus.BAD_REQUEST, "The query is not UTF-8.")
    return cast(HttpResponse, CorsMiddleware(partial(answer, full=full))(request))  # synchronous, as `answer` is


def answer(request: HttpRequest, *, full: bool) -> HttpResponse:
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
    return no_room() if full else opened


def no_room() -> HttpResponse:
    """Return 503, for a stream beyond LIKES_STREAMS."""
    response = problems.answer(HTTPStatus.SERVICE_UNAVAILABLE, "This process holds as many streams as it may.")
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
