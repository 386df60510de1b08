"""A drain is on Redis' disk before PostgreSQL commits it, or a power cut could count its likes twice."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from django.test import Client, override_settings

from likes import books, counts, tasks
from likes.buffer import buffer, flusher
from tests.steps import a_post, live, only, persisted

CAREFUL = {"appendonly": "yes", "appendfsync": "always"}


@pytest.fixture(params=[{"appendonly": "no"}, {"appendfsync": "no"}], ids=str)
def forgetful(request: pytest.FixtureRequest) -> Iterator[dict[str, str]]:
    """A Redis that does not say when something is on disk."""
    for name, value in request.param.items():
        buffer.client.config_set(name, value)
    yield request.param
    for name, value in CAREFUL.items():
        buffer.client.config_set(name, value)


def redis_part() -> dict[str, object]:
    return Client().get("/ready").json()["parts"]["redis"]


def test_a_drain_that_is_on_disk_is_applied() -> None:
    post = a_post()
    counts.like(post)
    tasks.flush_shard(buffer.shard(post))
    assert persisted(post) == 1
    assert redis_part()["ok"]


@pytest.mark.usefixtures("forgetful")
def test_a_drain_that_may_not_be_on_disk_is_not_applied_and_ready_says_why() -> None:
    post = a_post()
    counts.like(post)
    with override_settings(LIKES_ADOPT_SECONDS=0):
        for _ in ("drained", "adopted"):
            assert tasks.flush_batch(buffer.shard(post)) is None
    assert (persisted(post), live(post)) == (0, 1)
    assert not redis_part()["ok"]
    assert "durable" in str(redis_part()["problems"])


@pytest.mark.usefixtures("forgetful")
def test_without_the_barrier_it_is_applied_all_the_same() -> None:
    post = a_post()
    counts.like(post)
    with override_settings(LIKES_BARRIER="off"):
        tasks.flush_shard(buffer.shard(post))
        assert persisted(post) == 1
        assert redis_part()["ok"]


def test_what_waited_for_the_disk_lands_when_redis_keeps_its_promise_again() -> None:
    post = a_post()
    counts.like(post)
    buffer.client.config_set("appendonly", "no")
    tasks.flush_shard(buffer.shard(post))
    buffer.client.config_set("appendonly", "yes")
    with override_settings(LIKES_ADOPT_SECONDS=0):
        tasks.flush_shard(buffer.shard(post))
    assert persisted(post) == 1


@pytest.mark.usefixtures("forgetful")
def test_an_adjustment_is_settled_only_when_that_is_on_disk() -> None:
    post = a_post(likes=5)
    assert sum(counts.reset(only(post), by="a test")) == 1
    assert len(books.unsettled()) == 1
    for name, value in CAREFUL.items():
        buffer.client.config_set(name, value)
    assert counts.settle() == 1


def test_a_redis_that_syncs_every_write_needs_no_question() -> None:
    """Redis before 7.2 has no WAITAOF; `appendfsync always` is asked for instead."""
    assert flusher.syncs_always()
    buffer.client.config_set("appendfsync", "everysec")
    try:
        assert not flusher.syncs_always()
    finally:
        buffer.client.config_set("appendfsync", "always")
