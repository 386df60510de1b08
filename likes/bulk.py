"""Bulk calls in the fast lane: those beyond doubt are counted here, all others are left to the views.

Knows no model and no SQL; `like_many` is what counts the cold posts of a call.
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable, Mapping, Sequence

from django.conf import settings

from likes.asgi_types import Scope
from likes.bodies import refuse
from likes.heads import Head, Headers, Heads, is_small, once_each
from likes.ids import MAX_ID, MOST_ENTRIES, MOST_LIKES
from likes.lane import Lane
from likes.replies import Reply, failed, stranded
from likes.tokens import bearer, is_known
from likes.trips import Many, Trips
from likes.values import BulkLiked
from likes.wire import Unavailable

LIKES_A_TRIP = 2_000  # some milliseconds of Redis, which serves nobody else meanwhile
STRICT = json.JSONDecoder(parse_constant=refuse)  # made once: `json.loads` would make one for each call

LikeMany = Callable[[Sequence[tuple[int, int]]], BulkLiked]


class BulkLane:
    """`POST /api/v1/likes`, without an Idempotency-Key. `like_many` may block, and is called in a thread."""

    def __init__(self, trips: Trips, heads: Heads, like_many: LikeMany) -> None:
        self._heads, self._like_many = heads, like_many
        self._lane: Lane[Mapping[int, int], Many] = Lane(
            trips.count_many, stranded, most_waiting=settings.LIKES_INFLIGHT, most_a_trip=LIKES_A_TRIP, weigh=len
        )

    def may(self, scope: Scope) -> Head | None:
        """Return the head of the answer where the caller may, and only the body is in doubt; else None."""
        headers = once_each(scope)
        if headers is None or scope.get("root_path") or scope["query_string"] or b"idempotency-key" in headers:
            return None
        known = (
            headers.get(b"content-type") == b"application/json" and b"content-length" in headers and is_small(headers)
        )
        return self._heads.of(scope, headers) if known and is_writer(headers) else None

    async def count(self, added: Mapping[int, int], head: Head) -> Reply:
        """Count likes by post and return the answer; cold posts are counted after the rest."""
        try:
            many = await self._lane.join(added)
            accepted, unknown = many.accepted, set[int]()
            if many.cold:
                accepted, unknown = await self._count_cold(many)
        except Exception as error:  # noqa: BLE001 - whatever it is, it is answered as the views would
            return failed(error, head)
        body = {"accepted": accepted, "unknown": [post for post in added if post in unknown]}
        return Reply(202, json.dumps(body, separators=(",", ":")).encode(), head)

    async def _count_cold(self, many: Many) -> tuple[int, set[int]]:
        loop = asyncio.get_running_loop()
        try:
            rest = await loop.run_in_executor(None, self._like_many, list(many.cold.items()))
        except Unavailable as error:
            if not many.accepted:
                raise
            raise Unavailable("unknown", str(error)) from error  # part of the call is counted
        return many.accepted + rest.accepted, set(rest.unknown)


def is_writer(headers: Headers) -> bool:
    """Tell whether everyone may, or a program that has shown its token; an admin's session is Django's to judge."""
    token = bearer(headers.get(b"authorization", b""))
    return settings.LIKES_DEMO or (token is not None and is_known(token))


def likes_by_post(body: bytes) -> dict[int, int] | None:
    """Return how many likes each post gets; None for a body that is not known to be good."""
    try:
        document = STRICT.decode(body.decode())
    except (ValueError, RecursionError):
        return None
    if type(document) is not dict or document.keys() != {"likes"}:
        return None
    entries = document["likes"]
    if type(entries) is not list or not 1 <= len(entries) <= MOST_ENTRIES:
        return None
    added: dict[int, int] = {}
    for entry in entries:
        if type(entry) is not dict or len(entry) != 2:
            return None
        post, count = entry.get("post"), entry.get("count")
        if type(post) is not int or type(count) is not int or not (1 <= post <= MAX_ID and 1 <= count <= MOST_LIKES):
            return None
        added[post] = added.get(post, 0) + count
    return added
