"""Looks at the servers behind this process, each in a thread of its own, so that a frozen one cannot hold an answer."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from concurrent.futures import Future, wait
from threading import Lock, Thread
from typing import Any

from django.db import connections

Found = dict[str, Any] | Exception

TIMEOUT = 1.5  # seconds that an answer waits for all looks together


class Probe:
    """One thing to look at; at most one look at a time, so that a frozen server costs one thread and not one a call."""

    def __init__(self, look: Callable[[], dict[str, Any]]) -> None:
        self.look = look
        self._lock = Lock()
        self._latest: Future[dict[str, Any]] | None = None

    def ask(self) -> Future[dict[str, Any]]:
        """Begin a look, or join the one under way."""
        with self._lock:
            if self._latest is None or self._latest.done():
                self._latest = Future()
                # Not an executor's: its threads are waited for at exit, and this one may never end.
                Thread(target=self._run, args=[self._latest], daemon=True).start()
            return self._latest

    def _run(self, future: Future[dict[str, Any]]) -> None:
        try:
            future.set_result(self.look())
        except Exception as error:  # noqa: BLE001 (whatever it is, it is what the look has found)
            future.set_exception(error)
        finally:
            connections.close_all()  # Django keeps one for each thread, and this thread ends


def ask_all(probes: Mapping[str, Probe]) -> dict[str, Found]:
    """Return what each look found, an exception for one that failed or takes longer than TIMEOUT."""
    futures = {name: probe.ask() for name, probe in probes.items()}
    wait(futures.values(), timeout=TIMEOUT)
    return {name: found(future) for name, future in futures.items()}


def found(future: Future[dict[str, Any]]) -> Found:
    """Return what a look found by now."""
    if not future.done():
        return TimeoutError(f"no answer within {TIMEOUT} s")
    error = future.exception()
    if error is None:
        return future.result()
    return error if isinstance(error, Exception) else RuntimeError(repr(error))
