"""Servers and processes of the tests' own: real ones, in temporary folders, stopped by their own process id."""

from __future__ import annotations

import atexit
import os
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

from likesite.embedded import Postgres, Valkey

ROOT = Path(__file__).resolve().parent.parent
START_SECONDS = 60.0  # a deadline for starts; they take a tenth of a second
# What a caller may have set and the tests must not see.
SCRUBBED = (
    "DATABASE_URL",
    "REDIS_URL",
    "CELERY_BROKER_URL",
    "SECRET_KEY",
    "DEBUG",
    "ALLOWED_HOSTS",
    "HOST",
    "PORT",
    "LOCUST_PORT",
    "WEB_WORKERS",
    "CORS_ALLOWED_ORIGINS",
    "CSRF_TRUSTED_ORIGINS",
    "COOKIES_SECURE",
    "BEHIND_TLS_PROXY",
    "LOG_LEVEL",
    "PROMETHEUS_MULTIPROC_DIR",
)


def eventually(condition: Callable[[], object], what: str, timeout: float = 30.0) -> None:
    """Wait until `condition()` is true; fail with `what` after `timeout` seconds."""
    deadline = time.monotonic() + timeout
    while not condition():
        assert time.monotonic() < deadline, f"never happened within {timeout:g} s: {what}"
        time.sleep(0.01)  # between two looks: what is awaited is the condition


def free_port() -> int:
    """Return a TCP port of the loopback that nobody listens on."""
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        port: int = listener.getsockname()[1]
        return port


class Process:
    """A program that runs until `stop` or `kill`; what it prints is in `log`."""

    def __init__(self, command: list[str], log: Path, user: str | None = None, **environment: str) -> None:
        self.command, self.log, self.user = command, log, user
        self.environment = environment
        self.popen: subprocess.Popen[bytes] | None = None
        atexit.register(self.kill)

    def start(self) -> Process:
        assert not self.running, f"{self.command[0]} runs already"
        with self.log.open("ab") as log:
            self.popen = subprocess.Popen(
                self.command, stdin=subprocess.DEVNULL, stdout=log, stderr=log, user=self.user,
                extra_groups=None if self.user is None else [], cwd=ROOT if self.user is None else "/",
                env=os.environ | self.environment, start_new_session=True,
            )  # fmt: skip
        return self

    @property
    def running(self) -> bool:
        return self.popen is not None and self.popen.poll() is None

    @property
    def output(self) -> str:
        return self.log.read_text(errors="replace") if self.log.exists() else ""

    def send(self, number: int) -> None:
        """Send a signal to the program and its children."""
        if self.popen is not None and self.popen.poll() is None:
            os.killpg(self.popen.pid, number)

    def freeze(self) -> None:
        self.send(signal.SIGSTOP)

    def thaw(self) -> None:
        self.send(signal.SIGCONT)

    def stop(self, number: int = signal.SIGTERM, timeout: float = 20.0) -> int:
        """Ask the program to end and return its exit code; the time it may take is in seconds."""
        assert self.popen is not None
        if self.popen.poll() is None:
            self.popen.send_signal(number)
        return self.popen.wait(timeout)

    def kill(self) -> None:
        """End the program and its children as a power cut would."""
        self.send(signal.SIGKILL)
        if self.popen is not None:
            self.popen.wait(20)


class Server(Process):
    """An embedded server, started in a folder of the tests' own."""

    def __init__(self, server: Postgres | Valkey) -> None:
        self.server = server
        server.prepare()
        super().__init__(server.command(), Path(tempfile.mkstemp(suffix=".log", dir=FOLDER)[1]), server.user)

    def start(self) -> Server:
        super().start()
        self.server.wait_ready(START_SECONDS)
        return self

    def restart(self) -> None:
        """Kill it and start it on what it had on disk."""
        self.kill()
        self.start()

    def stop(self, number: int = signal.SIGINT, timeout: float = 20.0) -> int:
        return super().stop(number, timeout)


FOLDER = Path(tempfile.mkdtemp(prefix="likesite-tests-"))
FOLDER.chmod(0o711)  # PostgreSQL runs as another user when we are root, and has to get to its folder
atexit.register(shutil.rmtree, FOLDER, ignore_errors=True)


def folder(name: str) -> Path:
    """Return a new folder of the test run; it goes when the run ends."""
    return Path(tempfile.mkdtemp(prefix=f"{name}-", dir=FOLDER))


def valkey(**options: str) -> Server:
    """Start a Valkey of its own; options are those of valkey.conf."""
    return Server(Valkey(folder("valkey"), **options)).start()


def manage(*arguments: str, **environment: str) -> subprocess.CompletedProcess[str]:
    """Run `manage.py …` to its end and return what it printed."""
    return subprocess.run(
        [sys.executable, "manage.py", *arguments],
        cwd=ROOT,
        env=os.environ | environment,
        capture_output=True,
        text=True,
        stdin=subprocess.DEVNULL,
        timeout=120,
        check=False,
    )


def scrub() -> None:
    """Take out of the environment whatever would point the tests at somebody's running service."""
    for name in list(os.environ):
        if name in SCRUBBED or name.startswith("LIKES_"):
            del os.environ[name]
