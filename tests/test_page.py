"""The page at `/` as a browser is sent it; what its script does is for tests in a browser."""

from __future__ import annotations

import re

import pytest
from django.db import connection
from django.test import Client, override_settings
from django.test.utils import CaptureQueriesContext

from likes import counts, pages, tasks
from likes.buffer import buffer
from likes.ids import MAX_ID
from likes.models import Post
from tests.servers import Server
from tests.test_api import round_trips

UNKNOWN_ROW = rf'<li data-post="(\d+)">.*?<data value="">{pages.UNKNOWN}</data>'


@pytest.fixture
def client() -> Client:
    """Somebody without an account."""
    return Client(raise_request_exception=False)


def posts(number: int) -> list[int]:
    """Make posts, oldest first, and return their ids."""
    return [Post.objects.create(title=f"post {n}").pk for n in range(number)]


def shown(html: str) -> dict[int, int]:
    """Return the posts of a page with the totals it shows, in its order."""
    totals = re.findall(r'<li data-post="(\d+)">.*?<data value="\d+">([\d,]+)</data>', html, re.DOTALL)
    return {int(post): int(likes.replace(",", "")) for post, likes in totals}


def unknown(html: str) -> list[int]:
    """Return the posts that a page shows without a total."""
    return [int(post) for post in re.findall(UNKNOWN_ROW, html, re.DOTALL)]


def test_the_page_shows_the_newest_posts_with_their_live_totals(client: Client) -> None:
    first, second = posts(2)
    counts.like_many([(first, 1200)])
    tasks.flush_shard(buffer.shard(first))
    counts.like(first)
    assert list(shown(client.get("/").text).items()) == [(second, 0), (first, 1201)]


def test_older_posts_are_a_link_away(client: Client) -> None:
    ids = posts(pages.POSTS + 1)
    page = client.get("/")
    assert list(shown(page.text)) == ids[:0:-1]
    assert f'href="?before={ids[1]}"' in page.text
    older = client.get("/", {"before": ids[1]})
    assert list(shown(older.text)) == ids[:1]
    assert "?before=" not in older.text


@pytest.mark.parametrize("before", ["", "x", "-1", "1.5", "٣", str(MAX_ID + 1), "9" * 5000])
def test_a_before_that_is_no_id_is_refused_by_name(client: Client, before: str) -> None:
    response = client.get("/", {"before": before})
    assert response.status_code == 400
    assert response["Content-Type"] == "application/problem+json"
    assert list(response.json()["errors"]) == ["before"]


def test_the_page_is_one_query_and_one_round_trip_when_its_posts_are_warm(client: Client) -> None:
    counts.totals(posts(pages.POSTS))
    with CaptureQueriesContext(connection) as queries, round_trips() as sent:
        assert client.get("/").status_code == 200
    assert (len(queries), len(sent)) == (1, 1)


def test_without_redis_the_page_shows_no_total_that_could_be_lower_than_before(client: Client, redis: Server) -> None:
    [post] = posts(1)
    counts.like(post)
    tasks.flush_shard(buffer.shard(post))
    counts.like(post)
    redis.kill()
    page = client.get("/")
    assert page.status_code == 200
    assert (shown(page.text), unknown(page.text)) == ({}, [post])
    assert pages.NO_TOTALS in page.text


def test_without_postgresql_the_page_says_so_and_when_to_come_back(client: Client, postgres: Server) -> None:
    posts(1)
    postgres.kill()
    page = client.get("/")
    assert page.status_code == 503
    assert page["Retry-After"] == str(pages.RETRY_SECONDS)
    assert pages.NO_POSTS in page.text


def test_an_empty_deployment_says_how_posts_come_about(client: Client) -> None:
    assert "No posts here yet" in client.get("/").text


def test_nothing_on_the_page_is_inline_or_from_elsewhere(client: Client) -> None:
    posts(1)
    page = client.get("/")
    assert "default-src 'none'" in page["Content-Security-Policy"]
    assert "unsafe" not in page["Content-Security-Policy"]
    assert not re.search(r"<style|\sstyle=|\son\w+=|<script>|javascript:", page.text)
    assert not re.findall(r'<(?:script|link|img)[^>]+(?:src|href)="(?!/static/)', page.text)


def test_every_asset_the_page_names_is_served_from_here(client: Client) -> None:
    assets = re.findall(r'"(/static/[^"]+)"', client.get("/").text)
    assert len(assets) == 3
    for asset in [*assets, client.get("/favicon.ico")["Location"]]:
        assert client.get(asset).status_code == 200, asset


def test_a_title_is_text_and_never_markup(client: Client) -> None:
    Post.objects.create(title="<script>alert(1)</script>")
    assert "<script>alert" not in client.get("/").text


def test_a_like_button_works_without_javascript(client: Client) -> None:
    [post] = posts(1)
    [action] = re.findall(r'<form method="post" action="([^"]+)"', client.get("/").text)
    response = client.post(action, "", content_type="application/x-www-form-urlencoded")
    assert response.status_code == 202
    assert counts.totals([post])[post].likes == 1


@pytest.mark.parametrize("host", ["localhost", "127.0.0.1:8000", "[::1]:8000"])
def test_a_demo_links_to_its_load_test_on_the_host_it_was_asked_on(client: Client, host: str) -> None:
    with override_settings(LIKES_DEMO=True, LOCUST_PORT=9999, ALLOWED_HOSTS=["*"]):
        page = client.get("/", headers={"Host": host})
    assert f'href="http://{host.removesuffix(":8000")}:9999/"' in page.text
    assert "Load test" not in client.get("/").text
