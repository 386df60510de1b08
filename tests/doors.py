"""The doors of the service in this process: Django alone, and the fast lane in front of it, called as a server calls.

An answer is held against the HTTP table and told as `likes.counts` would tell it, so that one test asks either. Knows
no server and none of the lane's insides.
"""

from __future__ import annotations

import asyncio
import json
import threading
from collections.abc import Iterable, Sequence
from concurrent.futures import Future
from dataclasses import dataclass, field
from typing import Any

from likes.asgi_types import App, Message
from likes.buffer import Unavailable, buffer
from likes.counts import BulkLiked, KeyReused, Liked, UnknownPost
from likes.fastlane import FastLane
from likesite.asgi import like_many, room

PATIENCE = 20.0  # seconds until a test gives up on an answer
LOOP = asyncio.new_event_loop()  # runs for as long as the tests do
threading.Thread(target=LOOP.run_forever, name="doors", daemon=True).start()
JSON, PROBLEM = "application/json", "application/problem+json"


@dataclass(frozen=True)
class Call:
    """One request. `key`: its Idempotency-Key."""

    method: str
    path: str
    key: str | None = None
    query: str = ""
    body: Any = None


@dataclass
class Answer:
    """What came back, in ASGI's words."""

    status: int = 0
    headers: dict[str, str] = field(default_factory=dict)
    content: bytes = b""

    @property
    def body(self) -> Any:
        return json.loads(self.content)


class Fault(Exception):
    """A 500: a fault of ours, told as such."""


def like(post: int, key: str | None = None) -> Call:
    return Call("POST", f"/api/v1/posts/{post}/like", key)


def many(likes: Iterable[tuple[int, int]], key: str | None = None) -> Call:
    return Call("POST", "/api/v1/likes", key, body={"likes": [{"post": post, "count": n} for post, n in likes]})


def read(posts: Iterable[int]) -> Call:
    return Call("GET", "/api/v1/likes", query="&".join(f"post={post}" for post in posts))


class Door:
    """An ASGI application on an event loop in a thread. What is not answered 2xx is raised, as `counts` does."""

    def __init__(self, app: App) -> None:
        self._app = app

    def like(self, post: int, key: str | None = None) -> Liked:
        """Count one like. Raises UnknownPost, Unavailable."""
        [liked] = self.at_once(like(post, key))
        return given(liked)

    def like_many(self, likes: Sequence[tuple[int, int]], key: str | None = None) -> BulkLiked:
        """Count many, as everyone may where LIKES_DEMO is on. Raises KeyReused, Unavailable."""
        [liked] = self.at_once(many(likes, key))
        return given(liked)

    def likes(self, posts: Iterable[int]) -> dict[int, int]:
        """Return live totals, unknown posts left out. Raises Unavailable."""
        [totals] = self.at_once(read(posts))
        return given(totals)

    def at_once(self, *calls: Call) -> list[Any]:
        """Make calls in one turn of the loop and return what each was told, an exception among it."""
        return self.begin(*calls).result(PATIENCE)

    def begin(self, *calls: Call) -> Future[list[Any]]:
        """As `at_once`, and go on when all have come; `cancel()` is what a server does when a client hangs up."""
        told = asyncio.run_coroutine_threadsafe(self._all(calls), LOOP)
        asyncio.run_coroutine_threadsafe(turns(), LOOP).result(PATIENCE)
        return told

    async def _all(self, calls: Sequence[Call]) -> list[Any]:
        return list(await asyncio.gather(*map(self._one, calls)))

    async def _one(self, call: Call) -> Any:
        answer = await ask(self._app, call)
        return told(call, answer)


async def turns() -> None:
    """Let the loop turn until the calls that have just begun wait for something."""
    for _ in range(5):
        await asyncio.sleep(0)


def given(result: Any) -> Any:
    """Return a result, or raise it."""
    if isinstance(result, Exception):
        raise result
    return result


async def ask(app: App, call: Call) -> Answer:
    """Make one call of an ASGI application."""
    content = b"" if call.body is None else json.dumps(call.body).encode()
    parts: list[Message] = [{"type": "http.request", "body": content, "more_body": False}]
    answer = Answer()

    async def receive() -> Message:
        if not parts:
            await asyncio.Event().wait()  # the client stays
        return parts.pop()

    async def send(message: Message) -> None:
        answer.status = message.get("status", answer.status)
        answer.headers |= {name.decode().lower(): value.decode() for name, value in message.get("headers", ())}
        answer.content += message.get("body", b"")

    await app(scope(call, len(content)), receive, send)
    return answer


def scope(call: Call, length: int) -> dict[str, Any]:
    headers = {"host": "localhost", "content-length": str(length) if call.method == "POST" else None,
               "content-type": JSON if length else None, "idempotency-key": call.key}  # fmt: skip
    return {
        "type": "http", "asgi": {"version": "3.0"}, "http_version": "1.1", "scheme": "http", "root_path": "",
        "method": call.method, "path": call.path, "raw_path": call.path.encode(), "query_string": call.query.encode(),
        "client": ("127.0.0.1", 1), "server": ("127.0.0.1", 80),
        "headers": [(name.encode(), value.encode()) for name, value in headers.items() if value is not None],
    }  # fmt: skip


def told(call: Call, answer: Answer) -> Any:
    """Return what an answer says, as `counts` would return or raise it."""
    body = answer.body
    assert answer.headers["content-type"] == (JSON if answer.status < 300 else PROBLEM), answer
    if answer.status >= 300:
        return refusal(answer, body)
    replayed = answer.headers.get("idempotent-replayed") == "true"
    match answer.status, body:
        case 200, {"likes": dict(totals)}:
            return {int(post): likes for post, likes in totals.items()}
        case 202, {"accepted": accepted, "unknown": unknown}:
            return BulkLiked(accepted, unknown, replayed)
        case 202, {"post": post, "likes": likes} if f"/{post}/" in call.path:
            return Liked(likes, replayed)
    raise AssertionError(answer)


def refusal(answer: Answer, body: Any) -> Exception:
    """Return what an error says."""
    match answer.status, body:
        case 400, {"errors": {"Idempotency-Key": ["came with another body before"]}}:
            return KeyReused()
        case 404, _:
            return UnknownPost()
        case 500, _:
            return Fault()
        case 503, {"outcome": outcome} if int(answer.headers["retry-after"]) >= 1:
            return Unavailable(outcome, body["detail"])
    raise AssertionError(answer)


def views() -> Door:
    """Django alone: the reference."""
    return Door(room)


def lane() -> Door:
    """A new lane in front of Django, under the settings of now."""
    where = buffer.client.connection_pool.connection_kwargs  # a test may have put a proxy there
    url = f"unix://{where['path']}" if "path" in where else f"redis://{where['host']}:{where['port']}"
    return Door(FastLane(room, buffer, url, like_many))


DOORS = {"views": views, "lane": lane}
