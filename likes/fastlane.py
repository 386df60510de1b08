"""The room of the hot routes, in front of Django: likes and reads of totals that are known to be good.

Whatever else comes (unknown posts, other methods, odd hosts or bodies) goes on to Django unchanged, and is answered by
the views: they are the reference, and the same tests run against both. Knows no model and no SQL.
"""

from __future__ import annotations

import asyncio
import re
from collections.abc import Callable, Mapping, Sequence

from django.conf import settings

from likes.asgi_types import App, Receive, Scope, Send
from likes.bodies import first, read
from likes.buffer import Buffer, Total
from likes.bulk import BulkLane, LikeMany, likes_by_post
from likes.heads import Head, Heads, is_small, once_each
from likes.lane import Answer, Call, Full, Lane
from likes.replies import Reply, failed, stranded
from likes.trips import Replayed, Trips, Wanted

LIKE = re.compile(r"/api/v1/posts/([0-9]{1,18})/like")  # a longer id goes on to Django, which knows the highest
LIKES = "/api/v1/likes"
READ = re.compile(rb"post=[0-9]{1,18}(?:&post=[0-9]{1,18}){0,99}")
KEY = re.compile(rb"[\x21-\x7e]{1,255}")
LIKES_A_TRIP = 1_000  # some milliseconds of Redis, which serves nobody else meanwhile
READS_A_TRIP = 50  # of up to 100 posts each
REPLAYED = ((b"idempotent-replayed", b"true"),)

Answered = Callable[[Reply | None], None]  # None: only Django knows the answer


class FastLane:
    """ASGI middleware: counts and reads what it knows, and hands on to `app` what it does not.

    Names keys as `buffer` does, and has connections of its own to the same Redis.
    """

    def __init__(self, app: App, buffer: Buffer, redis_url: str, like_many: LikeMany) -> None:
        self._app, trips = app, Trips(buffer, redis_url)
        self._likes: Lane[Wanted, int | None] = Lane(
            trips.count, stranded, most_waiting=settings.LIKES_INFLIGHT, most_a_trip=LIKES_A_TRIP
        )
        self._reads: Lane[Sequence[int], Mapping[int, Total] | None] = Lane(
            trips.look, stranded, most_waiting=settings.LIKES_INFLIGHT, most_a_trip=READS_A_TRIP
        )
        self._like_heads, self._read_heads = Heads("POST, OPTIONS"), Heads("GET, POST, HEAD, OPTIONS")
        self._bulk = BulkLane(trips, self._read_heads, like_many)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer what is known to be good; hand everything else on, unchanged."""
        if scope["type"] == "http":
            if scope["method"] == "POST" and scope["path"] == LIKES:
                await self._count_many(scope, receive, send)
                return
            reply = await self._reply(scope)
            if reply is not None:
                await give(reply, send)
                return
        await self._app(scope, receive, send)

    async def _count_many(self, scope: Scope, receive: Receive, send: Send) -> None:
        head = self._bulk.may(scope)
        if head is not None:
            body = await read(receive)
            if body is None:
                return
            added = likes_by_post(body)
            if added is not None:
                await give(await self._bulk.count(added, head), send)
                return
            receive = first(body, receive)
        await self._app(scope, receive, send)

    async def _reply(self, scope: Scope) -> Reply | None:
        reply: asyncio.Future[Reply | None] = asyncio.get_running_loop().create_future()

        def answered(told: Reply | None) -> None:
            if not reply.done():  # its client is gone, and setting that would raise
                reply.set_result(told)

        return await reply if self.take(scope, answered) else None

    def take(self, scope: Scope, answered: Answered) -> bool:
        """Take a request that is known to be good, and tell `answered` what to send, None where only Django knows.

        Waits for nothing; returns False for any other request, of which nothing is told.
        """
        if scope.get("root_path"):
            return False
        if scope["method"] == "POST":
            post = LIKE.fullmatch(scope["path"])
            return post is not None and not scope["query_string"] and self._take_like(int(post[1]), scope, answered)
        if scope["method"] == "GET" and scope["path"] == LIKES and READ.fullmatch(scope["query_string"]):
            return self._take_read(scope, answered)
        return False

    def _take_like(self, post: int, scope: Scope, answered: Answered) -> bool:
        headers = once_each(scope)
        head = None if headers is None or not is_small(headers) else self._like_heads.of(scope, headers)
        if headers is None or head is None:
            return False
        key = headers.get(b"idempotency-key")
        if key is not None and not KEY.fullmatch(key):
            return False

        def told(total: int | Exception | None) -> None:
            answered(liked(post, total, head))

        return enter(self._likes, (post, None if key is None else key.decode()), told)

    def _take_read(self, scope: Scope, answered: Answered) -> bool:
        headers = once_each(scope)
        head = None if headers is None or b"content-length" in headers else self._read_heads.of(scope, headers)
        if head is None:
            return False
        posts = list(dict.fromkeys(int(part[5:]) for part in scope["query_string"].split(b"&")))
        return enter(self._reads, posts, lambda totals: answered(totals_of(posts, totals, head)))


def may_take(scope: Scope) -> bool:
    """Tell, at little cost, whether this may be a request that the lane takes without reading a body."""
    path: str = scope["path"]
    return path.endswith("/like") if scope["method"] == "POST" else path == LIKES


def enter(lane: Lane[Call, Answer], call: Call, told: Callable[[Answer | Exception], None]) -> bool:
    """Send a call into a lane; one that is full answers at once, but never before this returns."""
    try:
        lane.call(call, told)
    except Full as error:
        asyncio.get_running_loop().call_soon(told, error)
    return True


async def give(reply: Reply, send: Send) -> None:
    """Send a whole answer."""
    for message in reply.messages():
        await send(message)


def liked(post: int, total: int | Exception | None, head: Head) -> Reply | None:
    """Return the answer to a like; None for a post that is cold or unknown: Django asks PostgreSQL."""
    if total is None:
        return None
    if isinstance(total, Exception):
        return failed(total, head)
    return Reply(202, b'{"post":%d,"likes":%d}' % (post, total), head, more=REPLAYED if type(total) is Replayed else ())


def totals_of(posts: Sequence[int], totals: Mapping[int, Total] | Exception | None, head: Head) -> Reply | None:
    """Return the answer to a read; None where one of the posts is cold or unknown."""
    if totals is None:
        return None
    if isinstance(totals, Exception):
        return failed(totals, head)
    members = ",".join(f'"{post}":{totals[post].likes}' for post in posts)
    return Reply(200, f'{{"likes":{{{members}}}}}'.encode(), head)
