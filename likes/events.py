"""What the streams are told: the only importer of django_eventstream, and the one place that knows its channel.

Sends through `django_eventstream.send_event` and reads its wire format back: JSON with `channel`, `event_type`,
`data` (JSON within JSON) and `pub_id`, published on one Redis channel that all deployments on a server share.
The receiving end is ours, because the package's listener ends for good when Redis is away for some seconds.
Must not know what a total means, who listens, or SQL.
"""

from __future__ import annotations

import json
import logging
from collections.abc import AsyncGenerator, Mapping
from contextlib import aclosing
from dataclasses import dataclass
from typing import Any

from django.conf import settings
from django_eventstream import send_event
from redis.asyncio import Redis
from redis.asyncio.client import PubSub
from redis.asyncio.retry import Retry
from redis.backoff import NoBackoff
from redis.exceptions import RedisError

from likes.ids import MAX_ID, is_post_id

logger = logging.getLogger(__name__)

WIRE = "events_channel"  # django-eventstream's Redis channel; the name is in its source, not in its settings
POSTS_A_MESSAGE = 1_000  # about 40 KB: one message neither fills a subscriber's buffer nor holds up its event loop
COLUMNS = ("posts", "totals", "versions", "added")  # of a message: lists, as they are read and written at C's speed
ANSWER_SECONDS = 2.0  # to connect, and for each reply
QUIET_SECONDS = 5.0  # of silence before Redis is asked whether it is there; as much again, and the connection is dead


Told = tuple[int, int, int]  # live total, its version, how much of it is growth that whoever tells has seen himself


class Unheard(Exception):
    """The streams could not be told; the next flush of the same posts tells them."""


class Disconnected(Exception):
    """The subscription ended: Redis is away, or its connection is dead."""


@dataclass(frozen=True, slots=True)
class Update:
    """What was told of posts. Versions order the totals of one post, whichever process tells them."""

    posts: dict[int, Told]


@dataclass(frozen=True, slots=True)
class PipelineUpdate:
    """One step of one batch; `text` is its JSON, on one line."""

    text: str


def announce(posts: Mapping[int, Told]) -> None:
    """Tell the streams live totals.

    Blocks: never call it on an event loop. Raises Unheard when Redis is away.
    """
    rows = [(post, *told) for post, told in posts.items()]
    for start in range(0, len(rows), POSTS_A_MESSAGE):
        columns = zip(*rows[start : start + POSTS_A_MESSAGE], strict=True)
        _send("likes", dict(zip(COLUMNS, columns, strict=True)))


def announce_pipeline(stage: str, **numbers: float | Mapping[int, int]) -> None:
    """Tell `/events/pipeline` that a batch reached `stage`; `numbers`: shard, posts, likes, milliseconds, persisted.

    Blocks: never call it on an event loop. Raises Unheard when Redis is away.
    """
    _send("pipeline", {"stage": stage, **numbers})


def _send(topic: str, data: Mapping[str, object]) -> None:
    try:
        send_event(_channel(topic), "message", data)
    except RedisError as error:
        raise Unheard(str(error) or type(error).__name__) from error


def _channel(topic: str) -> str:
    return f"{settings.LIKES_PREFIX}:{topic}"


def parse(raw: str | bytes) -> Update | PipelineUpdate | None:
    """Return what one message on the wire says; None for another deployment's and for anything that is not ours."""
    try:
        envelope = json.loads(raw)
        if envelope["event_type"] != "message":
            return None
        if envelope["channel"] == _channel("likes"):
            return _update(json.loads(envelope["data"]))
        if envelope["channel"] == _channel("pipeline"):
            return _pipeline(json.loads(envelope["data"]))
    except (ValueError, TypeError, KeyError, RecursionError) as error:  # anybody may publish on the wire
        logger.debug("ignored a message on %s: %r", WIRE, error)
    return None


def _update(data: Any) -> Update:
    posts, *told = (_numbers(data[column]) for column in COLUMNS)
    if posts and not is_post_id(min(posts)):
        raise ValueError("a post is a number from 1")
    return Update(dict(zip(posts, zip(*told, strict=True), strict=True)))


def _pipeline(data: Any) -> PipelineUpdate:
    if not isinstance(data, dict) or not isinstance(data["stage"], str):
        raise TypeError("a step of the pipeline is an object with a stage")
    return PipelineUpdate(json.dumps(data, allow_nan=False, separators=(",", ":")))


def _numbers(column: Any) -> list[int]:
    if not isinstance(column, list) or set(map(type, column)) - {int}:  # a bool is an int to isinstance
        raise TypeError("a column is a list of whole numbers")
    if column and (max(column) > MAX_ID or min(column) < -MAX_ID):
        raise ValueError("a number is beyond PostgreSQL's")
    return column


async def subscription() -> AsyncGenerator[str | bytes | None, None]:
    """Yield None once subscribed, then each message on the wire, for as long as one connection to Redis lives.

    Raises Disconnected at its end; a connection that is only half open is found out within 2 * QUIET_SECONDS.
    """
    client = Redis.from_url(
        settings.REDIS_URL,
        retry=Retry(NoBackoff(), 0),  # whoever supervises reconnects, and then knows that messages were missed
        socket_connect_timeout=ANSWER_SECONDS,
        socket_timeout=ANSWER_SECONDS,
    )
    try:
        async with client, client.pubsub() as pubsub:
            await pubsub.subscribe(WIRE)
            async with aclosing(_heard(pubsub)) as replies:
                async for reply in replies:
                    if reply["type"] == "subscribe":
                        yield None
                    elif reply["type"] == "message":
                        yield reply["data"]
    except (RedisError, OSError) as error:
        raise Disconnected(str(error) or type(error).__name__) from error


async def _heard(pubsub: PubSub) -> AsyncGenerator[dict[str, Any], None]:
    """Yield whatever Redis says; ask it for a sign of life when it is quiet, and raise TimeoutError without one."""
    asked = False
    while True:
        reply = await pubsub.get_message(timeout=QUIET_SECONDS)
        if reply is not None:
            asked = False
            yield reply
        elif asked:
            raise TimeoutError(f"Redis said nothing for {2 * QUIET_SECONDS:g} s")
        else:
            await pubsub.ping()
            asked = True
