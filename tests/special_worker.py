"""A Celery app for workers that tests break: `celery -A tests.special_worker worker`.

The product has no switches for this. What is wrong with the worker is in its environment: CRASH_AT names the
boundary of the flush at which it is killed as a power cut would kill it, CRASH_ONCE a file that makes it the only
time, CRASH_WHO whether the whole worker dies or only the child that runs the task; TASK_SECONDS is a shorter hard
time limit; QUEUE is where its tasks, and those they send, wait.
"""

from __future__ import annotations

import os
import signal
from collections.abc import Callable
from pathlib import Path
from typing import Any

import django

from likesite.celery import app

django.setup()

from django.db.backends.base.base import BaseDatabaseWrapper  # noqa: E402  after setup, as Django wants

from likes import books, buffer, ledger  # noqa: E402

__all__ = ["app"]


@app.task(name="tests.touch")
def touch(path: str) -> None:
    """Show that every task sent to this queue before has run."""
    Path(path).touch()


def die() -> None:
    """Be gone, with nothing said to anybody."""
    once = os.environ.get("CRASH_ONCE")
    if once and Path(once).exists():
        return
    if once:
        Path(once).touch()
    if os.environ.get("CRASH_WHO") == "child":
        os.kill(os.getpid(), signal.SIGKILL)
    os.killpg(os.getpgrp(), signal.SIGKILL)


def after(owner: Any, name: str) -> None:
    """Die when the function has done its work and before anybody learns what it returned."""
    real = getattr(owner, name)

    def wrapped(*args: Any, **kwargs: Any) -> Any:
        result = real(*args, **kwargs)
        die()
        return result

    setattr(owner, name, wrapped)


def before(owner: Any, name: str) -> None:
    """Die where the function would be called."""
    real = getattr(owner, name)

    def wrapped(*args: Any, **kwargs: Any) -> Any:
        die()
        return real(*args, **kwargs)

    setattr(owner, name, wrapped)


def after_the_drain_and_before_its_barrier() -> None:
    """Send the drain without the question behind it whether it is on disk, and die."""
    real = buffer.send

    def wrapped(client: Any, calls: Any, *more: Any) -> Any:
        if any(call.script is buffer.DRAIN for call in calls):
            [reply] = real(client, calls)
            if reply[0] == "drained":
                die()
        return real(client, calls, *more)

    buffer.send = wrapped


def around_the_commit(wrap: Callable[[Any, str], None]) -> None:
    """Die at the commit of a batch, and at no other."""
    real = ledger._note_epoch

    def wrapped(*args: Any) -> None:
        real(*args)
        wrap(BaseDatabaseWrapper, "_commit")

    ledger._note_epoch = wrapped


def drained_only() -> None:
    """Die after a drain that moved something; a tick may find a shard idle before."""
    real = buffer.Buffer.drain

    def wrapped(self: buffer.Buffer, shard: int) -> Any:
        batch = real(self, shard)
        if isinstance(batch, buffer.Batch):
            die()
        return batch

    buffer.Buffer.drain = wrapped  # type: ignore[method-assign]  # breaking it is the point


BOUNDARIES: dict[str, Callable[[], None]] = {
    "after the drain": after_the_drain_and_before_its_barrier,
    "after the barrier": drained_only,
    "after the ledger row": lambda: after(ledger, "_enter"),
    "after the lock": lambda: after(ledger, "_lock"),
    "after the update": lambda: after(ledger, "_add"),
    "before the commit": lambda: around_the_commit(before),
    "after the commit": lambda: around_the_commit(after),
    "before the ack": lambda: before(buffer.Buffer, "ack"),
    "after the ack": lambda: after(buffer.Buffer, "ack"),
    "before the settle": lambda: before(buffer.Buffer, "settle"),
    "mid-settle": lambda: after(buffer.Buffer, "settle"),
    "after the settle": lambda: after(books, "settled"),
}

if boundary := os.environ.get("CRASH_AT"):
    BOUNDARIES[boundary]()
if seconds := os.environ.get("TASK_SECONDS"):
    app.conf.task_time_limit = float(seconds)
app.conf.task_default_queue = os.environ.get("QUEUE", "celery")
