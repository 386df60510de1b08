"""The room of the hot routes, in front of Django: likes and reads of totals that are known to be good.

Whatever else comes (unknown posts, other methods, odd hosts or bodies) goes on to Django unread, and is answered by
the views: they are the reference, and the same tests run against both. Knows no model and no SQL.
"""

from __future__ import annotations

import json
import logging
import re
from collections import Counter
from collections.abc import Sequence
from typing import Any

from django.conf import settings

from likes import problems
from likes.announcer import announcer
from likes.asgi_types import App, Receive, Scope, Send
from likes.buffer import Broken, Buffer, Counted, Like, Total, Unavailable
from likes.heads import Head, Heads
from likes.instruments import UNKNOWN_OUTCOMES
from likes.lane import Full, Lane

log = logging.getLogger(__name__)

LIKE = re.compile(r"/api/v1/posts/([0-9]{1,18})/like")  # a longer id goes on to Django, which knows the highest
READ = re.compile(rb"post=[0-9]{1,18}(?:&post=[0-9]{1,18}){0,99}")
KEY = re.compile(rb"[\x21-\x7e]{1,255}")
LIKES_A_TRIP = 1_000  # some milliseconds of Redis, which serves nobody else meanwhile
READS_A_TRIP = 50  # of up to 100 posts each
MOST_BODY = 64 * 1024  # bytes; the body of a like says nothing, and a larger one is refused by Django

FAILURES = (Unavailable, Full, Broken)

Headers = dict[bytes, bytes]
TotalsOrCold = dict[int, Total] | None


class FastLane:
    """ASGI middleware: counts and reads through `buffer`, and hands on to `app` what it does not know."""

    def __init__(self, app: App, buffer: Buffer) -> None:
        self._app, self._buffer = app, buffer
        self._likes: Lane[Like, Counted | None] = Lane(
            self._count, stranded, most_waiting=settings.LIKES_INFLIGHT, most_a_trip=LIKES_A_TRIP
        )
        self._reads: Lane[Sequence[int], TotalsOrCold] = Lane(
            self._look, stranded, most_waiting=settings.LIKES_INFLIGHT, most_a_trip=READS_A_TRIP
        )
        self._like_heads, self._read_heads = Heads("POST, OPTIONS"), Heads("GET, POST, HEAD, OPTIONS")

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer what is known to be good; hand everything else on, unread."""
        if scope["type"] != "http" or scope.get("root_path") or not await self._answer(scope, send):
            await self._app(scope, receive, send)

    async def _answer(self, scope: Scope, send: Send) -> bool:
        if scope["method"] == "POST" and not scope["query_string"]:
            post = LIKE.fullmatch(scope["path"])
            return post is not None and await self._like(int(post[1]), scope, send)
        if scope["method"] == "GET" and scope["path"] == "/api/v1/likes" and READ.fullmatch(scope["query_string"]):
            return await self._read(scope, send)
        return False

    async def _like(self, post: int, scope: Scope, send: Send) -> bool:
        headers = once_each(scope)
        head = None if headers is None or not is_small(headers) else self._like_heads.of(scope, headers)
        if headers is None or head is None:
            return False
        key = headers.get(b"idempotency-key")
        if key is not None and not KEY.fullmatch(key):
            return False
        try:
            counted = await self._likes.join(Like(post, key=None if key is None else key.decode()))
        except FAILURES as error:
            await fail(send, head, error)
            return True
        if counted is None:
            return False  # cold or unknown: Django asks PostgreSQL
        replayed = [(b"idempotent-replayed", b"true")] if counted.replayed else []
        await answer(send, 202, b'{"post":%d,"likes":%d}' % (post, counted.total.likes), [*head, *replayed])
        return True

    async def _read(self, scope: Scope, send: Send) -> bool:
        headers = once_each(scope)
        head = None if headers is None or b"content-length" in headers else self._read_heads.of(scope, headers)
        if head is None:
            return False
        posts = list(dict.fromkeys(int(part[5:]) for part in scope["query_string"].split(b"&")))
        try:
            totals = await self._reads.join(posts)
        except FAILURES as error:
            await fail(send, head, error)
            return True
        if totals is None:
            return False
        members = ",".join(f'"{post}":{totals[post].likes}' for post in posts)
        await answer(send, 200, f'{{"likes":{{{members}}}}}'.encode(), head)
        return True

    # --- Trips: in the lanes' threads.

    def _count(self, likes: Sequence[Like]) -> list[Counted | Exception | None]:
        """Count a group of likes: those of one post that have no key as one, each answered with its own total."""
        together = Counter(like.post for like in likes if like.key is None)
        keyed = [like for like in likes if like.key is not None]
        sent = [*(Like(post, count) for post, count in together.items()), *keyed]
        answers = self._buffer.like_each(sent)
        announcer.tell_likes(sent, answers)
        of_post = dict(zip(together, answers, strict=False))
        of_keyed = iter(answers[len(together) :])
        counted: list[Counted | Exception | None] = []
        for like in likes:
            if like.key is None:
                together[like.post] -= 1
                counted.append(before(of_post[like.post], together[like.post]))
            else:
                counted.append(next(of_keyed))
        return counted

    def _look(self, reads: Sequence[Sequence[int]]) -> list[TotalsOrCold | Exception]:
        """Read the totals of a group of reads at once; None for a read with a cold post."""
        looks = self._buffer.look(self._buffer.by_shard({post for posts in reads for post in posts}), {})
        known = {post: total for look in looks.values() for post, total in look.totals.items()}
        return [known if all(post in known for post in posts) else None for posts in reads]


def before(counted: Counted | Unavailable | None, later: int) -> Counted | Unavailable | None:
    """Return the answer of a like after which `later` more were counted with it."""
    if not isinstance(counted, Counted) or not later:
        return counted
    total = counted.total
    return Counted(Total(total.persisted, total.pending - later, total.version), replayed=False)


def once_each(scope: Scope) -> Headers | None:
    """Return the headers by name; None when one that matters came twice, or a body has no length."""
    headers: Headers = dict(scope["headers"])
    if b"transfer-encoding" in headers:
        return None
    return headers if len(headers) == len(scope["headers"]) else None


def is_small(headers: Headers) -> bool:
    """Tell whether the body, which nobody reads, is one that Django would not refuse."""
    length = headers.get(b"content-length", b"0")
    return length.isdigit() and len(length) < 6 and int(length) <= MOST_BODY


def stranded(error: Exception) -> Exception:
    """Return the error of a call that was never sent, as the trip before it failed."""
    return Unavailable("not_applied", str(error))


async def fail(send: Send, head: Head, error: Exception) -> None:
    """Answer 503, or 500 for a fault of ours, as the views do."""
    if isinstance(error, Broken):
        log.error("a script failed", exc_info=error)
        await problem(send, head, problems.fault())
        return
    known = error if isinstance(error, Unavailable) else Unavailable("not_applied", "too many likes wait")
    if known.outcome == "unknown":
        UNKNOWN_OUTCOMES.inc()
    await problem(send, [*head, (b"retry-after", b"%d" % known.retry_after)], problems.unavailable(known.outcome))


async def problem(send: Send, head: Head, document: dict[str, Any]) -> None:
    """Answer with a problem document."""
    body = json.dumps(document, separators=(",", ":")).encode()
    await answer(send, document["status"], body, head, problems.MEDIA_TYPE.encode())


async def answer(send: Send, status: int, body: bytes, head: Head, kind: bytes = b"application/json") -> None:
    """Send a whole answer."""
    headers = [(b"content-type", kind), (b"content-length", b"%d" % len(body)), *head]
    await send({"type": "http.response.start", "status": status, "headers": headers})
    await send({"type": "http.response.body", "body": body})
