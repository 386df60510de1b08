"""Starts and ends runs: makes their posts, tells the processes, gathers the reports, has the certificate drawn up.

One a Locust session: in the master, or in the only process. It keeps every run of the session, newest last.
"""

import os
import sys
import time
import uuid
from collections.abc import Callable
from typing import Any

import gevent
from gevent.greenlet import Greenlet
from locust.env import Environment
from locust.runners import Runner

from likesite.loadtest import options
from likesite.loadtest.certificate import Certificate, Verdict
from likesite.loadtest.gathering import LIKE, Gathering, figures
from likesite.loadtest.nodes import Nodes
from likesite.loadtest.notary import Notary
from likesite.loadtest.participant import DRAIN_SECONDS, REPORT
from likesite.loadtest.service import Away, Refused, Service, patiently

BEGIN_SECONDS = 15.0
"""How long a run waits for a service that is away: as it is while a process of it starts again."""
REPORT_SECONDS = DRAIN_SECONDS + 5
"""How long the reports of all processes may take at the end of a run: the drain, and the way."""
FIGURES_SECONDS = 5.0
"""How long workers' statistics may lag behind their reports."""
WATCH_SECONDS = 2.0
"""Between two lines of progress."""


class Organiser:
    """The runs of one Locust session."""

    def __init__(self) -> None:
        self.gatherings: list[Gathering] = []
        self._certifying: list[Greenlet[..., None]] = []

    def attach(self, environment: Environment, runner: Runner) -> None:
        """Follow the session. `quitting` runs its listeners backwards: attached after the runner, this is first."""
        self._environment, self._runner, self._nodes = environment, runner, Nodes(runner)
        runner.register_message(REPORT, self._on_report)
        environment.events.test_start.add_listener(self._on_start)
        environment.events.worker_connect.add_listener(self._on_late_worker)
        environment.events.test_stop.add_listener(self._on_stop)
        environment.events.quitting.add_listener(self._on_quitting)
        environment.events.quit.add_listener(self._on_quit)

    def _options(self) -> Any:
        return self._environment.parsed_options

    def _service(self) -> Service:
        token = os.environ.get("LIKES_API_TOKENS", "").split(",")[0].strip()
        return Service(self._environment.host or "", token or None)

    # A run begins

    def _on_start(self, **_: object) -> None:
        gathering = Gathering(uuid.uuid4().hex[:8], self._options().likes or None)
        self.gatherings.append(gathering)
        try:
            options.check(self._options())
            gathering.posts = [self._make_post(gathering, n + 1) for n in range(self._options().posts)]
        except (ValueError, Away, Refused) as error:
            self._refuse(gathering, f"the run could not begin: {error}")
            return
        gathering.awaited = self._nodes.alive()
        gathering.progress = "running"
        for node, share in gathering.shares():  # before Locust tells the workers to spawn users
            self._nodes.begin(node, gathering.name, gathering.posts, share)
        gevent.spawn(self._watch, gathering)

    def _make_post(self, gathering: Gathering, number: int) -> int:
        title = f"Load run {gathering.name}, post {number}"
        service = self._service()
        return patiently(lambda: service.make_post(title), BEGIN_SECONDS, lambda words: self._say(gathering, words))

    def _refuse(self, gathering: Gathering, why: str) -> None:
        gathering.closed = True
        self._conclude(gathering, Certificate(gathering.name, 0, doubts=[why]))
        gevent.spawn(self._end)  # not from here: the runner is in the middle of starting

    def _on_late_worker(self, client_id: str, **_: object) -> None:
        """A worker that joins a running test takes part, but not in a budget: that is handed out already."""
        gathering = self.gatherings[-1] if self.gatherings else None
        if gathering and gathering.awaited and not gathering.closed:
            gathering.awaited.add(client_id)
            share = None if gathering.budget is None else 0
            self._nodes.begin(client_id, gathering.name, gathering.posts, share)

    def _watch(self, gathering: Gathering) -> None:
        """While a run with a budget goes on: how far it is, and whether anybody is left to finish it."""
        while gathering.budget is not None:
            gevent.sleep(WATCH_SECONDS)
            if gathering.closed:
                return
            done = self._environment.stats.entries.get(LIKE)
            acknowledged = done.num_requests - done.num_failures if done else 0
            _print(f"{acknowledged} of {gathering.budget} likes acknowledged")
            if gathering.missing and gathering.missing <= self._nodes.dead():
                self._end()

    # A run ends

    def _on_report(self, msg: Any, **_: object) -> None:
        gathering = next((g for g in self.gatherings if g.name == msg.data["run"]), None)
        if gathering is None:
            return
        was_missing = bool(gathering.missing)
        gathering.reports[msg.node_id] = msg.data
        if gathering.missing:
            return
        if not gathering.closed:
            gevent.spawn(self._end)  # every budget is used up
        elif gathering.certificate and was_missing:
            self._spawn_certify(gathering)  # it was left undecided for want of this report

    def _end(self) -> None:
        if self._options().headless:
            self._runner.quit()
        else:
            self._runner.stop()

    def _on_stop(self, **_: object) -> None:
        if not self.gatherings or self.gatherings[-1].closed:
            return
        self.gatherings[-1].closed = True
        greenlet = self._spawn_certify(self.gatherings[-1])
        if self._options().headless:  # there the process ends with the run; a web UI stays and shows how far it is
            greenlet.join()
            gevent.spawn(self._runner.quit)  # Locust would stay, idle, when it stopped because its last worker was lost

    def _on_quitting(self, **_: object) -> None:
        if self.gatherings and not self.gatherings[-1].closed:
            self._runner.stop()
        gevent.joinall(self._certifying)

    def _spawn_certify(self, gathering: Gathering) -> "Greenlet[..., None]":
        greenlet = gevent.spawn(self._certify, gathering)
        self._certifying.append(greenlet)
        return greenlet

    def _certify(self, gathering: Gathering) -> None:
        self._collect(gathering)
        certificate = gathering.draft(figures(self._environment.stats))
        notary = Notary(self._service(), lambda words: self._say(gathering, words))
        notary.certify(certificate, gathering.told(), gathering.posts, whole=not gathering.missing)
        self._conclude(gathering, certificate)

    def _collect(self, gathering: Gathering) -> None:
        self._say(gathering, "waiting for likes in flight")
        for node in gathering.awaited:
            self._nodes.close(node, gathering.name)
        _wait(lambda: gathering.missing <= self._nodes.dead(), REPORT_SECONDS)
        _wait(lambda: gathering.figures_are_in(self._environment.stats), FIGURES_SECONDS)

    def _conclude(self, gathering: Gathering, certificate: Certificate) -> None:
        gathering.certificate, gathering.progress = certificate, "certified"
        self._environment.process_exit_code = Verdict.worst(self._verdicts()).value
        if not self._options().headless:
            _print(f"\n{certificate.text()}\n")

    def _verdicts(self) -> list[Verdict]:
        return [gathering.certificate.verdict for gathering in self.gatherings if gathering.certificate]

    def _on_quit(self, **_: object) -> None:
        """Headless: below the tables that Locust prints last."""
        if self._options().headless:
            for gathering in self.gatherings:
                if gathering.certificate:
                    _print(gathering.certificate.text())

    def _say(self, gathering: Gathering, words: str) -> None:
        if words != gathering.progress:
            gathering.progress = words
            _print(f"run {gathering.name}: {words}")


def _print(text: str) -> None:
    """To the console, at once: a pipe would keep it back until the end."""
    sys.stdout.write(text + "\n")
    sys.stdout.flush()


def _wait(condition: Callable[[], bool], seconds: float) -> None:
    """Wait for a condition, at most so long."""
    deadline = time.monotonic() + seconds
    while not condition() and time.monotonic() < deadline:
        gevent.sleep(0.05)
