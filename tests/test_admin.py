"""The admin: what it shows of posts, that it loses no like, and that the books are to look at."""

from __future__ import annotations

import re
from datetime import UTC, datetime, timedelta
from typing import Any
from unittest.mock import patch
from uuid import uuid4

import pytest
from django.contrib.auth.models import User
from django.db import connection
from django.test import Client
from django.test.utils import CaptureQueriesContext
from django.utils.html import escape

from likes import counts, tasks
from likes.admin import listing, posts
from likes.buffer import buffer
from likes.models import (
    Adjustment,
    Batch,
    Deployment,
    OrphanedLikes,
    Post,
    QuarantinedLikes,
    ShardEpoch,
    ShardState,
)
from tests.servers import Server
from tests.test_api import round_trips

LIST = "/admin/likes/post/"
BOOKS = [Adjustment, Batch, Deployment, OrphanedLikes, QuarantinedLikes, ShardEpoch, ShardState]


@pytest.fixture
def client() -> Client:
    """A superuser, logged in."""
    client = Client()
    client.force_login(User.objects.create(username="ada", is_staff=True, is_superuser=True))
    return client


def make(number: int) -> list[int]:
    """Make posts and return their ids."""
    return [Post.objects.create(title=f"post {n}").pk for n in range(number)]


def flush(post: int) -> None:
    tasks.flush_shard(buffer.shard(post))


def columns(html: str) -> dict[int, tuple[str, str, str]]:
    """Return what a list of posts shows as persisted, pending and live."""
    cells = {
        name: re.findall(rf'<td class="field-{name}">([^<]*)</td>', html) for name in ("persisted", "pending", "live")
    }
    ids = re.findall(r'<th class="field-id"><a [^>]*>(\d+)</a>', html)
    return dict(zip(map(int, ids), zip(*cells.values(), strict=True), strict=True))


def test_the_list_shows_what_is_persisted_what_is_pending_and_both(client: Client) -> None:
    [post] = make(1)
    counts.like_many([(post, 3)])
    flush(post)
    counts.like_many([(post, 2)])
    assert columns(client.get(LIST).text) == {post: ("3", "2", "5")}


def test_a_page_of_posts_costs_the_same_however_many_it_holds(client: Client) -> None:
    def cost() -> tuple[int, int]:
        counts.totals(Post.objects.values_list("pk", flat=True))
        with CaptureQueriesContext(connection) as queries, round_trips() as sent:
            assert client.get(LIST).status_code == 200
        return len(queries), len(sent)

    make(5)
    few = cost()
    make(95)
    assert cost() == few
    assert few[1] == 1


def test_without_redis_the_list_shows_what_is_persisted_and_says_so(client: Client, redis: Server) -> None:
    [post] = make(1)
    counts.like(post)
    flush(post)
    redis.kill()
    page = client.get(LIST)
    assert columns(page.text) == {post: ("1", listing.NONE, listing.NONE)}
    assert posts.NO_TOTALS in page.text
    form = client.get(f"{LIST}{post}/change/")
    assert form.status_code == 200
    assert posts.NO_TOTALS in form.text


def test_posts_are_found_by_title_by_id_and_by_date(client: Client) -> None:
    old, new = Post.objects.create(title="Old"), Post.objects.create(title="New")
    Post.objects.filter(pk=old.pk).update(created_at=datetime.now(UTC) - timedelta(days=400))
    week = {"created_at__gte": (datetime.now(UTC) - timedelta(days=7)).isoformat()}
    for question, found in [({"q": "ne"}, new), ({"q": str(old.pk)}, old), ({"q": "9" * 40}, None), (week, new)]:
        assert list(columns(client.get(LIST, question).text)) == ([found.pk] if found else []), question
    assert "Past 7 days" in client.get(LIST).text


def test_a_total_cannot_be_edited(client: Client) -> None:
    [post] = make(1)
    counts.like(post)
    page = client.get(f"{LIST}{post}/change/").text
    assert re.findall(r'<input type="text" name="(\w+)"', page) == ["title"]
    client.post(f"{LIST}{post}/change/", {"title": "kept", "likes": 99, "persisted": 99, "starting_likes": 99})
    saved = Post.objects.get(pk=post)
    assert (saved.title, saved.likes, saved.starting_likes) == ("kept", 0, 0)


def test_a_save_that_a_flush_overtakes_loses_nothing(client: Client) -> None:
    [post] = make(1)
    counts.like(post)
    save = posts.PostAdmin.save_model

    def flush_then_save(*args: Any, **kwargs: Any) -> None:
        flush(post)  # the form's object was read before, with no like in it
        save(*args, **kwargs)

    with patch.object(posts.PostAdmin, "save_model", flush_then_save):
        client.post(f"{LIST}{post}/change/", {"title": "new"})
    saved = Post.objects.get(pk=post)
    assert (saved.title, saved.likes) == ("new", 1)
    assert counts.totals([post])[post].likes == 1


def test_a_post_added_by_hand_can_be_liked_at_once(client: Client) -> None:
    client.post(f"{LIST}add/", {"title": "by hand"})
    post = Post.objects.get(title="by hand").pk
    assert counts.like(post).likes == 1


# --- Lists.


@pytest.mark.parametrize("model", [Post, *BOOKS])
def test_no_list_counts_or_sorts_a_whole_table(client: Client, model: Any) -> None:
    with CaptureQueriesContext(connection) as queries:
        assert client.get(f"/admin/likes/{model._meta.model_name}/").status_code == 200
    asked = [query["sql"] for query in queries if f'FROM "{model._meta.db_table}"' in query["sql"]]
    assert len(asked) == 2
    assert all("LIMIT" in sql for sql in asked if "COUNT" in sql)
    with connection.cursor() as cursor:
        cursor.execute("SET enable_seqscan = off")  # tables of a test are too small for an index to pay
        plans = [str(list(explain(cursor, sql))) for sql in asked]
        cursor.execute("RESET enable_seqscan")
    assert not any("'Sort" in plan for plan in plans), plans


def explain(cursor: Any, sql: str) -> list[Any]:
    cursor.execute(f"EXPLAIN {sql}")
    return list(cursor.fetchall())


def test_rows_behind_the_last_page_are_said_to_be_there(client: Client) -> None:
    make(5)
    with patch.object(listing, "LISTED_ROWS", 4), patch.object(posts.PostAdmin, "list_per_page", 2):
        page = client.get(LIST).text
        assert "There are more" in page
        assert "?p=2" in page
        assert "?p=3" not in page
    assert "There are more" not in client.get(LIST).text


# --- The books.


def row_of(model: Any) -> Any:
    """Make a row of a book."""
    now, moved = datetime.now(UTC), {"batch": uuid4(), "post_id": 1, "likes": 1}
    values: dict[Any, dict[str, Any]] = {
        Adjustment: {"post_id": 1, "kind": "reset", "likes": -1, "by": "ada"},
        Batch: {"id": uuid4(), "shard": 1, "epoch": uuid4(), "kind": "like", "likes": 1, "posts": 1, "drained_at": now},
        Deployment: {"id": 1},
        OrphanedLikes: moved,
        QuarantinedLikes: moved | {"error": "out of range"},
        ShardEpoch: {"shard": 1, "epoch": uuid4(), "accepted": 1, "likes": 1, "posts": 1, "batches": 1,
                     "milliseconds": 1.0, "last_at": now},
        ShardState: {"shard": 1, "folded_until": now},
    }  # fmt: skip
    return model.objects.get_or_create(**values[model])[0]  # the row of the deployment is there


@pytest.mark.parametrize("model", BOOKS)
def test_the_books_are_to_look_at_even_for_a_superuser(client: Client, model: Any) -> None:
    row = row_of(model)
    book = f"/admin/likes/{model._meta.model_name}/"
    assert f"/{row.pk}/change/" in client.get(book).text
    page = client.get(f"{book}{row.pk}/change/")
    assert escape(str(row)) in page.text
    assert 'name="_save"' not in page.text
    assert client.get(f"{book}add/").status_code == 403
    assert client.post(f"{book}{row.pk}/change/", {"likes": 99}).status_code == 403
    assert client.post(f"{book}{row.pk}/delete/", {"post": "yes"}).status_code == 403
    client.post(book, {"action": "delete_selected", "_selected_action": row.pk, "post": "yes"})
    assert model.objects.filter(pk=row.pk).exists()


def test_batches_are_found_by_shard_and_by_id(client: Client) -> None:
    batch = row_of(Batch)
    for question, found in [
        ({"shard": 1}, True),
        ({"shard": 2}, False),
        ({"q": batch.pk}, True),
        ({"q": uuid4()}, False),
    ]:
        assert (
            str(batch.pk) in client.get("/admin/likes/batch/", question).text.replace(f'value="{batch.pk}"', "")
        ) == found
