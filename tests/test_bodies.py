"""Bodies as a server gets them: bounded before they are read, and read alike however they come."""

from __future__ import annotations

import asyncio
import socket
from typing import Any

import pytest
import requests

from likes import counts
from likes.asgi_types import Receive, Scope, Send
from likes.bodies import BoundedBody
from likes.models import Post
from tests.servers import Process
from tests.stack import Web

BOUND = 65_536  # bytes


@pytest.fixture
def web(process: type[Process]) -> Web:
    """A web process."""
    return Web(process).start()


def exchange(web: Web, sent: bytes) -> bytes:
    """Send bytes, and return the answer without having sent what they announced."""
    with socket.create_connection(("127.0.0.1", web.port), timeout=10) as connection:
        connection.sendall(sent)
        answer = b""
        while b'"status"' not in answer and b'"likes"' not in answer:
            received = connection.recv(65_536)
            assert received, answer
            answer += received
        return answer


def test_a_large_body_is_refused_before_it_is_read(web: Web) -> None:
    head = b"POST /api/v1/likes HTTP/1.1\r\nHost: localhost\r\nOrigin: http://x.example\r\n"
    declared = exchange(web, head + b"Content-Length: 1000000000\r\n\r\n" + b"x" * 1000)
    endless = exchange(
        web, head + b"Transfer-Encoding: chunked\r\n\r\n" + b"8000\r\n" + (b"x" * 32_768 + b"\r\n8000\r\n") * 3
    )
    for answer in (declared, endless):
        assert answer.startswith(b"HTTP/1.1 413 ")
        assert b"content-type: application/problem+json" in answer.lower()
        assert b"access-control-allow-origin: *" in answer.lower()


def test_a_body_in_chunks_is_read_like_any_other(web: Web) -> None:
    Post.objects.create(title="one")
    for path, body in (("/like", b'{"postId": 1}'), ("/api/v1/likes", b'{"likes": [{"post": 1, "count": 2}]}')):
        response = requests.post(
            f"http://127.0.0.1:{web.port}{path}",
            data=iter([body[:9], body[9:]]),
            headers={"Content-Type": "application/json; charset=zlib"},
            timeout=10,
        )
        assert response.status_code == 202
    assert counts.totals([1])[1].likes == 3


def test_a_charset_takes_no_part_in_reading_a_query(web: Web) -> None:
    address = f"http://127.0.0.1:{web.port}/api/v1/likes"
    for charset in ("utf-8", "utf-16", "zlib", "no-such"):
        kind = {"Content-Type": f"application/json; charset={charset}"}
        assert requests.get(f"{address}?post=%31", headers=kind, timeout=10).json() == {"likes": {}}
        many = requests.get(address, [("post", "1")] * 1001, headers=kind, timeout=10)
        assert (many.status_code, list(many.json()["errors"])) == (400, ["post"])


# --- The room by itself: what it asked the server for, and what Django got.


class Inner:
    """Stands for Django: reads the body as Django does."""

    def __init__(self) -> None:
        self.calls: list[tuple[dict[bytes, bytes], bytes]] = []

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        body, more = b"", scope["type"] == "http"
        while more:
            message = await receive()
            body += message["body"]
            more = message["more_body"]
        self.calls.append((dict(scope["headers"]), body))


def through(messages: list[dict[str, Any]], *headers: tuple[bytes, bytes], kind: str = "http") -> tuple[Inner, int]:
    """Send a request through the room; return Django and how many messages the server was not asked for."""
    inner, waiting = Inner(), list(messages)

    async def receive() -> dict[str, Any]:
        return waiting.pop(0)

    async def send(message: Any) -> None:
        raise AssertionError("the room has nothing to say by itself")

    asyncio.run(BoundedBody(inner)({"type": kind, "headers": headers}, receive, send))
    return inner, len(waiting)


def chunk(size: int, *, more: bool = True) -> dict[str, Any]:
    return {"type": "http.request", "body": b"x" * size, "more_body": more}


def test_a_body_of_the_bound_passes_whole_and_one_byte_more_is_empty_under_its_length() -> None:
    inner, _ = through([chunk(BOUND - 1), chunk(1, more=False)])
    assert inner.calls == [({b"content-length": b"65536"}, b"x" * BOUND)]
    inner, _ = through([chunk(BOUND), chunk(1, more=False)])
    assert inner.calls == [({b"content-length": b"65537"}, b"")]


def test_no_more_is_read_once_a_body_is_too_large() -> None:
    inner, left = through([chunk(BOUND // 2)] * 9, (b"transfer-encoding", b"chunked"))
    assert left == 6
    assert inner.calls == [({b"content-length": b"98304"}, b"")]
    inner, left = through([chunk(BOUND)] * 9, (b"content-length", b"589824"))
    assert left == 9
    assert inner.calls == [({b"content-length": b"589824"}, b"")]


def test_a_client_that_leaves_before_its_body_ends_is_not_answered() -> None:
    inner, _ = through([chunk(5), {"type": "http.disconnect"}])
    assert inner.calls == []


def test_a_form_keeps_the_boundary_that_its_type_names() -> None:
    for given, passed in (
        (b"multipart/form-data; boundary=b",) * 2,
        (b"application/json;charset=x", b"application/json"),
    ):
        inner, _ = through([chunk(0, more=False)], (b"content-type", given))
        assert inner.calls == [({b"content-type": passed}, b"")]


def test_what_is_not_http_passes_as_it_is() -> None:
    inner, left = through([chunk(1)], kind="websocket")
    assert (inner.calls, left) == ([({}, b"")], 1)
