"""What PostgreSQL keeps beside the totals: batches once, orphans, quarantine, folds, epochs, the deployment."""

from __future__ import annotations

import json
import logging
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from datetime import timedelta
from functools import partial
from threading import Event
from unittest.mock import patch

import pytest
from django.core.exceptions import ImproperlyConfigured
from django.db import connection, transaction
from django.test import override_settings

from likes import audit, books, counts, ledger, tasks
from likes.buffer import buffer, flusher
from likes.ids import MAX_ID
from likes.ledger import AlreadyFolded
from likes.models import Batch, OrphanedLikes, Post, QuarantinedLikes, ShardEpoch, ShardState
from tests.servers import eventually, manage
from tests.steps import a_post, ack, adopt, drain, flush, key, live, only, persisted, two_posts_of_a_shard


@pytest.fixture
def elsewhere() -> Iterator[Callable[..., Future[object]]]:
    """Run something in a thread, which has a connection to PostgreSQL of its own."""

    def run(work: Callable[..., object], *arguments: object) -> object:
        try:
            return work(*arguments)
        finally:
            connection.close()

    with ThreadPoolExecutor(1) as pool:
        yield partial(pool.submit, run)


def waiting() -> int:
    """Return how many sessions wait for a lock."""
    with connection.cursor() as cursor:
        cursor.execute("SELECT count(DISTINCT pid) FROM pg_locks WHERE NOT granted")
        [number] = cursor.fetchone()
    return int(number)


# --- Applying.


def test_a_batch_is_added_once_however_often_it_is_applied() -> None:
    post = a_post()
    counts.like(post)
    batch = drain(post)
    assert not ledger.apply(batch).repeated
    again = ledger.apply(batch)
    assert (again.repeated, again.totals) == (True, {post: 1})
    assert ledger.apply_row_by_row(batch).repeated
    assert (persisted(post), Batch.objects.count()) == (1, 1)


def test_likes_of_a_post_that_is_gone_are_kept_as_orphans() -> None:
    gone, kept = two_posts_of_a_shard()
    counts.like_many([(gone, 3), (kept, 2)])
    only(gone).delete()
    applied = ledger.apply(drain(kept))
    assert applied.totals == {kept: 2}
    [orphan] = OrphanedLikes.objects.all()
    assert (orphan.post_id, orphan.likes) == (gone, 3)


def test_rows_are_locked_in_the_order_of_their_keys(elsewhere: Callable[..., Future[object]]) -> None:
    """Two flushes, or a flush and a reset, then wait for each other in a row and never in a circle."""
    low, high = two_posts_of_a_shard()
    counts.like_many([(high, 1), (low, 1)])
    batch = drain(low)
    with transaction.atomic():
        list(only(high).select_for_update())
        applying = elsewhere(ledger.apply, batch)
        eventually(lambda: waiting() == 1, "the flush waits")
        assert not list(only(low).select_for_update(skip_locked=True)), "it waits for the second, not having the first"
    assert applying.result(30)


def test_likes_land_in_a_row_that_moved_while_the_flush_waited_for_it(elsewhere: Callable[..., Future[object]]) -> None:
    post = a_post()
    counts.like(post)
    batch = drain(post)
    with transaction.atomic():
        only(post).update(title="another")  # PostgreSQL writes the row anew, in another place
        applying = elsewhere(ledger.apply, batch)
        eventually(lambda: waiting() == 1, "the flush waits")
    assert applying.result(30).totals == {post: 1}
    assert persisted(post) == 1


def test_a_batch_that_postgres_refuses_lands_row_by_row_after_five_errors() -> None:
    full, other = two_posts_of_a_shard()
    only(full).update(likes=MAX_ID, starting_likes=MAX_ID)
    counts.like_many([(full, 1), (other, 2)])
    shard = buffer.shard(full)
    with override_settings(LIKES_ADOPT_SECONDS=0):
        for failures in range(1, tasks.DATA_ERRORS):
            assert tasks.flush_batch(shard) is None
            assert buffer.status()[shard]["failures"] == failures
            assert persisted(other) == 0
        assert tasks.flush_batch(shard) is not None
    assert (persisted(full), persisted(other), live(full)) == (MAX_ID, 2, MAX_ID)
    [kept] = QuarantinedLikes.objects.all()
    assert (kept.post_id, kept.likes) == (full, 1)
    assert "out of range" in kept.error
    assert audit.take().exit_code == 0
    counts.like(other)
    flush(other)  # the shard goes on
    assert persisted(other) == 3


def test_an_error_that_passes_by_itself_is_no_failure_of_the_batch(elsewhere: Callable[..., Future[object]]) -> None:
    post = a_post()
    counts.like(post)
    with transaction.atomic():
        only(post).update(title="held")
        with patch.object(ledger, "LOCK_TIMEOUT", 50):  # milliseconds
            assert elsewhere(tasks.flush_shard, buffer.shard(post)).result(30) == 0
    assert buffer.status()[buffer.shard(post)]["failures"] == 0
    assert ack(adopt(post)).status == "acked"
    assert persisted(post) == 1


# --- Retention.


def retain_a_week_later() -> None:
    with patch.object(books, "RETENTION", timedelta(0)):
        tasks.retain()


def test_a_week_later_a_shard_has_one_row_of_each_kind() -> None:
    post = a_post()
    for batches in (3, 2):
        for _ in range(batches):
            counts.like_many([(post, 2)])
            flush(post)
        retain_a_week_later()
    [row] = Batch.objects.all()
    assert (row.likes, row.posts, row.folded) == (10, 5, 5)
    assert audit.take().exit_code == 0


def test_a_batch_that_was_folded_is_never_applied_again() -> None:
    post = a_post()
    counts.like(post)
    sleeping = drain(post)
    ack(adopt(post))
    retain_a_week_later()
    with pytest.raises(AlreadyFolded):
        ledger.apply(sleeping)
    assert persisted(post) == 1


def test_the_mark_of_a_fold_never_goes_back() -> None:
    """A batch in flight holds the next fold below itself; the mark must stay, or that batch would be added again."""
    post = a_post()
    counts.like(post)
    batch = drain(post)
    ledger.apply(batch)
    books.fold(batch.shard, batch.drained_at + timedelta(hours=1))  # as by a clock that was wrong
    retain_a_week_later()
    assert ShardState.objects.get(shard=batch.shard).folded_until > batch.drained_at
    with pytest.raises(AlreadyFolded):
        ledger.apply(batch)
    assert persisted(post) == 1


def test_no_fold_reaches_the_batch_in_flight() -> None:
    post = a_post()
    counts.like(post)
    batch = drain(post)
    ledger.apply(batch)
    retain_a_week_later()
    assert ack(batch).status == "acked"
    assert persisted(post) == 1


def test_a_redis_whose_clock_runs_ahead_folds_nothing_young() -> None:
    post = a_post()
    counts.like(post)
    flush(post)
    ahead = [told | {"now": told["now"] + timedelta(days=30)} for told in flusher.status()]
    with patch.object(flusher, "status", return_value=ahead):
        tasks.retain()
    counts.like(post)
    flush(post)
    assert persisted(post) == 2


def test_a_batch_that_comes_while_its_row_is_folded_away_is_refused(elsewhere: Callable[..., Future[object]]) -> None:
    post = a_post()
    counts.like(post)
    sleeping = drain(post)
    ack(adopt(post))
    with transaction.atomic():
        books.fold(sleeping.shard, sleeping.drained_at)
        applying = elsewhere(ledger.apply, sleeping)
        eventually(lambda: waiting() == 1, "the flusher waits to write its row")
    with pytest.raises(AlreadyFolded):
        applying.result(30)
    assert persisted(post) == 1


def test_a_row_that_comes_while_others_are_folded_is_not_lost(elsewhere: Callable[..., Future[object]]) -> None:
    """A flusher that slept for a week writes its row before it can see the mark."""
    post = a_post()
    counts.like(post)
    flush(post)
    counts.like(post)
    sleeping = drain(post)
    in_the_middle, folded = Event(), Event()

    def hold(*_: object) -> None:
        in_the_middle.set()
        assert folded.wait(30)

    with patch.object(ledger, "_keep_orphans", hold):
        applying = elsewhere(ledger.apply, sleeping)
        assert in_the_middle.wait(30)
        books.fold(sleeping.shard, sleeping.drained_at)
        folded.set()
        applying.result(30)
    books.fold(sleeping.shard, sleeping.drained_at)
    assert sum(Batch.objects.values_list("likes", flat=True)) == persisted(post) == 2


# --- The life of a Redis.


def test_an_empty_redis_is_no_loss() -> None:
    assert audit.take().exit_code == 0
    post = a_post(likes=7)
    buffer.client.flushall()
    assert (audit.take().exit_code, live(post)) == (0, 7)


def test_a_wiped_redis_is_told_apart_from_an_empty_one(caplog: pytest.LogCaptureFixture) -> None:
    first, second = two_posts_of_a_shard()
    counts.like_many([(first, 3), (second, 3)])
    with override_settings(LIKES_BATCH_POSTS=1):
        flush(first)  # six were accepted, three moved
    buffer.client.flushall()
    taken = audit.take()
    assert [(loss.likes, loss.noted) for loss in taken.losses] == [(3, False)]
    assert taken.exit_code == 1

    for post in (first, second):
        assert live(post) == persisted(post)
    counts.like(first)
    with caplog.at_level(logging.WARNING):
        flush(first)
    assert f"new epoch shard={buffer.shard(first)}" in caplog.text
    closed, living = ShardEpoch.objects.order_by("last_at")
    assert (closed.shortfall, living.shortfall) == (3, 0)
    assert audit.take().exit_code == 1


def test_a_loss_that_an_operator_took_note_of_is_no_drift_any_more() -> None:
    first, second = two_posts_of_a_shard()
    counts.like_many([(first, 3), (second, 3)])
    with override_settings(LIKES_BATCH_POSTS=1):
        flush(first)
    buffer.client.flushall()
    noted = manage("audit", "--note-losses", "--json")
    assert noted.returncode == 0, noted.stdout + noted.stderr
    assert [loss["noted"] for loss in json.loads(noted.stdout)["losses"]] == [True]


def test_a_flusher_that_slept_through_the_wipe_still_delivers_its_batch() -> None:
    post = a_post()
    counts.like(post)
    sleeping = drain(post)
    buffer.client.flushall()
    counts.like(post)
    assert ack(sleeping).status == "late"
    flush(post)
    assert (persisted(post), live(post), audit.take().exit_code) == (2, 2, 0)


# --- The audit.


def test_the_audit_looks_again_when_some_posts_left_dirty_while_others_came() -> None:
    first, second = two_posts_of_a_shard()
    counts.like(first)
    asked = flusher.plain

    def slowly(*command: str | int) -> object:
        reply = asked(*command)
        if command[0] == "SMEMBERS" and first:
            drain(first)
            counts.like(second)
        return reply

    with patch.object(flusher, "plain", slowly):
        assert flusher.audit_look(buffer.shard(first)) is None
    assert audit.take().exit_code == 0


def test_a_counter_that_nobody_would_drain_is_drift() -> None:
    post = a_post()
    counts.like(post)
    buffer.client.srem(key(post, "dirty"), post)
    assert audit.take().exit_code == 1


# --- The deployment.


@pytest.mark.parametrize("other", [{"LIKES_SHARDS": "9"}, {"LIKES_PREFIX": "others"}])
def test_a_deployment_that_would_count_elsewhere_is_refused_by_name(other: dict[str, str]) -> None:
    books.check_deployment()
    refused = manage("audit", **other)
    assert refused.returncode != 0
    assert next(iter(other)) in refused.stdout + refused.stderr


def test_flushes_of_another_deployment_move_nothing() -> None:
    post = a_post()
    counts.like(post)
    books.check_deployment()
    books.check_deployment.cache_clear()
    with override_settings(LIKES_PREFIX="others"), pytest.raises(ImproperlyConfigured, match="LIKES_PREFIX"):
        tasks.flush_shard(buffer.shard(post))
    assert (persisted(post), Post.objects.count()) == (0, 1)
