"""The clients of the two systems that this one comes from, as they were written, against the whole service."""

from __future__ import annotations

import http.client
import json
import os
import shutil
import subprocess
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest

from likes import audit
from tests.live import Reader
from tests.servers import Process, eventually
from tests.stack import Web, beat, make_posts, nothing_left, persisted, worker

JSON = {"Content-Type": "application/json"}
Answer = tuple[int, Any]
Caller = Callable[..., Answer]


@pytest.fixture(scope="module")
def service() -> Iterator[Web]:
    """Keep a web process, a worker and a beat for these tests."""
    web = Web(Process).start()
    parts = [web.process, worker(Process, "--concurrency", "1", app="likesite"), beat(Process)]
    yield web
    for part in parts:
        part.kill()


def by_http_client(port: int, method: str, path: str, body: str | None = None, **headers: str) -> Answer:
    """Send a body as it is, without a Content-Type of its own."""
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=30)
    connection.request(method, path, body, headers)
    answer = connection.getresponse()
    found = answer.status, json.loads(answer.read())
    connection.close()
    return found


def by_curl(port: int, method: str, path: str, body: str | None = None, **headers: str) -> Answer:
    """Call the curl that people have, as they type it: no method for a read."""
    command = ["curl", "--silent", "--show-error", "--max-time", "30", "--write-out", "\n%{http_code}"]
    command += [] if method == "GET" else ["-X", method]
    command += [] if body is None else ["-d", body]
    for name, value in headers.items():
        command += ["-H", f"{name}: {value}"]
    told = subprocess.run([*command, f"http://127.0.0.1:{port}{path}"], capture_output=True, text=True, check=True)
    text, status = told.stdout.rsplit("\n", 1)
    return int(status), json.loads(text)


NO_CURL = "there is no curl here; http.client made the same calls"
# Where CI is set nothing may be left out: there the test fails without it.
no_curl = pytest.mark.skipif(shutil.which("curl") is None and os.environ.get("CI") != "true", reason=NO_CURL)


@pytest.fixture(params=[by_http_client, pytest.param(by_curl, marks=no_curl)])
def call(request: pytest.FixtureRequest, service: Web) -> Caller:
    """Return a client of the service: `call(method, path, body, **headers)`."""

    def mine(*arguments: Any, **headers: str) -> Answer:
        answer: Answer = request.param(service.port, *arguments, **headers)
        return answer

    return mine


@pytest.fixture(autouse=True)
def demo(service: Web) -> Iterator[list[int]]:
    """Make posts 1 to 3, and leave nothing on its way to the database when the test ends."""
    posts = make_posts(3)
    assert posts == [1, 2, 3]
    yield posts
    eventually(nothing_left, "every like lands")
    assert audit.take().exit_code == 0


def test_a_post_without_a_body_likes_a_post(call: Caller) -> None:
    assert call("POST", "/api/v1/posts/1/like") == (202, {"post": 1, "likes": 1})
    status, body = call("GET", "/api/v1/posts/1/likes")
    assert (status, body["likes"], body["persisted"] + body["pending"]) == (200, 1, 1)


def test_the_short_forms_like_and_read(call: Caller) -> None:
    assert call("POST", "/like", '{"postId": "1"}', **JSON) == (202, {"post": 1, "likes": 1})
    assert call("POST", "/like", '{"postId": 1}', **JSON) == (202, {"post": 1, "likes": 2})
    status, body = call("GET", "/likes/1")
    assert (status, body["post"], body["likes"]) == (200, 1, 2)
    eventually(lambda: call("GET", "/likes/1")[1]["persisted"] == 2, "the likes land")
    assert call("GET", "/likes/1") == (200, {"post": 1, "likes": 2, "persisted": 2, "pending": 0})


def test_a_like_of_no_post_in_particular_likes_a_demo_post(call: Caller, demo: list[int]) -> None:
    liked = [call("POST", "/like"), call("POST", "/like", "{}", **JSON)]
    assert [status for status, _ in liked] == [202, 202]
    assert all(body["post"] in demo for _, body in liked)
    assert sum(call("GET", f"/likes/{post}")[1]["likes"] for post in demo) == 2


def test_posts_are_made_with_a_title_or_without(call: Caller) -> None:
    named = call("POST", "/posts", '{"title": "Hello"}', **JSON)
    nameless = call("POST", "/posts")
    assert (named[0], named[1]["id"], named[1]["title"], named[1]["likes"]) == (201, 4, "Hello", 0)
    assert (nameless[0], nameless[1]["id"]) == (201, 5)
    assert call("POST", "/like", '{"postId": "5"}', **JSON) == (202, {"post": 5, "likes": 1})


def test_a_like_of_an_unknown_post_is_told_so(call: Caller) -> None:
    assert call("POST", "/like", '{"postId": "999"}', **JSON)[0] == 404
    assert call("GET", "/likes/999")[0] == 404
    status, body = call("POST", "/like", '{"postId": "one"}', **JSON)
    assert status == 400
    assert "postId" in body["errors"]


class EventSource:
    """A page that adds up `data.count`, as the old one did, and keeps the last total of each post beside it."""

    def __init__(self, port: int, path: str) -> None:
        self.reader = Reader(port, path)
        self.sum, self.totals = 0, dict[str, int]()

    def onmessage(self) -> None:
        data = self.reader.event()
        self.sum += data["count"]
        self.totals |= data["likes"]

    def read_until(self, likes: int) -> None:
        while self.sum < likes:
            self.onmessage()


def test_an_event_source_that_adds_up_counts_ends_at_the_right_total(service: Web, demo: list[int]) -> None:
    some, each = 5, 40
    before = EventSource(service.port, "/events?post=1&post=2&post=3")
    before.onmessage()
    assert (before.sum, before.totals) == (0, {"1": 0, "2": 0, "3": 0}), "a like from now on is growth"
    for post in demo:
        assert service.call("POST", f"/api/v1/posts/{post}/like")[0] == 202
    before.read_until(3)
    of_all = EventSource(service.port, "/events")
    of_one = EventSource(service.port, "/events?post=1")
    of_one.onmessage()
    assert (of_one.sum, of_one.totals) == (0, {"1": 1}), "a snapshot first, of what was there before"

    def like(post: int) -> int:
        return [service.call("POST", "/like", {"postId": str(post)})[0] for _ in range(each)].count(202)

    with ThreadPoolExecutor(some) as pool:
        assert list(pool.map(like, [1, 1, 1, 2, 3])) == [each] * some
    of_one.read_until(3 * each)
    assert (of_one.sum, of_one.totals) == (3 * each, {"1": 3 * each + 1})
    eventually(lambda: persisted(demo) == {1: 121, 2: 41, 3: 41}, "every like lands")
    of_all.read_until(some * each)
    assert (of_all.sum, of_all.totals) == (some * each, {"1": 121, "2": 41, "3": 41})
    before.read_until(some * each + 3)
    assert (before.sum, before.totals) == (some * each + 3, of_all.totals)
