"""What travels from a flush to the streams, and what else may be found on that wire."""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator
from typing import Any

import pytest
from django.test import override_settings
from redis import Redis

from likes import events
from tests.servers import Server

Messages = Iterator[bytes]


@pytest.fixture
def wire(redis: Server) -> Iterator[Messages]:
    """What is published on django-eventstream's channel."""
    with Redis.from_url(redis.server.url, socket_timeout=30) as client, client.pubsub() as pubsub:
        pubsub.subscribe(events.WIRE)
        heard = pubsub.listen()
        assert next(heard)["type"] == "subscribe"
        yield (message["data"] for message in heard)


def envelope(data: Any, channel: str = "likes:likes", kind: str = "message") -> str:
    return json.dumps({"channel": channel, "event_type": kind, "data": json.dumps(data), "pub_id": None})


def update(**other: Any) -> dict[str, Any]:
    """What is told of one post, as it travels, but for some of its columns."""
    return {"posts": [1], "totals": [2], "versions": [3], "added": [4]} | other


def test_an_announcement_arrives_as_it_was_made(wire: Messages) -> None:
    told = {1: (10, 17, 4), 2: (2**60, 16, -5)}
    events.announce(told)
    assert events.parse(next(wire)) == events.Update(told)


def test_it_is_in_the_format_of_django_eventstream(wire: Messages) -> None:
    events.announce({1: (10, 17, 4)})
    told = json.loads(next(wire))
    assert told.keys() == {"channel", "event_type", "data", "pub_id"}
    assert (told["channel"], told["event_type"]) == ("likes:likes", "message")
    assert json.loads(told["data"]) == {"posts": [1], "totals": [10], "versions": [17], "added": [4]}


def test_deployments_on_one_server_do_not_hear_each_other(wire: Messages) -> None:
    with override_settings(LIKES_PREFIX="mine"):
        events.announce({1: (10, 17, 4)})
        events.announce_pipeline("acked", posts=1)
        mine = [next(wire), next(wire)]
        assert None not in [events.parse(raw) for raw in mine]
    assert [events.parse(raw) for raw in mine] == [None, None]


def test_many_posts_travel_in_several_messages_and_none_is_lost(wire: Messages) -> None:
    told = {post: (post * 10, 5, 1) for post in range(1, 2_502)}
    events.announce(told)
    arrived = [events.parse(next(wire)) for _ in range(3)]
    assert all(isinstance(update, events.Update) and len(update.posts) <= 1_000 for update in arrived)
    assert {post: this for update in arrived for post, this in update.posts.items()} == told  # type: ignore[union-attr]


def test_a_step_of_the_pipeline_arrives_as_one_line_of_json(wire: Messages) -> None:
    events.announce_pipeline("acked", posts=2, likes=7, milliseconds=1.5, persisted={1: 3, 2: 4})
    step = events.parse(next(wire))
    assert isinstance(step, events.PipelineUpdate)
    assert "\n" not in step.text
    assert json.loads(step.text) == {
        "stage": "acked", "posts": 2, "likes": 7, "milliseconds": 1.5, "persisted": {"1": 3, "2": 4},
    }  # fmt: skip


def test_announcing_keeps_no_thread(wire: Messages) -> None:
    events.announce({1: (1, 1, 1)})
    before = threading.active_count()
    for version in range(2, 12):
        events.announce({1: (version, version, 1)})
    assert threading.active_count() == before


def test_an_announcement_that_nobody_answers_is_not_sent_again(redis: Server) -> None:
    with Redis.from_url(redis.server.url, socket_timeout=30) as client:
        events.announce({1: (1, 1, 1)})
        client.config_resetstat()
        redis.freeze()
        with pytest.raises(events.Unheard):
            events.announce({1: (2, 2, 1)})
        redis.thaw()
        assert client.info("commandstats")["cmdstat_publish"]["calls"] == 1


GARBAGE = {
    "not text": b"\xff\xfe",
    "no JSON": "hello",
    "no object": "[1, 2]",
    "an empty object": "{}",
    "nothing": "",
    "deep nesting": "[" * 100_000,
    "a channel that is no text": json.dumps({"channel": {}, "event_type": "message", "data": "{}"}),
    "data that is no text": json.dumps({"channel": "likes:likes", "event_type": "message", "data": {"version": 1}}),
    "data that is no JSON": json.dumps({"channel": "likes:likes", "event_type": "message", "data": "{"}),
    "no members": envelope({}),
    "data that is a list": envelope([1]),
    "posts in an object": envelope(update(posts={"1": 2})),
    "a column that is missing": envelope({"posts": [1], "totals": [2], "versions": [3]}),
    "a column that is shorter": envelope(update(added=[])),
    "a column that is longer": envelope(update(totals=[2, 3])),
    "a total as text": envelope(update(totals=["2"])),
    "a total that is true": envelope(update(totals=[True])),
    "a fractional total": envelope(update(totals=[1.5])),
    "a total in a list": envelope(update(totals=[[2]])),
    "a total beyond PostgreSQL's": envelope(update(totals=[2**63])),
    "growth below PostgreSQL's": envelope(update(added=[-(2**63)])),
    "a version that is null": envelope(update(versions=[None])),
    "a post that is text": envelope(update(posts=["1"])),
    "post 0": envelope(update(posts=[0])),
    "another type of event": envelope(update(), kind="other"),
    "another deployment": envelope(update(), channel="theirs:likes"),
    "a longer prefix": envelope(update(), channel="x-likes:likes"),
    "a step without a stage": envelope({"posts": 1}, channel="likes:pipeline"),
    "a step that is no object": envelope("acked", channel="likes:pipeline"),
    "a step with NaN": envelope({"stage": "acked", "posts": float("nan")}, channel="likes:pipeline"),
}


@pytest.mark.parametrize("raw", GARBAGE.values(), ids=GARBAGE.keys())
def test_what_is_not_ours_is_ignored_quietly(raw: str | bytes, caplog: pytest.LogCaptureFixture) -> None:
    assert events.parse(raw) is None
    assert not caplog.records


def test_members_of_a_later_version_are_ignored() -> None:
    told = envelope(update(later="yes"))
    assert events.parse(told) == events.Update({1: (2, 3, 4)})
