"""Alive, ready and measured: also while a server is killed, frozen or set up so that likes would be lost."""

from __future__ import annotations

import os
import socket
import time
from datetime import timedelta
from typing import Any
from unittest.mock import patch

import pytest
import requests
from django.test import Client, override_settings
from django.utils import timezone
from prometheus_client.parser import text_string_to_metric_families

from likes import books, counts, tasks
from likes.buffer import buffer
from likes.metrics import is_alive
from likes.models import Deployment, Post, ShardEpoch, ShardState
from tests import servers
from tests.servers import Process, Server, eventually
from tests.stack import Web

READY_SECONDS = 2.0  # in which /ready answers, whatever is frozen
SLACK = 3


@pytest.fixture
def client() -> Client:
    """A load balancer."""
    return Client(raise_request_exception=False)


def ready(client: Client) -> tuple[int, dict[str, Any]]:
    """Return the status of /ready and its parts; a 503 is a problem document that says when to come back."""
    response = client.get("/ready")
    if response.status_code == 503:
        assert response.headers["Content-Type"] == "application/problem+json"
        assert int(response.headers["Retry-After"]) > 0
    return response.status_code, response.json()["parts"]


def unwell(client: Client) -> set[str]:
    """Return the parts that are not well."""
    return {name for name, part in ready(client)[1].items() if not part["ok"]}


def scraped(text: str) -> dict[str, float]:
    """Return the samples of /metrics, by name and the values of their labels."""
    families = text_string_to_metric_families(text)
    return {"/".join([s.name, *s.labels.values()]): s.value for family in families for s in family.samples}


def metrics(client: Client) -> dict[str, float]:
    response = client.get("/metrics")
    assert (response.status_code, response.headers["Content-Type"].split(";")[0]) == (200, "text/plain")
    return scraped(response.content.decode())


# --- Alive.


def test_alive_is_answered_without_asking_anybody(client: Client, redis: Server, postgres: Server) -> None:
    redis.kill()
    postgres.kill()
    with patch.object(socket.socket, "connect", side_effect=AssertionError("asked somebody")):
        response = client.get("/health")
    assert (response.status_code, response.json()) == (200, {"status": "alive"})


# --- Ready.


def test_ready_names_each_part(client: Client) -> None:
    status, parts = ready(client)
    assert status == 200
    assert set(parts) == {"redis", "database", "flush", "books"}
    assert all(part["ok"] for part in parts.values())


def test_a_redis_that_is_away_is_named_and_so_is_what_hangs_on_it(client: Client, redis: Server) -> None:
    redis.kill()
    assert unwell(client) == {"redis", "flush", "books"}
    redis.start()
    assert unwell(client) == set()


def test_a_database_that_is_away_is_named_and_its_address_is_not(client: Client, postgres: Server) -> None:
    postgres.kill()
    status, parts = ready(client)
    assert (status, unwell(client)) == (503, {"database", "books"})
    assert parts["database"]["problems"] == ["database: cannot be asked"]
    postgres.start()
    assert unwell(client) == set()


@pytest.mark.parametrize("frozen", ["redis", "postgres"])
def test_ready_answers_in_time_while_a_server_is_frozen(client: Client, frozen: str, request: Any) -> None:
    server: Server = request.getfixturevalue(frozen)
    name = {"redis": "redis", "postgres": "database"}[frozen]
    assert ready(client)[0] == 200
    server.freeze()
    try:
        for _ in range(2):
            started = time.monotonic()
            assert name in unwell(client)
            assert time.monotonic() - started < READY_SECONDS * SLACK
    finally:
        server.thaw()
    eventually(lambda: not unwell(client), "all is well again")


def test_likes_that_nobody_persists_are_noticed_by_their_age(client: Client) -> None:
    post = Post.objects.create(title="one").pk
    counts.like(post)
    with override_settings(LIKES_STALE_SECONDS=0.05):
        eventually(lambda: unwell(client) == {"flush"}, "the like is too old", 10)
        tasks.flush_shard(buffer.shard(post))
        status, parts = ready(client)
    assert (status, parts["flush"]["oldest_seconds"]) == (200, 0)


def test_a_redis_that_evicts_is_not_ready(client: Client) -> None:
    buffer.client.config_set("maxmemory-policy", "allkeys-lru")
    try:
        status, parts = ready(client)
    finally:
        buffer.client.config_set("maxmemory-policy", "noeviction")
    assert (status, parts["redis"]["maxmemory_policy"]) == (503, "allkeys-lru")
    assert "noeviction" in parts["redis"]["problems"][0]


def test_a_redis_that_keeps_nothing_is_not_ready_unless_the_barrier_is_off(client: Client) -> None:
    forgetful = servers.valkey(appendonly="no")
    try:
        with patch.object(buffer, "client", type(buffer.client).from_url(forgetful.server.url, decode_responses=True)):
            assert unwell(client) == {"redis"}
            with override_settings(LIKES_BARRIER="off"):
                assert unwell(client) == set()
    finally:
        forgetful.kill()


def test_a_database_of_another_deployment_is_not_ready_and_says_which_setting(client: Client) -> None:
    Deployment.objects.update(shards=3)
    books.check_deployment.cache_clear()  # as a process that starts
    status, parts = ready(client)
    assert status == 503
    assert "LIKES_SHARDS" in parts["database"]["problems"][0]


def test_a_batch_from_before_the_fold_is_told(client: Client) -> None:
    post = Post.objects.create(title="one").pk
    counts.like(post)
    buffer.drain(buffer.shard(post))
    ShardState.objects.create(shard=buffer.shard(post), folded_until=timezone.now() + timedelta(hours=1))
    assert unwell(client) == {"books"}


def test_a_wiped_redis_is_shown_with_its_loss_and_does_not_close_the_service(client: Client) -> None:
    post = Post.objects.create(title="one").pk
    for lost in (False, True):
        counts.like(post)
        tasks.flush_shard(buffer.shard(post))
        if not lost:
            buffer.client.flushall()
    status, parts = ready(client)
    [epoch] = parts["books"]["closed_epochs"]
    assert (status, epoch["shard"], epoch["lost_at_least"]) == (200, buffer.shard(post), 0)


def test_redis_says_which_life_it_is_in_whatever_its_clock_says(client: Client) -> None:
    post = Post.objects.create(title="one").pk
    for number in range(2):
        counts.like_many([(post, 1 + number)])
        tasks.flush_shard(buffer.shard(post))
        if number == 0:
            [wiped] = ShardEpoch.objects.all()
            buffer.client.flushall()
            assert [each["epoch"] for each in ready(client)[1]["books"]["closed_epochs"]] == [str(wiped.epoch)]
    ShardEpoch.objects.filter(pk=wiped.pk).update(last_at=timezone.now() + timedelta(days=1))
    assert [each["epoch"] for each in ready(client)[1]["books"]["closed_epochs"]] == [str(wiped.epoch)]


def test_an_outage_is_two_lines_in_the_log_however_often_strangers_ask(
    client: Client, redis: Server, caplog: pytest.LogCaptureFixture
) -> None:
    assert unwell(client) == set()
    redis.kill()
    for _ in range(3):
        assert "redis" in unwell(client)
    redis.start()
    assert unwell(client) == set()
    told = [record.getMessage() for record in caplog.records if record.name in ("likes.health", "django.request")]
    assert [line.split(": ")[:2] for line in told] == [["not ready", "redis"], ["ready again", "redis"]]


# --- Measured.


def test_metrics_follow_a_like_from_accepted_to_persisted(client: Client) -> None:
    post = Post.objects.create(title="one").pk
    counts.like_many([(post, 7)])
    seen = metrics(client)
    assert (seen["likesite_likes_accepted_total"], seen["likesite_likes_pending"]) == (7, 7)
    assert seen["likesite_likes_persisted_total"] == 0
    assert seen["likesite_oldest_pending_like_age_seconds"] > 0
    tasks.flush_shard(buffer.shard(post))
    seen = metrics(client)
    assert (seen["likesite_likes_persisted_total"], seen["likesite_likes_pending"]) == (7, 0)
    assert seen["likesite_oldest_pending_like_age_seconds"] == 0
    assert (seen["likesite_flush_posts_count"], seen["likesite_flush_posts_sum"]) == (1, 1)
    assert seen["likesite_flush_seconds_sum"] > 0
    assert {"likesite_unknown_outcomes_total", "likesite_open_streams"} <= seen.keys()


def test_metrics_tell_what_they_can_while_servers_are_away(client: Client, redis: Server, postgres: Server) -> None:
    redis.kill()
    seen = metrics(client)
    assert (seen["likesite_up/redis"], seen["likesite_up/database"]) == (0, 1)
    assert "likesite_likes_persisted_total" in seen
    assert "likesite_likes_accepted_total" not in seen
    redis.start()
    postgres.kill()
    seen = metrics(client)
    assert (seen["likesite_up/redis"], seen["likesite_up/database"]) == (1, 0)
    assert "likesite_likes_accepted_total" in seen
    assert "likesite_open_streams" in seen


def test_metrics_of_several_web_processes_are_added_up_and_the_killed_forgotten(process: type[Process]) -> None:
    shared = {"PROMETHEUS_MULTIPROC_DIR": str(servers.folder("metrics"))}
    one, two = Web(process, **shared).start(), Web(process, **shared).start()
    streams = [requests.get(f"http://127.0.0.1:{web.port}/events", stream=True, timeout=10) for web in (one, two)]
    eventually(lambda: open_streams(one) == 2, "both streams are seen")
    assert open_streams(two) == 2
    two.process.kill()
    eventually(lambda: open_streams(one) == 1, "the stream of the killed process is gone")
    for stream in streams:
        stream.close()
    eventually(lambda: open_streams(one) == 0, "no stream is open")


def open_streams(web: Web) -> float:
    """Return the streams that one web process knows of."""
    return scraped(requests.get(f"http://127.0.0.1:{web.port}/metrics", timeout=10).text)["likesite_open_streams"]


def test_a_process_that_somebody_else_owns_is_alive() -> None:
    assert is_alive(os.getpid())
    assert is_alive(1)
