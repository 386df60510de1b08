"""The HTTP table, call by call, on real servers; what is wrong with a request is in test_problems."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any
from unittest.mock import patch

import pytest
from django.contrib.auth.models import User
from django.db import connection
from django.test import Client, override_settings
from django.test.utils import CaptureQueriesContext
from redis.connection import AbstractConnection

from likes import counts, tasks
from likes.buffer import buffer
from likes.models import Adjustment, Post

TOKEN = "a-token-of-the-tests"


@pytest.fixture
def demo() -> Iterator[None]:
    """Let a like of no post in particular choose one."""
    with override_settings(LIKES_DEMO=True):
        yield


@pytest.fixture
def client() -> Client:
    """Somebody without an account."""
    return Client(raise_request_exception=False)


@pytest.fixture
def program() -> Iterator[Client]:
    """Somebody with a token."""
    with override_settings(LIKES_API_TOKENS=["another", TOKEN]):
        yield Client(raise_request_exception=False, headers={"Authorization": f"Bearer {TOKEN}"})


def posts(number: int) -> list[int]:
    """Make posts and return their ids."""
    return [Post.objects.create(title=f"post {n}").pk for n in range(number)]


def send(client: Client, method: str, path: str, body: Any = None, **headers: str) -> Any:
    """Send JSON, or no body and no Content-Type."""
    if body is None:
        return client.generic(method.upper(), path, content_type="", headers=headers)
    return getattr(client, method)(path, body, content_type="application/json", headers=headers)


@contextmanager
def round_trips() -> Iterator[list[Any]]:
    """Record each write to a socket of Redis': what is written at once is answered in one round trip."""
    seen: list[Any] = []
    original = AbstractConnection.send_packed_command

    def record(self: AbstractConnection, *args: Any, **kwargs: Any) -> Any:
        seen.append(args)
        return original(self, *args, **kwargs)

    with patch.object(AbstractConnection, "send_packed_command", record):
        yield seen


# --- Single likes.


def test_a_like_is_answered_202_with_the_post_and_its_live_total(client: Client) -> None:
    [post] = posts(1)
    assert client.post(f"/api/v1/posts/{post}/like").json() == {"post": post, "likes": 1}
    response = client.post(f"/api/v1/posts/{post}/like")
    assert response.status_code == 202
    assert response.json() == {"post": post, "likes": 2}
    assert "Idempotent-Replayed" not in response.headers


def test_a_like_of_a_warm_post_is_one_round_trip_and_no_sql(client: Client) -> None:
    [post] = posts(1)
    client.post(f"/api/v1/posts/{post}/like")
    with round_trips() as trips, CaptureQueriesContext(connection) as queries:
        assert client.post(f"/api/v1/posts/{post}/like").status_code == 202
        assert client.post(f"/api/v1/posts/{post}/like", headers={"Idempotency-Key": "k"}).status_code == 202
    assert len(trips) == 2
    assert len(queries) == 0


def test_a_like_takes_no_notice_of_its_body_or_of_who_sends_it(client: Client) -> None:
    [post] = posts(1)
    User.objects.create_user("ann", password="x")
    client.force_login(User.objects.get())
    with CaptureQueriesContext(connection) as queries:
        response = client.post(f"/api/v1/posts/{post}/like", data=b"\xff{", content_type="image/png")
    assert response.json() == {"post": post, "likes": 1}
    assert not [query for query in queries if "session" in query["sql"] or "auth" in query["sql"]]


def test_a_retry_under_the_same_key_counts_once_and_says_so(client: Client) -> None:
    [post] = posts(1)
    first = send(client, "post", f"/api/v1/posts/{post}/like", **{"Idempotency-Key": "order-17"})
    client.post(f"/api/v1/posts/{post}/like")
    again = send(client, "post", f"/api/v1/posts/{post}/like", **{"Idempotency-Key": "order-17"})
    assert (again.status_code, again.json()) == (202, first.json())
    assert again.headers["Idempotent-Replayed"] == "true"
    assert counts.totals([post])[post].likes == 2


def test_the_same_key_on_two_posts_counts_on_both(client: Client) -> None:
    for post in posts(2):
        response = send(client, "post", f"/api/v1/posts/{post}/like", **{"Idempotency-Key": "!" * 255})
        assert response.json() == {"post": post, "likes": 1}
        assert "Idempotent-Replayed" not in response.headers


# --- Totals.


def test_the_total_of_a_post_is_told_in_its_parts(client: Client) -> None:
    [post] = posts(1)
    counts.like_many([(post, 5)])
    tasks.flush_shard(buffer.shard(post))
    counts.like(post)
    wanted = {"post": post, "likes": 6, "persisted": 5, "pending": 1}
    assert client.get(f"/api/v1/posts/{post}/likes").json() == wanted
    assert client.get(f"/likes/{post}").json() == wanted


def test_totals_of_many_posts_come_in_one_call_and_unknown_ids_are_left_out(client: Client) -> None:
    one, two = posts(2)
    counts.like(two)
    response = client.get(f"/api/v1/likes?post={one}&post={two}&post=404&post=0&post={2**63}&post={10**30}")
    assert response.status_code == 200
    assert response.json() == {"likes": {str(one): 0, str(two): 1}}


def test_reads_of_warm_posts_are_one_round_trip_and_no_sql(client: Client) -> None:
    ids = posts(20)
    query = "&".join(f"post={post}" for post in ids)
    client.get(f"/api/v1/likes?{query}")
    with round_trips() as trips, CaptureQueriesContext(connection) as queries:
        client.get(f"/api/v1/likes?{query}")
        client.get(f"/api/v1/posts/{ids[0]}/likes")
    assert (len(trips), len(queries)) == (2, 0)


# --- Bulk likes.


def test_bulk_likes_are_added_up_and_unknown_posts_are_named(program: Client) -> None:
    one, two = posts(2)
    entries = [(one, 3), (two, 10_000), (404, 5), (one, 1), (0, 1), (2**63, 1), (-1, 1)]
    body = {"likes": [{"post": post, "count": count} for post, count in entries]}
    response = send(program, "post", "/api/v1/likes", body)
    assert response.status_code == 202
    assert response.json() == {"accepted": 10_004, "unknown": [404, 0, 2**63, -1]}
    assert {post: total.likes for post, total in counts.totals([one, two]).items()} == {one: 4, two: 10_000}


def test_a_bulk_call_of_a_thousand_posts_is_retried_safely_under_its_key(program: Client) -> None:
    ids = [post.pk for post in Post.objects.bulk_create(Post(title="many") for _ in range(1000))]
    body = {"likes": [{"post": post, "count": 2} for post in ids]}
    first = send(program, "post", "/api/v1/likes", body, **{"Idempotency-Key": "all"})
    again = send(program, "post", "/api/v1/likes", body, **{"Idempotency-Key": "all"})
    assert first.json() == again.json() == {"accepted": 2000, "unknown": []}
    assert "Idempotent-Replayed" not in first.headers
    assert again.headers["Idempotent-Replayed"] == "true"
    assert {total.likes for total in counts.totals(ids).values()} == {2}


def test_one_bad_entry_refuses_the_whole_call(program: Client) -> None:
    [post] = posts(1)
    body = {"likes": [{"post": post, "count": 1}, {"post": post, "count": 10_001}]}
    assert send(program, "post", "/api/v1/likes", body).status_code == 400
    assert counts.totals([post])[post].likes == 0


# --- Posts.


def test_a_post_is_made_read_changed_and_deleted(program: Client) -> None:
    made = send(program, "post", "/api/v1/posts", {"title": "  A title  "})
    assert made.status_code == 201
    assert list(made.json()) == ["id", "title", "likes", "created_at", "updated_at"]
    path = made.headers["Location"]
    assert (made.json()["title"], made.json()["likes"], path) == ("A title", 0, f"/api/v1/posts/{made.json()['id']}")
    assert program.get(path).json() == made.json()
    counts.like(made.json()["id"])
    changed = send(program, "patch", path, {"title": "Another", "likes": 99})
    assert (changed.status_code, changed.json()["title"], changed.json()["likes"]) == (200, "Another", 1)
    assert program.get(path).json() == changed.json()
    assert program.delete(path).status_code == 204
    assert program.get(path).status_code == 404
    assert program.delete(path).status_code == 404


def test_a_deleted_post_cannot_be_liked_any_more_and_its_likes_stay_on_record(program: Client) -> None:
    [post] = posts(1)
    counts.like(post)
    tasks.flush_shard(buffer.shard(post))
    assert program.delete(f"/api/v1/posts/{post}").status_code == 204
    assert program.post(f"/api/v1/posts/{post}/like").status_code == 404
    adjustment = Adjustment.objects.get(post_id=post)
    assert (adjustment.kind, adjustment.likes) == ("delete", -1)
    assert adjustment.settled_at is not None


def test_pages_of_posts_are_stable_while_posts_come(client: Client) -> None:
    ids = posts(7)
    first = client.get("/api/v1/posts?page_size=3").json()
    posts(2)
    second = client.get(first["next"]).json()
    third = client.get(second["next"]).json()
    assert [post["id"] for page in (first, second, third) for post in page["results"]] == ids[::-1]
    assert third["next"] is None
    assert [post["id"] for post in client.get(third["previous"]).json()["results"]] == ids[3:0:-1]


def test_a_page_costs_a_constant_number_of_queries_and_one_round_trip(client: Client) -> None:
    for size in (5, 50):
        ids = posts(size)
        counts.like(ids[-1])
        with round_trips() as cold, CaptureQueriesContext(connection) as cold_queries:
            client.get(f"/api/v1/posts?page_size={size}")
        with round_trips() as warm, CaptureQueriesContext(connection) as queries:
            page = client.get(f"/api/v1/posts?page_size={size}").json()["results"]
        assert [post["likes"] for post in page] == [1] + [0] * (size - 1)
        assert (len(cold) <= 3, len(cold_queries), len(warm), len(queries)) == (True, 2, 1, 1)


# --- Short forms.


@pytest.mark.parametrize("spelling", [int, str])
def test_the_short_like_takes_the_id_as_a_number_or_a_string(client: Client, spelling: type) -> None:
    [post] = posts(1)
    response = send(client, "post", "/like", {"postId": spelling(post)})
    assert (response.status_code, response.json()) == (202, {"post": post, "likes": 1})


@pytest.mark.usefixtures("demo")
def test_the_short_like_needs_no_body_and_no_content_type(client: Client) -> None:
    ids = posts(3)
    for _ in range(5):
        response = send(client, "post", "/like")
        assert response.status_code == 202
        assert response.json()["post"] in ids
    assert client.generic("POST", "/like", b'{"postId": 2}', content_type="").json()["post"] == 2
    assert sum(total.likes for total in counts.totals(ids).values()) == 6


def test_where_there_is_no_demo_a_short_like_names_its_post(client: Client) -> None:
    posts(1)
    with override_settings(LIKES_DEMO=False):
        response = send(client, "post", "/like")
        assert send(client, "post", "/like", {"postId": 1}).status_code == 202
    assert (response.status_code, list(response.json()["errors"])) == (400, ["postId"])
    assert counts.totals([1])[1].likes == 1


@pytest.mark.usefixtures("demo")
@pytest.mark.parametrize("gone", [0, 3])
def test_a_retried_short_like_finds_its_post_though_others_were_made(client: Client, gone: int) -> None:
    posts(gone + 1)
    Post.objects.filter(pk__lte=gone).delete()
    keys = [{"Idempotency-Key": f"tap-{number}"} for number in range(12)]
    liked = [send(client, "post", "/like", **key).json() for key in keys]
    posts(5)
    assert [send(client, "post", "/like", **key).json() for key in keys] == liked


@pytest.mark.usefixtures("demo")
def test_the_short_like_finds_another_post_where_the_demo_ones_are_gone(client: Client) -> None:
    posts(4)
    Post.objects.filter(pk__lte=3).delete()
    assert send(client, "post", "/like").json() == {"post": 4, "likes": 1}
    Post.objects.all().delete()
    counts.settle()
    assert send(client, "post", "/like").status_code == 404


@pytest.mark.usefixtures("demo")
def test_a_short_like_is_retried_safely_under_its_key(client: Client) -> None:
    ids = posts(3)
    answers = [send(client, "post", "/like", **{"Idempotency-Key": "tap"}) for _ in range(8)]
    assert {tuple(answer.json().items()) for answer in answers} == {tuple(answers[0].json().items())}
    assert sum(total.likes for total in counts.totals(ids).values()) == 1


def test_the_short_form_of_a_post_needs_no_title(program: Client) -> None:
    made = send(program, "post", "/posts")
    assert (made.status_code, made.json()["likes"]) == (201, 0)
    assert made.json()["title"]
    assert send(program, "post", "/posts", {"title": "Mine"}).json()["title"] == "Mine"


# --- Who may.

WRITES = [
    ("post", "/api/v1/posts", {"title": "t"}, 201),
    ("post", "/posts", {}, 201),
    ("post", "/api/v1/likes", {"likes": [{"post": 1, "count": 1}]}, 202),
    ("patch", "/api/v1/posts/1", {"title": "t"}, 200),
    ("delete", "/api/v1/posts/1", None, 204),
]


@pytest.mark.parametrize("write", WRITES)
def test_writing_needs_a_token_or_an_admin_session(client: Client, program: Client, write: tuple[Any, ...]) -> None:
    method, path, body, status = write
    posts(1)
    stranger = send(client, method, path, body)
    assert (stranger.status_code, stranger.headers["WWW-Authenticate"]) == (401, 'Bearer realm="likesite"')
    assert send(client, method, path, body, Authorization="Bearer wrong").status_code == 401
    client.force_login(User.objects.create_user("ann"))
    assert send(client, method, path, body).status_code == 403
    assert send(program, method, path, body).status_code == status


@pytest.mark.parametrize(("method", "path", "body", "status"), WRITES)
def test_an_admin_session_writes_with_its_csrf_token_only(method: str, path: str, body: Any, status: int) -> None:
    posts(1)
    admin = Client(enforce_csrf_checks=True)
    admin.force_login(User.objects.create_superuser("root"))
    token = admin.get("/admin/").context["csrf_token"]
    refused = send(admin, method, path, body)
    assert (refused.status_code, refused.headers["Content-Type"]) == (403, "application/problem+json")
    assert send(admin, method, path, body, **{"X-CSRFToken": str(token)}).status_code == status


@pytest.mark.parametrize(("method", "path", "body", "status"), WRITES)
def test_the_demo_opens_posting_to_everyone_and_never_changes_and_deletes(
    method: str, path: str, body: Any, status: int
) -> None:
    posts(1)
    someone = Client(enforce_csrf_checks=True)
    someone.force_login(User.objects.create_user("ann"))
    with override_settings(LIKES_DEMO=True):
        answer = send(someone, method, path, body)
    assert answer.status_code == (403 if method in ("patch", "delete") else status)


def test_an_empty_token_opens_nothing(client: Client) -> None:
    with override_settings(LIKES_API_TOKENS=["", "ü"]):
        for header in ("Bearer", "Bearer ", "Bearer \xff", "Bearer ü"):
            response = send(client, "post", "/api/v1/posts", {"title": "t"}, Authorization=header)
            assert response.status_code == 401


# --- Across origins.

ROUTES = ["/api/v1/posts", "/api/v1/posts/1", "/api/v1/posts/1/like", "/api/v1/likes", "/posts", "/like", "/likes/1"]


@pytest.mark.parametrize("path", ROUTES)
def test_a_browser_elsewhere_may_send_a_key_and_read_the_headers_of_the_answer(client: Client, path: str) -> None:
    headers = {"Origin": "https://elsewhere.example", "Access-Control-Request-Method": "POST"}
    with override_settings(CORS_ALLOW_ALL_ORIGINS=True):
        preflight = client.options(path, headers=headers)
        answer = client.post(path, headers={"Origin": "https://elsewhere.example"})
    assert preflight.status_code == 200
    assert "idempotency-key" in preflight.headers["Access-Control-Allow-Headers"]
    assert answer.headers["Access-Control-Allow-Origin"] == "*"
    assert answer.headers["Access-Control-Expose-Headers"] == "Idempotent-Replayed, Retry-After"


def test_options_says_what_a_route_allows(client: Client) -> None:
    response = client.options("/api/v1/posts/1/like")
    assert (response.status_code, response.headers["Allow"], response.content) == (204, "POST, OPTIONS", b"")
