"""The flushers of a deployment: processes that flush shards side by side, as `celery worker --concurrency 2` has them.

Forked as Celery forks its own, before anything is connected. Knows no contender.
"""

from __future__ import annotations

import multiprocessing
import signal
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from multiprocessing.pool import Pool

from django.db import connections

AT_ONCE = 2  # what likesite/machine and compose.yaml start


@contextmanager
def flushers() -> Iterator[Pool]:
    """Yield the processes, that wait for work; they end with the block. Nothing may be connected yet."""
    assert not any(alias.connection for alias in connections.all(initialized_only=True)), "forked too late"
    with multiprocessing.get_context("fork").Pool(AT_ONCE, _leave_signals) as pool:
        yield pool


def _leave_signals() -> None:
    # A terminal's Ctrl-C reaches them too; the benchmark ends them then.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGTERM, signal.SIG_DFL)


def share(pool: Pool, work: Callable[..., object], over: Iterable[object]) -> None:
    """Have the processes do `work` over each, one at a time and in order, and wait until all is done."""
    for _ in pool.imap_unordered(work, over):
        pass
