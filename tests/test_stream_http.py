"""How the stream room answers what is and what is not a stream."""

from __future__ import annotations

import pickle
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress

import pytest
from django.test import override_settings

from likes.admission import Places
from tests.live import Reader, Totals, Web, open_streams
from tests.servers import eventually

PATHS = ("/events", "/events/pipeline")


@pytest.fixture(scope="module")
def web() -> Iterator[Web]:
    """One server for all: none of these tests waits for a total."""
    running = Web(Totals())
    yield running
    running.stop()


@pytest.mark.parametrize("path", PATHS)
def test_a_stream_is_never_cached_buffered_or_compressed(web: Web, path: str) -> None:
    with Reader(web.port, path, Accept_Encoding="gzip, br") as reader:
        assert reader.status == 200
        assert reader.headers["content-type"] == "text/event-stream; charset=utf-8"
        assert reader.headers["cache-control"] == "no-cache"
        assert reader.headers["x-accel-buffering"] == "no"
        assert "content-encoding" not in reader.headers


@pytest.mark.parametrize("path", PATHS)
def test_head_answers_the_head_alone(web: Web, path: str) -> None:
    with Reader(web.port, path, method="HEAD", Connection="close") as reader:
        assert (reader.status, reader.headers["content-type"]) == (200, "text/event-stream; charset=utf-8")
        assert reader.socket.recv(1) == reader.raw == b""


@pytest.mark.parametrize("path", PATHS)
@pytest.mark.parametrize("method", ["POST", "PUT", "DELETE", "PATCH", "PROPFIND"])
def test_other_methods_are_405_and_told_what_is_allowed(web: Web, path: str, method: str) -> None:
    with Reader(web.port, path, method=method, Content_Length="0") as reader:
        assert (reader.status, reader.headers["allow"]) == (405, "get, head, options")
        assert reader.headers["content-type"] == "application/problem+json"
        assert reader.body() == {
            "type": "about:blank", "title": "Method Not Allowed", "status": 405,
            "detail": f'Method "{method}" not allowed.',
        }  # fmt: skip


@pytest.mark.parametrize("query", ["post=x", "post=", "post=1&post=-2", "post=1.0", "post=%D9%A3", "post=+1"])
def test_a_filter_that_is_no_id_is_400_and_names_the_field(web: Web, query: str) -> None:
    with Reader(web.port, f"/events?{query}") as reader:
        problem = reader.body()
        assert (reader.status, reader.headers["content-type"]) == (400, "application/problem+json")
        assert problem["errors"] == {"post": ["must be a post's id, in digits"]}


@pytest.mark.parametrize("number", [101, 1_100])
def test_more_than_a_hundred_posts_are_400(web: Web, number: int) -> None:
    with Reader(web.port, "/events?" + "&".join(["post=1"] * number)) as reader:
        assert reader.status == 400
        assert reader.body()["errors"].keys() == {"post"}


@pytest.mark.parametrize("query", ["post=0", "post=9223372036854775808", "post=" + "9" * 5_000])
def test_ids_that_no_post_can_have_are_left_out(web: Web, query: str) -> None:
    with Reader(web.port, f"/events?{query}") as reader:
        assert reader.event() == {"count": 0, "likes": {}}


def test_a_query_that_is_no_text_is_400(web: Web) -> None:
    with Reader(web.port, "/events?post=%FF&\u00ff") as reader:
        assert reader.status == 400


@pytest.mark.parametrize("path", PATHS)
def test_a_strange_host_is_400(web: Web, path: str) -> None:
    with Reader(web.port, path, Host="evil.example") as reader:
        assert (reader.status, reader.headers["content-type"]) == (400, "application/problem+json")
        assert "Host" in reader.body()["detail"]


@pytest.mark.parametrize("path", ["/", "/events/", "/events/x", "/eventsx", "/api/v1/posts", "/EVENTS"])
def test_everything_else_goes_to_django(web: Web, path: str) -> None:
    with Reader(web.port, path) as reader:
        assert reader.status == 418


def test_origins_are_closed_unless_named(web: Web) -> None:
    with Reader(web.port, Origin="https://site.example") as reader:
        assert "access-control-allow-origin" not in reader.headers


@override_settings(CORS_ALLOWED_ORIGINS=["https://site.example"])
def test_a_named_origin_may_listen(web: Web) -> None:
    with Reader(web.port, Origin="https://site.example") as reader:
        assert reader.headers["access-control-allow-origin"] == "https://site.example"
        assert reader.headers["access-control-expose-headers"] == "idempotent-replayed, retry-after"
        assert "origin" in reader.headers["vary"]
    with Reader(web.port, Origin="https://other.example") as reader:
        assert "access-control-allow-origin" not in reader.headers


@override_settings(CORS_ALLOW_ALL_ORIGINS=True)
@pytest.mark.parametrize("path", [*PATHS, "/events?post=x"])
def test_the_demo_is_open_to_every_origin_errors_too(web: Web, path: str) -> None:
    with Reader(web.port, path, Origin="https://site.example") as reader:
        assert reader.headers["access-control-allow-origin"] == "*"


@override_settings(CORS_ALLOW_ALL_ORIGINS=True)
def test_a_preflight_allows_what_the_api_allows(web: Web) -> None:
    asked = {"Origin": "https://site.example", "Access_Control_Request_Method": "GET"}
    with Reader(web.port, method="OPTIONS", **asked) as reader:
        assert reader.status == 200
        assert {"idempotency-key", "last-event-id"} <= set(reader.headers["access-control-allow-headers"].split(", "))


def test_options_says_what_is_allowed(web: Web) -> None:
    with Reader(web.port, method="OPTIONS") as reader:
        assert (reader.status, reader.headers["allow"]) == (204, "get, head, options")


@pytest.mark.parametrize("path", PATHS)
def test_a_stream_beyond_the_bound_is_429_and_told_when_to_come_back(web: Web, path: str) -> None:
    eventually(lambda: open_streams() == 0, "the streams of other tests have ended")
    with override_settings(LIKES_STREAMS=2):
        with Reader(web.port, "/events?post=1") as first, Reader(web.port, "/events/pipeline") as second:
            assert (first.status, second.status) == (200, 200)
            with Reader(web.port, path) as refused:
                assert (refused.status, refused.headers["content-type"]) == (429, "application/problem+json")
                assert int(refused.headers["retry-after"]) > 0
                assert refused.body()["status"] == 429
        eventually(lambda: open_streams() == 0, "they have ended")
        with Reader(web.port, path) as third:
            assert third.status == 200


def from_address(web: Web, address: str) -> Reader:
    """Open a stream as a proxy on this machine passes it on, whom uvicorn trusts."""
    return Reader(web.port, X_Forwarded_For=address)


@pytest.mark.parametrize(
    ("held", "same", "other"),
    [
        ("203.0.113.7", "203.0.113.7", "203.0.113.8"),
        ("2001:db8:0:7::1", "2001:db8:0:7:ffff::9", "2001:db8:0:8::1"),
        ("203.0.113.7", "::ffff:203.0.113.7", "::ffff:203.0.113.8"),
        ("unknown", "unknown", "hidden"),
    ],
)
@override_settings(LIKES_STREAMS_PER_ADDRESS=1)
def test_an_address_holds_as_many_streams_as_it_may_and_no_other_is_touched(
    web: Web, held: str, same: str, other: str
) -> None:
    eventually(lambda: open_streams() == 0, "the streams of other tests have ended")
    with from_address(web, held) as first:
        assert first.status == 200
        with from_address(web, same) as refused, from_address(web, other) as admitted:
            assert (refused.status, admitted.status) == (429, 200)
            assert int(refused.headers["retry-after"]) > 0
            assert refused.body()["detail"] == "Your address holds as many streams as it may."
    eventually(lambda: open_streams() == 0, "they have ended")
    with from_address(web, same) as again:
        assert again.status == 200


@override_settings(LIKES_STREAMS_PER_ADDRESS=5)
def test_the_bound_of_an_address_is_exact_while_many_come_and_go(web: Web) -> None:
    eventually(lambda: open_streams() == 0, "the streams of other tests have ended")
    with ThreadPoolExecutor(20) as pool:
        for _ in range(3):
            readers = list(pool.map(lambda _: Reader(web.port), range(20)))
            assert [reader.status for reader in readers].count(200) == 5
            list(pool.map(lambda reader: reader.socket.close(), readers))
            eventually(lambda: open_streams() == 0, "they have ended")


def test_nothing_is_kept_of_an_address_without_streams() -> None:
    places = Places()
    before = pickle.dumps(places)
    for number in range(10):
        with places.taken({"client": (f"203.0.113.{number}", 1)}), suppress(ValueError), places.taken({"client": None}):
            raise ValueError
    assert pickle.dumps(places) == before
