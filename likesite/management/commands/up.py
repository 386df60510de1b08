"""`manage.py up`: the whole machine in the foreground, until Ctrl-C. What is done, and how, is lifecycle's business."""

import os
import signal
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from django.core.management.base import BaseCommand, CommandError

from likesite.machine import console, lifecycle
from likesite.machine.plan import Machine
from likesite.machine.supervision import Failed, Supervisor

LOOK_SECONDS = 1.0


class Command(BaseCommand):
    help = "Run every process of likesite here, restarting what dies, until Ctrl-C."
    requires_system_checks: list[str] = []

    def handle(self, *args: Any, **options: Any) -> None:
        # TERM, from a service manager, ends it as Ctrl-C does; a shell starts background jobs with INT ignored.
        for number in (signal.SIGINT, signal.SIGTERM):
            signal.signal(number, signal.default_int_handler)
        try:
            self._run()
        except console.ERRORS as error:
            raise CommandError(str(error)) from error
        except KeyboardInterrupt:
            raise CommandError("given up, everything is stopped", returncode=130) from None

    def _run(self) -> None:
        if (other := lifecycle.current(os.environ)) and Supervisor(other).answers():
            raise CommandError(f"it runs already, in {other.data}: ./run.sh stop")
        machine = lifecycle.start(os.environ, self._say)
        self._say(f"{console.addresses(machine)}\nCtrl-C stops it.")
        try:
            with _logs(machine):
                _watch(Supervisor(machine))
        finally:
            signal.signal(signal.SIGINT, signal.SIG_IGN)  # a second Ctrl-C must not leave half of it running
            flushed = lifecycle.stop(machine, self._say)
        if not flushed:
            raise CommandError("stopped, but not every like was flushed")

    def _say(self, line: str) -> None:
        self.stdout.write(line)
        self.stdout.flush()  # into a log file too, as it happens


def _watch(supervisor: Supervisor) -> None:
    """Return at Ctrl-C; Failed when supervisord, which everything hangs on, is gone."""
    try:
        while supervisor.answers():
            time.sleep(LOOK_SECONDS)
    except KeyboardInterrupt:
        return
    raise Failed("supervisord has died")


@contextmanager
def _logs(machine: Machine) -> Iterator[None]:
    """Show what the programs write, as they write it."""
    files = sorted(str(path) for path in (machine.run / "logs").glob("*.log"))
    # A session of its own: Ctrl-C is for us, who end it.
    follower = subprocess.Popen(["tail", "-q", "-n", "0", "-F", *files], start_new_session=True)
    try:
        yield
    finally:
        follower.terminate()
        follower.wait(timeout=5)
