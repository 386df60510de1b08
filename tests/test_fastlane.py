"""The fast lane answers as the views do, and counts as exactly: the same calls through both doors."""

from __future__ import annotations

import http.client
from concurrent.futures import ThreadPoolExecutor
from itertools import count
from pathlib import Path
from typing import Any

import pytest
from django.conf import settings
from django.test import override_settings

from likes import audit, counts
from likes.buffer import buffer
from likes.fastlane import FastLane
from likes.models import Post
from tests import doors as here
from tests.proxy import Fault, Proxy
from tests.servers import Process, Server
from tests.stack import Web

VARYING = {"date", "server"}
FIRST = 70_001  # ids as long as each other, and like nothing else in an answer
ORIGIN = {"Origin": "https://elsewhere.example"}
Answer = tuple[int, dict[str, str], bytes]


def ask(web: Web, method: str, path: str, headers: dict[str, str] | None = None, body: bytes | None = None) -> Answer:
    """Return status, headers and body of one call."""
    connection = http.client.HTTPConnection("127.0.0.1", web.port, timeout=20)
    try:
        connection.request(method, path, body, headers or {})
        answer = connection.getresponse()
        told = {name.lower(): value for name, value in answer.getheaders() if name.lower() not in VARYING}
        return answer.status, told, answer.read()
    finally:
        connection.close()


@pytest.fixture
def doors(process: type[Process]) -> tuple[Web, Web]:
    """A web process with the fast lane, and one without."""
    environment = {"CORS_ALLOWED_ORIGINS": ORIGIN["Origin"], "LIKES_DEMO": "off", "LIKES_API_TOKENS": "a-token"}
    lane = Web(process, LIKES_FASTLANE="on", **environment).start()
    return lane, Web(process, LIKES_FASTLANE="off", **environment).start()


def evalsha_calls() -> int:
    calls: dict[str, Any] = buffer.client.info("commandstats").get("cmdstat_evalsha", {})
    return int(calls.get("calls", 0))


JSON, TOKEN = {"Content-Type": "application/json"}, {"Authorization": "Bearer a-token"}
MANY = "/api/v1/likes"
LIKE, READ = "/api/v1/posts/{post}/like", "/api/v1/likes?post={post}"
CALLS: dict[str, tuple[str, str, dict[str, str], bytes | None]] = {
    "a like": ("POST", LIKE, {}, None),
    "a like under a key": ("POST", LIKE, {"Idempotency-Key": "k1"}, None),
    "a like with a small body": ("POST", LIKE, {"Content-Type": "application/json"}, b"{}"),
    "a like with a large body": ("POST", LIKE, {"Content-Type": "application/json"}, b"x" * 70_000),
    "a like with a query": ("POST", LIKE + "?a=b", {}, None),
    "a like under a bad key": ("POST", LIKE, {"Idempotency-Key": "a b"}, None),
    "a like for a strange host": ("POST", LIKE, {"Host": "elsewhere.example"}, None),
    "a like of no post": ("POST", "/api/v1/posts/999/like", {}, None),
    "a like of a post out of range": ("POST", f"/api/v1/posts/{2**63}/like", {}, None),
    "a like with leading zeros": ("POST", "/api/v1/posts/000{post}/like", {}, None),
    "a like by GET": ("GET", LIKE, {}, None),
    "a preflight": ("OPTIONS", LIKE, {"Access-Control-Request-Method": "POST"}, None),
    "bulk likes": ("POST", MANY, JSON, b'{"likes":[{"post":{post},"count":2},{"post":{other},"count":1}]}'),
    "bulk likes of one post twice": (
        "POST",
        MANY,
        JSON,
        b'{"likes":[{"post":{post},"count":2},{"count":1,"post":{post}}]}',
    ),
    "bulk likes, some unknown": ("POST", MANY, JSON, b'{"likes":[{"post":{post},"count":2},{"post":999,"count":1}]}'),
    "bulk likes under a key": (
        "POST",
        MANY,
        JSON | {"Idempotency-Key": "b1"},
        b'{"likes":[{"post":{post},"count":2}]}',
    ),
    "bulk likes, one bad": ("POST", MANY, JSON, b'{"likes":[{"post":{post},"count":2},{"post":{other},"count":0}]}'),
    "bulk likes, one that is true": ("POST", MANY, JSON, b'{"likes":[{"post":{post},"count":true}]}'),
    "bulk likes with more members": ("POST", MANY, JSON, b'{"likes":[{"post":{post},"count":1,"x":2}],"y":3}'),
    "bulk likes beside NaN": ("POST", MANY, JSON, b'{"likes":NaN,"likes":[{"post":{post},"count":2}]}'),
    "bulk likes of none": ("POST", MANY, JSON, b'{"likes":[]}'),
    "bulk likes that are no JSON": ("POST", MANY, JSON, b'{"likes":['),
    "bulk likes as a form": ("POST", MANY, {"Content-Type": "application/x-www-form-urlencoded"}, b"likes=1"),
    "bulk likes too large": ("POST", MANY, JSON, b" " * 70_000),
    "bulk likes with a token": ("POST", MANY, JSON | TOKEN, b'{"likes":[{"post":{post},"count":2}]}'),
    "bulk likes with a wrong token": (
        "POST",
        MANY,
        JSON | {"Authorization": "Bearer no"},
        b'{"likes":[{"post":{post},"count":2}]}',
    ),
    "a read": ("GET", READ, {}, None),
    "a read of many": ("GET", READ + "&post={other}&post={post}&post=999", {}, None),
    "a read of two": ("GET", READ + "&post={other}&post={post}", {}, None),
    "a read of none": ("GET", "/api/v1/likes", {}, None),
    "a read of nonsense": ("GET", "/api/v1/likes?post=a", {}, None),
    "a read by HEAD": ("HEAD", READ, {}, None),
}


@pytest.mark.parametrize("origin", [{}, ORIGIN], ids=["same origin", "other origin"])
def test_both_doors_answer_the_same(doors: tuple[Web, Web], origin: dict[str, str]) -> None:
    hold_against_each_other(doors, origin)


def test_both_doors_answer_the_same_in_a_demo(process: type[Process]) -> None:
    lane = Web(process, LIKES_FASTLANE="on", LIKES_DEMO="on").start()
    hold_against_each_other((lane, Web(process, LIKES_FASTLANE="off", LIKES_DEMO="on").start()), {})


def hold_against_each_other(doors: tuple[Web, Web], origin: dict[str, str]) -> None:
    """Make each call twice at each door, of a post of its own, and find no difference."""
    other = Post.objects.create(pk=FIRST, title="other").pk
    numbers = count(FIRST + 1)
    different = {}
    for name, (method, path, headers, body) in CALLS.items():
        answers = []
        for door in doors:
            post = Post.objects.create(pk=next(numbers), title=name).pk
            counts.totals([post, other])
            place = path.format(post=post, other=other)
            content = body and body.replace(b"{post}", b"%d" % post).replace(b"{other}", b"%d" % other)
            key = {"Idempotency-Key": f"{name} {post}".replace(" ", "-")} if "key" in name and "bad" not in name else {}
            twice = [ask(door, method, place, headers | key | origin, content) for _ in range(2)]
            answers.append([(s, h, b.replace(str(post).encode(), b"ID")) for s, h, b in twice])
        if answers[0] != answers[1]:
            different[name] = answers
    assert different == {}


def test_without_redis_both_doors_say_the_same_in_time(doors: tuple[Web, Web], redis: Server) -> None:
    post = Post.objects.create(title="one").pk
    assert [ask(door, "POST", LIKE.format(post=post))[0] for door in doors] == [202, 202]
    redis.kill()
    for path, method in ((LIKE, "POST"), (READ, "GET")):
        answers = [ask(door, method, path.format(post=post)) for door in doors]
        assert answers[0][2] == answers[1][2]
        assert answers[0] == answers[1]
        assert (answers[0][0], answers[0][1]["retry-after"]) == (503, "1")
    redis.start()
    assert [ask(door, "POST", LIKE.format(post=post))[0] for door in doors] == [202, 202]


def test_a_fault_of_ours_is_the_same_problem_at_both_doors(doors: tuple[Web, Web]) -> None:
    post = Post.objects.create(title="one").pk
    counts.totals([post])
    buffer.client.hset(buffer.key(buffer.shard(post), f"pending:{post}"), "somebody", "else's")
    answers = [ask(door, "POST", LIKE.format(post=post)) for door in doors]
    assert answers[0][0] == 500
    assert (answers[0][2], answers[0][1]["content-type"]) == (answers[1][2], answers[1][1]["content-type"])


def test_a_body_that_nobody_reads_is_not_taken_for_the_next_call(lane: Web) -> None:
    post = Post.objects.create(title="one").pk
    counts.totals([post])
    connection = http.client.HTTPConnection("127.0.0.1", lane.port, timeout=20)
    for total in range(1, 4):
        connection.request("POST", LIKE.format(post=post), b"POST / HTTP/1.1\r\n\r\n" * 100)
        assert connection.getresponse().read() == b'{"post":%d,"likes":%d}' % (post, total)
    connection.close()


@pytest.fixture
def lane(process: type[Process]) -> Web:
    """A web process with the fast lane."""
    return Web(process, LIKES_FASTLANE="on").start()


def test_likes_that_come_together_go_together_each_with_its_own_total(lane: Web) -> None:
    post = Post.objects.create(title="one").pk
    counts.totals([post])
    before = evalsha_calls()

    def some(_: int) -> list[int]:
        connection = http.client.HTTPConnection("127.0.0.1", lane.port, timeout=20)
        totals = []
        for _ in range(40):
            connection.request("POST", LIKE.format(post=post))
            totals.append(int(connection.getresponse().read().rpartition(b":")[2][:-1]))
        connection.close()
        return totals

    with ThreadPoolExecutor(16) as pool:
        answered = [total for totals in pool.map(some, range(16)) for total in totals]
    assert sorted(answered) == list(range(1, 641))
    assert evalsha_calls() - before < 640 / 2
    assert audit.take().exit_code == 0


def test_a_frozen_redis_strands_nobody_and_tells_each_the_truth(lane: Web, redis: Server) -> None:
    post = Post.objects.create(title="one").pk
    assert ask(lane, "POST", LIKE.format(post=post))[0] == 202
    redis.freeze()
    with ThreadPoolExecutor(30) as pool:
        answers = list(pool.map(lambda _: lane.call("POST", LIKE.format(post=post), timeout=4.5), range(30)))
    redis.thaw()
    assert {status for status, _ in answers} == {503}
    unknown = sum(body["outcome"] == "unknown" for _, body in answers)
    assert 0 < unknown < 30  # those of the trip that was under way; those behind it were never sent
    assert ask(lane, "POST", LIKE.format(post=post))[0] == 202
    assert 2 <= counts.totals([post])[post].likes <= 2 + unknown
    assert audit.take().exit_code == 0


def test_a_frozen_redis_that_is_to_choose_a_database_holds_up_nobody(process: type[Process], redis: Server) -> None:
    web = Web(process, LIKES_FASTLANE="on", REDIS_URL=f"{redis.server.url}?db=1").start()
    post = Post.objects.create(title="one").pk
    assert ask(web, "POST", LIKE.format(post=post))[0] == 202
    redis.freeze()
    told = [web.call("POST", LIKE.format(post=post), timeout=4.5) for _ in range(3)]  # three times the promised 1.5 s
    redis.thaw()
    assert [(status, body["outcome"]) for status, body in told] == [(503, "unknown")] + [(503, "not_applied")] * 2
    assert ask(web, "POST", LIKE.format(post=post))[0] == 202


def test_a_lost_reply_is_unknown_and_a_retry_under_the_key_counts_once(process: type[Process], redis: Server) -> None:
    post = Post.objects.create(title="one").pk
    counts.totals([post])
    line = Proxy(Path(redis.server.socket))  # type: ignore[union-attr]  # it is a Valkey
    web = Web(process, LIKES_FASTLANE="on", REDIS_URL=line.url).start()
    line.arm(Fault(request=b"idem:"))
    assert web.call("POST", LIKE.format(post=post), Idempotency_Key="k")[1]["outcome"] == "unknown"
    status, body = web.call("POST", LIKE.format(post=post), Idempotency_Key="k")
    assert (status, body) == (202, {"post": post, "likes": 1})
    assert counts.totals([post])[post].likes == 1
    line.close()


@pytest.mark.parametrize("call", [here.like(1), here.like(1, "k"), here.many([(1, 2)]), here.read([1])], ids=str)
def test_what_is_known_to_be_good_never_reaches_django(call: here.Call) -> None:
    async def django(*_: object) -> None:
        raise AssertionError("it was handed on")

    post = Post.objects.create(pk=1, title="one").pk
    counts.totals([post])
    with override_settings(LIKES_DEMO=True):
        told = here.Door(FastLane(django, buffer, settings.REDIS_URL, counts.like_many)).at_once(call)
    assert told == [told_by_the_views(call)]


def told_by_the_views(call: here.Call) -> object:
    """Return what the reference says to the same call on a post without likes."""
    Post.objects.all().delete()
    buffer.client.flushall()
    Post.objects.create(pk=1, title="one")
    with override_settings(LIKES_DEMO=True):
        return here.views().at_once(call)[0]
