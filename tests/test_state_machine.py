"""The counting protocol under every order of events that Hypothesis thinks of, on real servers, audited at each step.

`HYPOTHESIS_PROFILE=long` looks for new orders, at length; without it the same ones are tried at every run.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, nullcontext
from datetime import timedelta
from typing import Any
from unittest.mock import patch

import pytest
from django.db import OperationalError, connection
from django.test import override_settings
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    initialize,
    invariant,
    rule,
    run_state_machine_as_test,
)

from likes import audit, books, counts, ledger, tasks
from likes.buffer import buffer, flusher
from likes.ledger import AlreadyFolded, Applied
from likes.models import OrphanedLikes, Post
from likes.values import Batch, Look
from tests import doors
from tests.clients import Clients
from tests.conftest import empty_database
from tests.servers import Server

PROFILES = {
    "ci": settings(max_examples=60, stateful_step_count=40, derandomize=True, database=None),
    "long": settings(max_examples=2_000, stateful_step_count=60),
}
PROFILE = settings(
    PROFILES[os.environ.get("HYPOTHESIS_PROFILE", "ci")],
    deadline=None,
    print_blob=True,
    suppress_health_check=list(HealthCheck),
)

SHARDS = 2  # few, so that posts meet in one
BATCH_POSTS = 2  # fewer than a shard has, so that a drain leaves some behind
RESTARTS = 2  # in one run: each costs as much as twenty steps
DELETES = 2  # in one run: or it ends among the dead
NEVER, AT_ONCE = 3600, 0  # seconds until a batch is adopted: the rule chooses

starting_likes = st.sampled_from([0, 7, 2**53 + 1])  # Lua's numbers end at 2**53
a_number = st.integers(0, 4)
some_numbers = st.lists(a_number, min_size=1, max_size=3, unique=True)
a_key = st.sampled_from(["a", "b"])
an_actor = st.integers(0, 1)  # of two flushers, or two readers
some_steps = st.integers(1, 3)


def a_call(kind: str, numbers: list[int], count: int = 1, key: str | None = None) -> dict[str, Any]:
    return {"kind": kind, "numbers": numbers, "count": count, "key": key}


some_call = st.builds(
    a_call,
    st.sampled_from(["like", "like", "like", "like", "many", "many", "many", "read"]),
    some_numbers,
    st.sampled_from([1, 10_000]),
    st.none() | a_key,
)


def event(weight: int, name: str, **arguments: st.SearchStrategy[object]) -> list[st.SearchStrategy[tuple[str, dict]]]:
    return [st.tuples(st.just(name), st.fixed_dictionaries(arguments)) for _ in range(weight)]


# One rule with weights, and not a rule each: Hypothesis leaves rules out at random, and what is looked for here takes
# a like, a flush, an adjustment and a cold reader together.
EVENTS = st.one_of(
    *event(8, "crowd", calls=st.lists(some_call, min_size=1, max_size=1), through_lane=st.booleans()),
    *event(4, "crowd", calls=st.lists(some_call, min_size=2, max_size=8), through_lane=st.just(True)),
    *event(1, "create", likes=starting_likes),
    *event(
        8,
        "flusher_goes_on",
        actor=an_actor,
        steps=some_steps,
        adopt=st.booleans(),
        row_by_row=st.booleans(),
        commit=st.sampled_from(["succeeds", "succeeds", "fails", "loses its reply"]),
    ),
    *event(1, "flusher_dies", actor=an_actor),
    *event(2, "flush", adopt=st.booleans()),
    *event(6, "reader_goes_on", reader=an_actor, steps=st.integers(1, 2), numbers=some_numbers),
    *event(6, "reset", numbers=some_numbers, settled=st.sampled_from([True, True, False])),
    *event(1, "delete", number=a_number, settled=st.booleans()),
    *event(1, "settle", announced=st.booleans()),
    *event(4, "bases_expire", numbers=some_numbers),
    *event(1, "retain"),
    *event(1, "redis_is_killed"),
)


@contextmanager
def commit_fails(*, after: bool) -> Iterator[None]:
    """Let the COMMIT be reported as failed, `after` or before it happened."""
    commit = connection._commit

    def broken() -> None:
        if after:
            commit()
        raise OperationalError("the connection broke at COMMIT")

    with patch.object(connection, "_commit", broken), pytest.raises(OperationalError):
        yield
    connection.close()


class Protocol(Clients, RuleBasedStateMachine):
    """Two flushers and two cold readers that may stop between any two steps, and all that may happen meanwhile."""

    redis: Server

    def __init__(self) -> None:
        super().__init__()
        self.batches: dict[int, Batch] = {}  # by flusher
        self.applied: dict[int, Applied] = {}
        self.looks: dict[int, dict[int, Look]] = {}  # by reader, by shard
        self.found: dict[int, dict[int, tuple[Look, dict[int, int]]]] = {}
        self.versions = dict.fromkeys(range(SHARDS), 0)
        self.restarts = 0
        self.patches = ExitStack()
        self.patches.enter_context(patch.object(buffer, "shards", SHARDS))
        self.patches.enter_context(patch.object(flusher, "shards", SHARDS))
        self.patches.enter_context(
            override_settings(LIKES_BATCH_POSTS=BATCH_POSTS, LIKES_ADOPT_SECONDS=NEVER, LIKES_DEMO=True)
        )
        self.lane = doors.lane()
        empty_database()
        buffer.client.flushall()
        counts.absent.forget()

    def teardown(self) -> None:
        with self.patches:
            if self.model.posts:
                self.end_quietly()

    def end_quietly(self) -> None:
        """Let everything arrive: then PostgreSQL alone holds the truth."""
        self.settle()
        for _ in range(len(self.model.posts) + SHARDS):  # a batch each, and what was in flight
            self.flush(adopt=True)
        assert flusher.work() == []
        self.audited()
        totals = counts.totals(self.model.posts)
        assert {post: total.persisted for post, total in totals.items()} == self.persisted()
        assert not any(total.pending for total in totals.values())

    @rule(event=EVENTS)
    def happens(self, event: tuple[str, dict[str, object]]) -> None:
        name, arguments = event
        getattr(self, name)(**arguments)

    @initialize(starting=st.lists(starting_likes, min_size=2, max_size=4))
    def begin(self, starting: list[int]) -> None:
        for likes in starting:
            self.create(likes)
        self.crowd([a_call("many", list(range(len(starting))))], through_lane=False)

    # --- Flushers.

    def flusher_goes_on(self, actor: int, steps: int, adopt: bool, row_by_row: bool, commit: str) -> None:
        """Drain, apply or ack: in time, or long after somebody else did it."""
        for _ in range(steps):
            self.flusher_steps(actor, adopt, row_by_row, commit)

    def flusher_steps(self, actor: int, adopt: bool, row_by_row: bool, commit: str) -> None:
        if actor not in self.batches:
            self.drain(actor, adopt)
        elif actor in self.applied:
            self.ack(actor)
        elif commit == "succeeds" or self.batches[actor].id in self.model.folded:
            self.apply(actor, row_by_row)
        else:
            self.apply_in_vain(actor, committed=commit == "loses its reply")

    def drain(self, actor: int, adopt: bool) -> None:
        shard = self.a_busy_shard()
        moving = self.model.moving.get(shard)
        with override_settings(LIKES_ADOPT_SECONDS=AT_ONCE if adopt else NEVER):
            batch = flusher.drain(shard)
        if not isinstance(batch, Batch):
            assert batch == ("idle" if moving is None else "busy")
            assert moving is not None or not self.model.waiting(shard)
            return
        assert batch.durable
        assert batch.adopted == (moving is not None)
        if moving is None:
            self.model.drain(batch)
        else:
            assert (batch.id, batch.likes) == (moving.batch.id, moving.batch.likes)
        self.batches[actor] = batch

    def apply(self, actor: int, row_by_row: bool) -> None:
        batch = self.batches[actor]
        try:
            applied = (ledger.apply_row_by_row if row_by_row else ledger.apply)(batch)
        except AlreadyFolded:
            assert batch.id in self.model.folded
            self.forget(actor)
            return
        assert batch.id not in self.model.folded
        assert applied.repeated != self.model.apply(batch)
        self.applied[actor] = applied

    def apply_in_vain(self, actor: int, committed: bool) -> None:
        with commit_fails(after=committed):
            ledger.apply(self.batches[actor])
        if committed:
            self.model.apply(self.batches[actor])

    def ack(self, actor: int) -> None:
        batch = self.batches[actor]
        acked = flusher.ack(batch, self.applied[actor].totals)
        assert (acked.status == "late") != self.model.ack(batch)
        assert acked.pending == {post: self.model.posts[post].pending for post in batch.likes}
        self.forget(actor)

    def flusher_dies(self, actor: int) -> None:
        """Its batch stays in flight, and another one, or its successor, adopts it."""
        self.forget(actor)

    def flush(self, adopt: bool) -> None:
        """All of it at once, by a third flusher."""
        with override_settings(LIKES_ADOPT_SECONDS=AT_ONCE if adopt else NEVER):
            batch = tasks.flush_batch(self.a_busy_shard())
        if batch is not None:
            if not batch.adopted:
                self.model.drain(batch)
            self.model.apply(batch)
            assert self.model.ack(batch)

    # --- Cold readers, who stop between Redis and PostgreSQL and Redis.

    def reader_goes_on(self, reader: int, steps: int, numbers: list[int]) -> None:
        for _ in range(steps):
            self.reader_steps(reader, numbers)

    def reader_steps(self, reader: int, numbers: list[int]) -> None:
        if reader in self.found:
            found = self.found.pop(reader)
            wanted = {shard: list(bases) for shard, (_, bases) in found.items()}
            self.check_looks(buffer.look(wanted, found))
        elif reader in self.looks:
            cold = {shard: look for shard, look in self.looks.pop(reader).items() if look.missing}
            if cold:
                self.found[reader] = counts._ask_postgres(cold)
        else:
            self.looks[reader] = buffer.look(buffer.by_shard(self.ids(numbers)), {})
            self.check_looks(self.looks[reader])

    # --- Adjustments, and what time and accidents do.

    def reset(self, numbers: list[int], settled: bool) -> None:
        """Both steps of it, or only what PostgreSQL does, the rest being left to a tick."""
        posts = Post.objects.filter(pk__in=self.ids(numbers))
        for changed in books.reset(posts, by="the machine"):
            self.model.reset(changed)
        if settled:
            self.settle()

    def delete(self, number: int, settled: bool) -> None:
        [post] = self.ids([number])
        gone = [known for known, truth in self.model.posts.items() if truth.gone]
        if post not in gone and len(gone) < DELETES:
            Post.objects.get(pk=post).delete()
            self.model.posts[post].gone = True
        if settled:
            self.settle()

    def settle(self, announced: bool = False) -> None:
        """With the announcement lost the posts stay cold; making it warms them."""
        with nullcontext() if announced else patch.object(counts, "announce"):
            counts.settle()
        assert not books.unsettled()
        self.model.settle()

    def bases_expire(self, numbers: list[int]) -> None:
        self.forget_base([post for post in self.ids(numbers) if not self.model.busy(post)])

    def retain(self) -> None:
        """A week later."""
        with patch.object(books, "RETENTION", timedelta(0)):
            tasks.retain()
        self.model.fold()

    def redis_is_killed(self) -> None:
        if self.restarts < RESTARTS:
            self.restarts += 1
            self.redis.restart()

    # --- What holds after every step.

    @invariant()
    def audited(self) -> None:
        taken = audit.take()
        assert taken.exit_code == 0, taken
        assert taken.sums.orphaned == self.model.orphaned == sum(OrphanedLikes.objects.values_list("likes", flat=True))
        assert dict(Post.objects.values_list("pk", "likes")) == self.persisted()

    @invariant()
    def a_reader_sees_exactly_what_was_accepted(self) -> None:
        """Leaves cold what was cold: or no cold reader would ever find anything to store."""
        posts = list(self.model.posts)
        if not posts:
            return
        bases = dict(zip(posts, buffer.client.mget([self.base(post) for post in posts]), strict=True))
        totals = counts.totals(posts)
        self.model.check_shown({post: total.likes for post, total in totals.items()}, posts)
        for post, total in totals.items():
            shard = buffer.shard(post)
            assert total.version >= self.versions[shard]
            self.versions[shard] = total.version
        self.forget_base([post for post in posts if bases[post] is None])

    @invariant()
    def a_base_expires_only_while_no_likes_of_its_post_are_on_their_way(self) -> None:
        for post in self.model.posts:
            seconds = buffer.client.ttl(self.base(post))  # -2: no base, -1: no expiry
            assert seconds == -2 or (seconds == -1) == self.model.busy(post)

    # --- Helpers.

    def base(self, post: int) -> str:
        return buffer.key(buffer.shard(post), f"base:{post}")

    def forget_base(self, posts: list[int]) -> None:
        counts.absent.forget()
        if posts:
            buffer.client.delete(*(self.base(post) for post in posts))

    def forget(self, actor: int) -> None:
        self.batches.pop(actor, None)
        self.applied.pop(actor, None)

    def a_busy_shard(self) -> int:
        return (flusher.work() or [0])[-1]

    def persisted(self) -> dict[int, int]:
        return {post: truth.persisted for post, truth in self.model.posts.items() if not truth.gone}

    def check_looks(self, looks: dict[int, Look]) -> None:
        for look in looks.values():
            self.model.check_shown({post: total.likes for post, total in look.totals.items()}, look.totals)


@pytest.mark.timeout(0 if os.environ.get("HYPOTHESIS_PROFILE") else 180)
def test_every_like_is_counted_once_in_any_order_of_events(redis: Server) -> None:
    Protocol.redis = redis
    run_state_machine_as_test(Protocol, settings=PROFILE)
