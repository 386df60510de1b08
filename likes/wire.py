"""One round trip to Redis and the honest outcome of it; knows nothing of likes, keys or PostgreSQL."""

from __future__ import annotations

import asyncio
import uuid
from collections.abc import Generator, Sequence
from dataclasses import dataclass
from hashlib import sha1
from pathlib import Path
from typing import Any, Literal, cast

import redis
from hiredis import pack_command
from redis.asyncio import ConnectionPool as AsyncConnectionPool
from redis.asyncio.connection import AbstractConnection
from redis.asyncio.retry import Retry as AsyncRetry
from redis.backoff import NoBackoff
from redis.exceptions import BusyLoadingError, NoScriptError, OutOfMemoryError, ReadOnlyError, RedisError, ResponseError
from redis.exceptions import ConnectionError as RedisConnectionError
from redis.exceptions import TimeoutError as RedisTimeoutError
from redis.retry import Retry

Outcome = Literal["not_applied", "unknown"]
Command = Sequence[str | int]

CONNECT_TIMEOUT = 0.4  # seconds; with REPLY_TIMEOUT below the 1.5 s in which a like without Redis is answered
REPLY_TIMEOUT = 0.9  # seconds
CONNECTIONS = 1_000  # of a process at once; redis-py's own limit, 100, turns likes away when Redis pauses for a moment
RETRY_AFTER = 1  # seconds; a Redis that was killed is back in about that

# How Redis begins the errors with which it turns a call away before running any of it.
REFUSALS = ("OOM ", "READONLY ", "LOADING ", "MISCONF ", "NOREPLICAS ", "MASTERDOWN ", "CLUSTERDOWN ", "BUSY ")


class Unavailable(Exception):
    """A like could not be counted, or nobody knows whether it was: `outcome` says which.

    `retry_after` is in seconds.
    """

    def __init__(self, outcome: Outcome, reason: str) -> None:
        super().__init__(reason)
        self.outcome: Outcome = outcome
        self.retry_after = RETRY_AFTER


class Broken(Exception):
    """A script failed while it ran: a fault of ours, or somebody else's value under one of our keys."""


@dataclass(frozen=True, slots=True)
class Script:
    """A Lua file under likes/lua/, sent by its hash."""

    source: str
    sha: str

    @classmethod
    def load(cls, name: str) -> Script:
        """Read `likes/lua/<name>.lua`; raise FileNotFoundError where there is none."""
        source = (Path(__file__).parent / "lua" / f"{name}.lua").read_text()
        return cls(source, sha1(source.encode(), usedforsecurity=False).hexdigest())


@dataclass(frozen=True, slots=True)
class Call:
    """A script with its keys and arguments."""

    script: Script
    keys: Sequence[str]
    args: Sequence[str | int]


def connect(url: str, reply_timeout: float = REPLY_TIMEOUT) -> redis.Redis:
    """Return a client for counting: it never sends a command twice, or a like whose reply is lost counts double."""
    return redis.Redis.from_url(
        url,
        retry=Retry(NoBackoff(), 0),
        socket_connect_timeout=CONNECT_TIMEOUT,
        socket_timeout=reply_timeout,
        max_connections=CONNECTIONS,
        decode_responses=True,
        protocol=2,  # no handshake: one round trip less on a new connection
        driver_info=None,
    )


def pool(url: str) -> AsyncConnectionPool:
    """Return connections for counting from an event loop, as `connect` has them."""
    return AsyncConnectionPool.from_url(
        url,
        retry=AsyncRetry(NoBackoff(), 0),
        socket_connect_timeout=CONNECT_TIMEOUT,
        socket_timeout=None,  # a whole trip has REPLY_TIMEOUT: a timer for each reply would cost more than reading it
        decode_responses=True,
        protocol=2,
        driver_info=None,
    )


def send(client: redis.Redis, calls: Sequence[Call], *more: Sequence[str | int]) -> list[Any]:
    """Run scripts, then plain commands, in one round trip on one connection, and return their replies in order.

    A script that Redis does not know yet costs a second round trip. A plain command's error is returned in its
    place. Raises Unavailable, `not_applied` where nothing was sent or Redis refused the first script before running
    it, else `unknown`; and Broken.
    """
    trips = _exchange(calls, more)
    try:
        commands = next(trips)
        while True:
            try:
                replies = _round_trip(client, commands)
            except Unavailable as error:
                commands = trips.throw(error)
            else:
                commands = trips.send(replies)
    except StopIteration as end:
        _raise_first_error(end.value[: len(calls)])
        return cast("list[Any]", end.value)


def ask(client: redis.Redis, calls: Sequence[Call], *more: Sequence[str | int]) -> list[Any]:
    """As `send`, for what counts nothing: whatever became of it, the outcome is `not_applied`."""
    try:
        return send(client, calls, *more)
    except Unavailable as error:
        raise Unavailable("not_applied", str(error)) from error


async def send_each(pool: AsyncConnectionPool, calls: Sequence[Call]) -> list[Any]:
    """As `send`, on an event loop; and an error stands in the place of the reply it belongs to, and touches no other.

    Raises Unavailable for what befell all of them.
    """
    trips = _exchange(calls, ())
    try:
        commands = next(trips)
        while True:
            try:
                replies = await _async_round_trip(pool, commands)
            except Unavailable as error:
                commands = trips.throw(error)
            else:
                commands = trips.send(replies)
    except StopIteration as end:
        return [_fault(reply) if isinstance(reply, RedisError) else reply for reply in end.value]


def _fault(error: RedisError) -> Unavailable | Broken:
    return Unavailable("not_applied", f"Redis refuses to count: {error}") if _is_refusal(error) else Broken(str(error))


def _exchange(calls: Sequence[Call], more: Sequence[Command]) -> Generator[list[Command], list[Any], list[Any]]:
    """Yield the commands of one round trip, be sent their replies, and return those of all; knows no connection."""
    evalsha = [("EVALSHA", call.script.sha, len(call.keys), *call.keys, *call.args) for call in calls]
    replies = yield [*evalsha, *more]
    missing = [i for i, reply in enumerate(replies[: len(calls)]) if isinstance(reply, NoScriptError)]
    if not missing:
        return replies
    again = [calls[i] for i in missing]
    commands = [("EVAL", call.script.source, len(call.keys), *call.keys, *call.args) for call in again]
    try:
        second = yield [*commands, *more]
    except Unavailable as error:
        if len(missing) == len(calls):
            raise
        raise Unavailable("unknown", str(error)) from error  # the others ran in the first round trip
    for i, reply in zip(missing, second, strict=False):
        replies[i] = reply
    replies[len(calls) :] = second[len(again) :]
    return replies


def _round_trip(client: redis.Redis, commands: Sequence[Command]) -> list[Any]:
    pipe = client.pipeline(transaction=False)
    try:
        pipe.connection = client.connection_pool.get_connection()
    except (RedisConnectionError, RedisTimeoutError) as error:
        raise _unreachable(error) from error
    for command in commands:
        pipe.execute_command(*command)
    try:
        return list(pipe.execute(raise_on_error=False))
    except BusyLoadingError as error:
        raise Unavailable("not_applied" if len(commands) <= 1 else "unknown", "Redis is loading its data") from error
    except (RedisConnectionError, RedisTimeoutError) as error:
        raise _unanswered(error) from error


async def _async_round_trip(pool: AsyncConnectionPool, commands: Sequence[Command]) -> list[Any]:
    try:
        async with asyncio.timeout(CONNECT_TIMEOUT):  # redis-py's own does not cover its questions after connecting
            connection = await pool.get_connection()
    except (RedisConnectionError, RedisTimeoutError, OSError) as error:
        raise _unreachable(error) from error
    whole = False
    try:
        async with asyncio.timeout(REPLY_TIMEOUT):
            await connection.send_packed_command(b"".join([pack_command(cast(Any, command)) for command in commands]))
            replies = [await _reply(connection) for _ in commands]
        whole = True
        return replies
    except (RedisConnectionError, RedisTimeoutError, OSError) as error:  # OSError: asyncio's TimeoutError is one
        raise _unanswered(error) from error
    finally:
        if not whole:  # what is still to come would be taken for the answer to the next command
            await connection.disconnect(nowait=True)
        await pool.release(connection)


async def _reply(connection: AbstractConnection) -> Any:
    try:
        return await connection.read_response(disconnect_on_error=False)
    except (ResponseError, BusyLoadingError) as error:  # an answer, to this command alone
        return error


def _unreachable(error: Exception) -> Unavailable:
    return Unavailable("not_applied", f"Redis cannot be reached: {error}")


def _unanswered(error: Exception) -> Unavailable:
    return Unavailable("unknown", f"Redis did not answer: {error or type(error).__name__}")


def _raise_first_error(replies: Sequence[Any]) -> None:
    errors = [reply for reply in replies if isinstance(reply, ResponseError)]
    refused = [error for error in errors if _is_refusal(error)]
    if len(refused) < len(errors):
        failed = next(error for error in errors if error not in refused)
        raise Broken(str(failed)) from failed
    if refused:
        outcome: Outcome = "not_applied" if len(refused) == len(replies) else "unknown"
        raise Unavailable(outcome, f"Redis refuses to count: {refused[0]}")


def _is_refusal(error: RedisError) -> bool:
    # redis-py cuts the code off the errors it has classes for; Redis 6.2 wraps the text of one raised in a script.
    text = f"{error} "
    named = isinstance(error, OutOfMemoryError | ReadOnlyError | BusyLoadingError)
    return named or text.startswith(REFUSALS) or any(f"-{code}" in text for code in REFUSALS)


def new_id() -> str:
    """Return a fresh UUID, as text."""
    return str(uuid.uuid4())
