"""Whatever is wrong with a request is answered with a problem document that names it, and nothing is counted."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any
from unittest.mock import patch

import pytest
from django.contrib.auth.models import User
from django.core.exceptions import PermissionDenied
from django.db import OperationalError, connection
from django.test import Client, override_settings
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from likes import counts
from likes.buffer import Unavailable, buffer
from likes.instruments import UNKNOWN_OUTCOMES
from likes.models import Post
from tests.servers import Server

PROBLEM = "application/problem+json"
BIG = 10**30
ANYONE = Client(raise_request_exception=False)


@pytest.fixture(autouse=True)
def demo() -> Iterator[None]:
    """Let everyone write."""
    with override_settings(LIKES_DEMO=True):
        yield


@pytest.fixture
def post() -> int:
    """A post."""
    return Post.objects.create(title="one").pk


def send(method: str, path: str, body: bytes = b"", kind: str = "application/json", **headers: str) -> Any:
    """Send bytes as they are."""
    return ANYONE.generic(method, path, body, kind, headers=headers)


def problem(response: Any, status: int, field: str | None = None) -> dict[str, Any]:
    """Return the problem document, which says `status` and names `field`."""
    assert (response.status_code, response.headers["Content-Type"]) == (status, PROBLEM), response.content
    document: dict[str, Any] = response.json()
    assert {"type", "title", "status", "detail"} <= document.keys()
    assert document["status"] == status
    if field is not None:
        assert field in document["errors"], document
        assert field in document["detail"]
    return document


def nothing_counted() -> bool:
    return sum(shard["accepted"] for shard in buffer.status()) == 0


# --- 404


@pytest.mark.parametrize("number", ["999", "0", str(2**63), str(BIG), "٣", "-1", "1.0", "x", "%00", "9" * 5000])
def test_an_id_that_no_post_has_is_404_before_anything_is_counted(number: str) -> None:
    for method, path in (
        ("POST", f"/api/v1/posts/{number}/like"),
        ("GET", f"/api/v1/posts/{number}/likes"),
        ("GET", f"/likes/{number}"),
        ("GET", f"/api/v1/posts/{number}"),
    ):
        problem(send(method, path), 404)
    assert nothing_counted()


@pytest.mark.parametrize("value", [999, "999", 0, -1, 2**63, str(2**63), BIG, "9" * 5000])
def test_a_short_like_of_an_id_that_no_post_has_is_404(post: int, value: Any) -> None:
    problem(send("POST", "/like", json.dumps({"postId": value}).encode()), 404)
    assert nothing_counted()


@pytest.mark.parametrize("path", ["/nothing", "/api/v1/posts/", "/api/v1/posts/1/like/", "/api", "/health/"])
def test_an_address_with_nothing_at_it_is_a_problem_and_slashes_are_not_added(path: str) -> None:
    problem(send("GET", path), 404)


# --- 400


@pytest.mark.parametrize(
    ("value", "field"),
    [
        ({}, "likes"),
        ({"likes": None}, "likes"),
        ({"likes": {}}, "likes"),
        ({"likes": "12"}, "likes"),
        ({"likes": []}, "likes"),
        ({"likes": [{"post": 1, "count": 1}] * 1001}, "likes"),
        ({"likes": [{"post": 1, "count": 1}, 7]}, "likes[1].body"),
        ({"likes": [{"post": 1, "count": 1}, {"count": 1}]}, "likes[1].post"),
        ({"likes": [{"post": 1}]}, "likes[0].count"),
        *(
            ({"likes": [{"post": 1, "count": bad}]}, "likes[0].count")
            for bad in (0, -1, 10_001, 1.0, "1", True, None, BIG)
        ),
        *(({"likes": [{"post": bad, "count": 1}]}, "likes[0].post") for bad in ("1", 1.5, False, None, [], {})),
        ([], "body"),
        (None, "body"),
        ("likes", "body"),
        (3, "body"),
    ],
)
def test_a_bad_bulk_body_is_400_by_the_name_of_the_field_and_counts_nothing(post: int, value: Any, field: str) -> None:
    problem(send("POST", "/api/v1/likes", json.dumps(value).encode()), 400, field)
    assert nothing_counted()


@pytest.mark.parametrize("value", ["", "abc", "1.0", " 1", "-1", "٣", 1.0, True, None, [], {}, "\ud800"])
def test_a_malformed_post_id_is_400_by_name(post: int, value: Any) -> None:
    problem(send("POST", "/like", json.dumps({"postId": value}).encode()), 400, "postId")
    assert nothing_counted()


@pytest.mark.parametrize("demo", [True, False])
@pytest.mark.parametrize("name", ["postid", "post", "", "\ud800"])
def test_a_misspelt_member_of_a_short_like_is_400_by_name_and_likes_no_other_post(
    post: int, name: str, demo: bool
) -> None:
    with override_settings(LIKES_DEMO=demo):
        problem(send("POST", "/like", json.dumps({"postId": post, name: 5}).encode()), 400, name or "body")
    assert nothing_counted()


@pytest.mark.parametrize("title", ["", "   ", "x" * 201, "a\0b", "\ud800", None, True, [], {}])
def test_a_bad_title_is_400_by_name(post: int, title: Any) -> None:
    body = json.dumps({"title": title}).encode()
    for method, path in (("POST", "/api/v1/posts"), ("POST", "/posts")):
        problem(send(method, path, body), 400, "title")
    with override_settings(LIKES_API_TOKENS=["t"]):
        problem(send("PATCH", f"/api/v1/posts/{post}", body, Authorization="Bearer t"), 400, "title")
    assert Post.objects.count() == 1


def test_a_post_needs_a_title() -> None:
    problem(send("POST", "/api/v1/posts", b"{}"), 400, "title")


@pytest.mark.parametrize("key", ["", " ", "a b", "é", "a\tb", "\x7f", "k" * 256])
def test_a_bad_key_is_400_by_name(post: int, key: str) -> None:
    body = json.dumps({"likes": [{"post": post, "count": 1}]}).encode()
    for path in (f"/api/v1/posts/{post}/like", "/api/v1/likes", "/like"):
        problem(
            send("POST", path, b"" if path == "/like" else body, **{"Idempotency-Key": key}), 400, "Idempotency-Key"
        )
    assert nothing_counted()


def test_a_key_that_comes_with_another_body_is_400_by_name_and_not_counted(post: int) -> None:
    for count, status in ((1, 202), (2, 400)):
        body = json.dumps({"likes": [{"post": post, "count": count}]}).encode()
        response = send("POST", "/api/v1/likes", body, **{"Idempotency-Key": "k"})
        assert response.status_code == status
    problem(response, 400, "Idempotency-Key")
    assert counts.totals([post])[post].likes == 1


@pytest.mark.parametrize(
    "query", ["", "post=", "post=a", "post=1&post=1.0", "post=-1", "post=٣", "post=%FF", "post=+1"]
)
def test_a_bad_query_of_totals_is_400_by_name(query: str) -> None:
    problem(send("GET", f"/api/v1/likes?{query}"), 400, "post")


@pytest.mark.parametrize("number", [101, 1001])
def test_too_many_posts_in_a_query_are_400_by_name(number: int) -> None:
    problem(send("GET", "/api/v1/likes?" + "&".join(["post=1"] * number)), 400, "post")


@pytest.mark.parametrize(
    "cursor", ["", "x", "cD1hYmM=", "cD0xMDAwMDAwMDAwMDAwMDAwMDAwMDAwMDAwMDA=", "bz0teA==", "é", "cD0lMDA="]
)
def test_a_cursor_that_no_page_named_is_400_by_name(post: int, cursor: str) -> None:
    response = send("GET", f"/api/v1/posts?cursor={cursor}")
    if cursor == "":
        assert response.json()["results"][0]["id"] == post
    else:
        problem(response, 400, "cursor")


@pytest.mark.parametrize("size", ["0", "101", "-1", "x", "", "0" * 5000])
def test_a_bad_page_size_is_400_by_name(size: str) -> None:
    problem(send("GET", f"/api/v1/posts?page_size={size}"), 400, "page_size")


@pytest.mark.parametrize(
    "body",
    [
        b"{",
        b"\xff",
        b"\xef\xbb\xbf{}",
        b"NaN",
        b'{"postId": Infinity}',
        b"[" * 60_000,
        b"9" * 5000,
        b" ",
        b"{}{}",
        b"\x00",
    ],
)
def test_a_body_that_is_no_json_is_400(post: int, body: bytes) -> None:
    for path in ("/api/v1/likes", "/like", "/posts", "/api/v1/posts"):
        problem(send("POST", path, body), 400)
    assert nothing_counted()


def test_a_host_of_somebody_else_is_400() -> None:
    problem(send("GET", "/api/v1/posts", Host="elsewhere.example"), 400)


# --- 405, 406, 413, 415


@pytest.mark.parametrize(
    ("method", "path", "allowed"),
    [
        ("GET", "/api/v1/posts/1/like", "POST, OPTIONS"),
        ("PUT", "/api/v1/posts/1", "GET, PATCH, DELETE, HEAD, OPTIONS"),
        ("DELETE", "/api/v1/likes", "GET, POST, HEAD, OPTIONS"),
        ("POST", "/likes/1", "GET, HEAD, OPTIONS"),
        ("GET", "/like", "POST, OPTIONS"),
        ("GET", "/posts", "POST, OPTIONS"),
        ("POST", "/health", "GET, HEAD, OPTIONS"),
        ("BREW", "/api/v1/posts", "GET, POST, HEAD, OPTIONS"),
        ("POST", "/", "GET, HEAD"),
        ("POST", "/favicon.ico", "GET, HEAD"),
        ("POST", "/api/docs", "GET, HEAD, OPTIONS"),
        ("POST", "/api/schema", "GET, HEAD, OPTIONS"),
    ],
)
def test_another_method_is_405_and_says_which_are_allowed(method: str, path: str, allowed: str) -> None:
    response = send(method, path)
    problem(response, 405)
    assert response.headers["Allow"] == allowed


def test_a_form_sent_to_the_page_is_405_for_a_browser_too() -> None:
    problem(Client(enforce_csrf_checks=True).post("/", {"a": "b"}), 405)


@pytest.mark.parametrize("accept", ["text/html", "image/png", "x", "", "application/xml;q=0.9, */*;q=0", "a/b" * 5000])
def test_an_odd_accept_header_is_answered_like_any_other(post: int, accept: str) -> None:
    response = send("GET", f"/api/v1/posts/{post}?format=xml", Accept=accept)
    assert (response.status_code, response.headers["Content-Type"]) == (200, "application/json")
    problem(send("GET", "/api/v1/posts/999", Accept=accept), 404)


@pytest.mark.parametrize("path", ["/api/v1/posts/1/like", "/api/v1/likes", "/like", "/posts", "/nothing", "/health"])
def test_a_body_over_64_kib_is_413_everywhere(post: int, path: str) -> None:
    assert send("POST", path, b" " * 65_536).status_code != 413
    problem(send("POST", path, b" " * 65_537), 413)
    problem(send("POST", path, b"", **{"Content-Length": "9" * 5000}), 413)


@pytest.mark.parametrize(
    "kind", ["text/plain", "application/x-www-form-urlencoded", "multipart/form-data", "x", "a" * 300]
)
def test_a_body_that_is_not_json_by_its_own_word_is_415(kind: str) -> None:
    for path in ("/api/v1/likes", "/like", "/posts", "/api/v1/posts"):
        problem(send("POST", path, b"{}", kind), 415)


# --- 503


def test_a_redis_that_is_away_is_503_and_nothing_was_applied(post: int, redis: Server) -> None:
    counts.like(post)
    body = json.dumps({"likes": [{"post": post, "count": 1}]}).encode()
    redis.kill()
    for method, path in (
        ("POST", f"/api/v1/posts/{post}/like"),
        ("POST", "/api/v1/likes"),
        ("POST", "/like"),
        ("GET", f"/api/v1/likes?post={post}"),
        ("GET", f"/likes/{post}"),
        ("GET", "/api/v1/posts"),
    ):
        response = send(method, path, b"" if path == "/like" else body)
        assert problem(response, 503)["outcome"] == "not_applied"
        assert int(response.headers["Retry-After"]) > 0


def test_a_title_is_not_changed_where_the_answer_says_so(post: int, redis: Server) -> None:
    redis.kill()
    with override_settings(LIKES_API_TOKENS=["t"]):
        response = send("PATCH", f"/api/v1/posts/{post}", b'{"title": "new"}', Authorization="Bearer t")
    assert problem(response, 503)["outcome"] == "not_applied"
    assert Post.objects.get(pk=post).title == "one"


def test_a_post_is_deleted_without_redis_and_settled_later(post: int, redis: Server) -> None:
    counts.like(post)
    redis.kill()
    with override_settings(LIKES_API_TOKENS=["t"]):
        assert send("DELETE", f"/api/v1/posts/{post}", Authorization="Bearer t").status_code == 204
    redis.start()
    assert counts.settle() == 1
    problem(send("POST", f"/api/v1/posts/{post}/like"), 404)


def test_an_outcome_that_nobody_knows_is_said_to_be_unknown_and_is_counted_for_operators(post: int) -> None:
    before = UNKNOWN_OUTCOMES._value.get()
    with patch.object(counts, "like", side_effect=Unavailable("unknown", "no reply")):
        response = send("POST", f"/api/v1/posts/{post}/like")
    assert problem(response, 503)["outcome"] == "unknown"
    assert UNKNOWN_OUTCOMES._value.get() == before + 1


@pytest.mark.parametrize(("method", "outcome"), [("GET", "not_applied"), ("POST", "unknown")])
def test_a_database_that_is_lost_is_503(method: str, outcome: str) -> None:
    with (
        patch("django.db.models.query.QuerySet._fetch_all", side_effect=OperationalError),
        patch.object(Post, "save", side_effect=OperationalError),
    ):
        response = send(method, "/api/v1/posts", b'{"title": "t"}')
    assert problem(response, 503)["outcome"] == outcome
    assert response.headers["Retry-After"] == "2"


@pytest.mark.parametrize(
    ("method", "path"),
    [("POST", "/api/v1/posts"), ("POST", "/posts"), ("PATCH", "/api/v1/posts/1"), ("DELETE", "/api/v1/posts/1")],
)
def test_where_no_connection_to_the_database_can_be_made_nothing_was_changed(
    post: int, postgres: Server, method: str, path: str
) -> None:
    counts.like(post)  # warm, so that PATCH can read its total
    connection.close()
    postgres.kill()
    with override_settings(LIKES_API_TOKENS=["t"]):
        response = send(method, path, b'{"title": "new"}', Authorization="Bearer t")
    assert problem(response, 503)["outcome"] == "not_applied"


def test_where_an_account_cannot_be_looked_up_nothing_was_changed(post: int) -> None:
    admin = Client(raise_request_exception=False)
    admin.force_login(User.objects.create(username="ada", is_staff=True))
    with patch("django.contrib.sessions.backends.db.SessionStore.load", side_effect=OperationalError):
        response = admin.delete(f"/api/v1/posts/{post}")
    assert problem(response, 503)["outcome"] == "not_applied"


def test_a_short_like_that_finds_no_database_was_not_applied(postgres: Server) -> None:
    connection.close()
    postgres.kill()
    assert problem(send("POST", "/like"), 503)["outcome"] == "not_applied"


def test_a_short_like_that_loses_the_database_when_it_looks_for_a_post_was_not_applied() -> None:
    with patch("django.db.models.query.QuerySet.first", side_effect=OperationalError):
        assert problem(send("POST", "/like"), 503)["outcome"] == "not_applied"


# --- What nobody expects


def test_a_fault_of_ours_is_a_problem_and_tells_nothing(post: int) -> None:
    with patch.object(counts, "like", side_effect=KeyError("secret")):
        document = problem(send("POST", f"/api/v1/posts/{post}/like"), 500)
    assert "secret" not in json.dumps(document)


def test_a_refusal_from_outside_the_api_is_a_problem() -> None:
    with patch("likes.pages.Post.objects", side_effect=PermissionDenied, **{"filter.side_effect": PermissionDenied}):
        problem(send("GET", "/"), 403)


@pytest.mark.parametrize("path", ["/admin/nothing/", "/admin/likes/post/1/nothing"])
def test_people_in_the_admin_get_pages(path: str) -> None:
    response = send("GET", path)
    assert response.headers["Content-Type"].startswith("text/html") or response.status_code == 302
    form = Client(enforce_csrf_checks=True).post("/admin/login/", {"username": "x", "password": "y"})
    assert (form.status_code, form.headers["Content-Type"]) == (403, "text/html; charset=utf-8")


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=8) | st.just("1"),
    lambda inner: (
        st.lists(inner, max_size=4)
        | st.dictionaries(st.sampled_from(["likes", "post", "count", "postId", "title", "x"]), inner, max_size=4)
    ),
    max_leaves=12,
)
BODIES = (
    st.binary(max_size=60)
    | st.text(max_size=60).map(lambda text: text.encode("utf-8", "surrogatepass"))
    | JSON.map(lambda value: json.dumps(value).encode())
)


@settings(max_examples=100, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(body=BODIES, path=st.sampled_from(["/api/v1/likes", "/like", "/api/v1/posts", "/posts"]))
@example(body=b'{"likes": [{"post": 1, "count": 1e999}]}', path="/api/v1/likes")
@example(body=b'{"title": 1e999}', path="/posts")
@example(body=b'{"postId": "\\ud800"}', path="/like")
def test_no_body_at_all_is_a_fault_of_ours(body: bytes, path: str) -> None:
    response = send("POST", path, body)
    assert response.status_code in (201, 202, 400, 404), response.content
    if response.status_code >= 400:
        problem(response, response.status_code)
