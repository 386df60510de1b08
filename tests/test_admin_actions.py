"""What the admin does to totals: flush now, reset, delete. All of it on record, and nothing of it an error page."""

from __future__ import annotations

from datetime import timedelta
from threading import Thread
from typing import Any
from unittest.mock import patch

import pytest
from django.contrib.admin.models import LogEntry
from django.contrib.auth.models import Permission, User
from django.db import connection, transaction
from django.test import Client, override_settings
from django.utils import timezone

from likes import counts
from likes.admin import actions, posts
from likes.buffer import buffer, flusher
from likes.models import Adjustment, Batch, Post, ShardState
from tests.servers import Server, eventually

LIST = "/admin/likes/post/"


@pytest.fixture
def client() -> Client:
    """A superuser, logged in."""
    client = Client()
    client.force_login(User.objects.create(username="ada", is_staff=True, is_superuser=True))
    return client


def liked(*likes: int) -> list[int]:
    """Make posts with so many pending likes and return their ids."""
    ids = [Post.objects.create(title=f"post {n}").pk for n in range(len(likes))]
    counts.like_many(list(zip(ids, likes, strict=True)))
    return ids


def act(client: Client, action: str, ids: list[int], **more: Any) -> str:
    """Choose an action for posts, as the list's form does, and return the page that follows."""
    form = {"action": action, "_selected_action": ids, "index": 0} | more
    return client.post(LIST, form, follow=True).text


def parts(post: int) -> tuple[int, int]:
    total = counts.totals([post])[post]
    return total.persisted, total.pending


# --- Flush now.


def test_flush_now_persists_the_likes_of_the_chosen_posts(client: Client) -> None:
    first, second = liked(3, 4)
    assert "Likes flushed: 7." in act(client, "flush_now", [first, second])
    assert (parts(first), parts(second)) == ((3, 0), (4, 0))


def test_flush_now_with_nothing_to_flush_says_so(client: Client) -> None:
    [post] = liked(1)
    act(client, "flush_now", [post])
    assert actions.NOTHING_FLUSHED in act(client, "flush_now", [post])


def test_flush_now_without_redis_is_a_message_and_loses_nothing(client: Client, redis: Server) -> None:
    [post] = liked(2)
    redis.kill()
    assert "Not flushed: " in act(client, "flush_now", [post])
    redis.start()
    assert parts(post) == (0, 2)


@pytest.mark.parametrize("action", ["flush_now", "reset_likes"])
def test_a_batch_from_before_the_fold_is_a_message_and_stays(client: Client, action: str) -> None:
    [post] = liked(2)
    flusher.drain(buffer.shard(post))
    later = timezone.now() + timedelta(hours=1)
    ShardState.objects.create(shard=buffer.shard(post), folded_until=later)
    with override_settings(LIKES_ADOPT_SECONDS=0):
        page = act(client, action, [post], post="yes")
    assert "Not flushed: " in page
    assert "fold mark" in page
    assert parts(post) == (0, 2)


# --- Reset.


def test_reset_asks_first(client: Client) -> None:
    [post] = liked(5)
    page = act(client, "reset_likes", [post])
    assert "Yes, reset them" in page
    assert f'name="_selected_action" value="{post}"' in page
    assert parts(post) == (0, 5)
    assert not Adjustment.objects.exists()


def test_a_confirmed_reset_is_on_record_in_the_name_of_who_did_it(client: Client) -> None:
    first, second, other = liked(5, 2, 1)
    page = act(client, "reset_likes", [first, second], post="yes")
    assert "Totals set to zero: 2." in page
    assert [parts(post) for post in (first, second)] == [(0, 0), (0, 0)]
    assert sum(parts(other)) == 1
    record = list(Adjustment.objects.order_by("post_id").values_list("post_id", "kind", "likes", "by"))
    assert record == [(first, "reset", -5, "ada"), (second, "reset", -2, "ada")]
    assert not Adjustment.objects.filter(settled_at=None).exists()
    assert LogEntry.objects.filter(object_id=str(first), change_message="Reset likes.").exists()


def test_a_reset_without_redis_is_done_and_settled_later(client: Client, redis: Server) -> None:
    [post] = liked(5)
    act(client, "flush_now", [post])
    redis.kill()
    assert actions.UNSETTLED in act(client, "reset_likes", [post], post="yes")
    assert Post.objects.get(pk=post).likes == 0
    redis.start()
    assert counts.settle() == 1
    assert parts(post) == (0, 0)


def test_likes_in_flight_while_a_post_is_reset_count_from_zero(client: Client) -> None:
    [post] = liked(5)
    assert flusher.drain(buffer.shard(post)) not in ("busy", "idle")  # a worker has them, and is slow
    act(client, "reset_likes", [post], post="yes")
    assert not Batch.objects.exists()
    assert parts(post) == (0, 5)


# --- Deletes.


@pytest.mark.parametrize("way", ["alone", "in bulk"])
def test_a_deleted_post_is_archived_and_settled(client: Client, way: str) -> None:
    [post] = liked(5)
    act(client, "flush_now", [post])
    if way == "alone":
        client.post(f"{LIST}{post}/delete/", {"post": "yes"})
    else:
        act(client, "delete_selected", [post], post="yes")
    assert not Post.objects.exists()
    [record] = Adjustment.objects.all()
    assert (record.post_id, record.kind, record.likes) == (post, "delete", -5)
    assert record.settled_at is not None
    with pytest.raises(counts.UnknownPost):
        counts.like(post)


@pytest.mark.parametrize("way", ["alone", "in bulk"])
def test_a_delete_without_redis_is_done_and_settled_later(client: Client, redis: Server, way: str) -> None:
    [post] = liked(5)
    redis.kill()
    if way == "alone":
        page = client.post(f"{LIST}{post}/delete/", {"post": "yes"}, follow=True).text
    else:
        page = act(client, "delete_selected", [post], post="yes")
    assert actions.UNSETTLED in page
    redis.start()
    assert counts.settle() == 1
    assert counts.totals([post]) == {}


def test_a_bulk_delete_locks_rows_in_the_order_in_which_a_flush_does(client: Client) -> None:
    for post in (2, 1):  # in the table, the higher one comes first
        Post.objects.create(pk=post, title="one")

    def delete() -> None:
        act(client, "delete_selected", [1, 2], post="yes")
        connection.close()  # this thread's

    deleting = Thread(target=delete)
    with transaction.atomic():
        Post.objects.select_for_update(no_key=True).get(pk=1)  # as a flush that has come so far
        deleting.start()
        eventually(a_query_waits_for_a_lock, "the delete waits for the first row")
        Post.objects.select_for_update(no_key=True, nowait=True).get(pk=2)  # and now the flush goes on
    deleting.join(30)
    assert not deleting.is_alive()
    assert not Post.objects.exists()


def a_query_waits_for_a_lock() -> bool:
    with connection.cursor() as cursor:
        cursor.execute("SELECT count(*) FROM pg_locks WHERE NOT granted")
        [waiting] = cursor.fetchone()
    return bool(waiting)


# --- Who may, and how much.


def test_who_may_only_view_posts_is_offered_no_action() -> None:
    [post] = liked(5)
    viewer = User.objects.create(username="vi", is_staff=True)
    viewer.user_permissions.add(Permission.objects.get(codename="view_post"))
    client = Client()
    client.force_login(viewer)
    assert "reset_likes" not in client.get(LIST).text
    act(client, "reset_likes", [post], post="yes")
    act(client, "flush_now", [post])
    assert parts(post) == (0, 5)


@pytest.mark.parametrize("action", ["reset_likes", "delete_selected"])
def test_more_posts_than_an_action_can_confirm_are_refused(client: Client, action: str) -> None:
    ids = liked(1, 1, 1)
    with patch.object(posts, "ACTION_POSTS", 2):
        assert "An action takes 2 posts at most" in act(client, action, ids[:1], select_across=1)
    with patch.object(posts, "ACTION_POSTS", 3):
        assert all(f'value="{post}"' in act(client, action, ids[:1], select_across=1) for post in ids)
