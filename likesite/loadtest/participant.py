"""The part of a process that has users: takes a run from the organiser and reports what became of its likes.

A plain `locust` process is participant and organiser in one; Locust then hands it its own messages.
"""

from typing import Any

from locust.env import Environment
from locust.exception import StopUser
from locust.runners import Runner, WorkerRunner

from likesite.loadtest.run import Run

RUN, CLOSE, REPORT = "likes-run", "likes-close", "likes-report"
"""The messages: a run begins (posts and budget) · it ends, report · the report."""
RETRY_SECONDS = 30.0
"""How long a like is sent again while that is safe: longer than a crashed process takes to be back."""
LIKE_SECONDS = 10.0
"""One answer to a like; the service promises its 503 within 1.5 s."""
DRAIN_SECONDS = RETRY_SECONDS + LIKE_SECONDS + 5
"""How long the end of a run waits for likes in flight: their own bounds, and a little."""


class Participant:
    """This process's run, if any."""

    def __init__(self) -> None:
        self._run: Run | None = None

    def attach(self, runner: Runner) -> None:
        """Listen for runs. A worker that is told to quit (or gets Ctrl-C) reports before it goes."""
        self._runner = runner
        runner.register_message(RUN, self._begin)
        # Concurrent: draining takes a while, and the worker's message loop has other messages to read.
        runner.register_message(CLOSE, self._close, concurrent=True)
        if isinstance(runner, WorkerRunner):
            runner.environment.events.quitting.add_listener(self._quit)

    @property
    def run(self) -> Run:
        """What the users work on. Without a run (the service was away when it should have begun) they stop."""
        if self._run is None:
            raise StopUser
        return self._run

    def _begin(self, environment: Environment, msg: Any, **_: object) -> None:
        if self._run is not None and self._run.name == msg.data["run"]:
            return  # a worker that lost its connection is told again
        self._run = Run(msg.data["run"], msg.data["posts"], msg.data["budget"], self._report)
        if self._run.over():  # no likes for this one: more workers than likes, or it came late
            self._report()

    def _close(self, environment: Environment, msg: Any, **_: object) -> None:
        if self._run is not None and self._run.name == msg.data["run"]:
            self._drain_and_report(self._run)

    def _quit(self, **_: object) -> None:
        if self._run is not None and not self._run.closing:
            self._drain_and_report(self._run)

    def _drain_and_report(self, run: Run) -> None:
        run.closing = True
        run.drain(DRAIN_SECONDS)
        self._report()

    def _report(self) -> None:
        self._runner.send_message(REPORT, self.run.report())
