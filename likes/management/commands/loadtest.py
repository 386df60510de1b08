"""`manage.py loadtest [N]`: so many likes through the front door, and their certificate. Locust does it."""

from __future__ import annotations

import os
import subprocess
import sys
from argparse import ArgumentTypeError
from typing import Any

from django.conf import settings
from django.core.management.base import BaseCommand, CommandParser


class Command(BaseCommand):
    help = "Send N likes to the running service. Exit 0: the count holds, 1: likes lost or doubled, 2: could not tell."
    requires_system_checks = ()  # it asks the service over HTTP; that may run elsewhere

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument("likes", type=positive, nargs="?", default=1000, help="how many (default 1000)")
        parser.add_argument("--users", type=positive, default=10, help="users at once, readers among them (default 10)")
        parser.add_argument("--keyed", type=float, default=0.5, help="share with an Idempotency-Key (default 0.5)")
        parser.add_argument("--host", help="address of the service (default: the one of PORT on this machine)")

    def handle(self, *args: Any, **options: Any) -> None:
        command = [sys.executable, "-m", "locust", "--locustfile", "locustfile.py", "--headless", "--only-summary"]
        command += ["--loglevel", "WARNING", "--pause", "0", "--spawn-rate", "100"]
        given = {name: options[name] for name in ("likes", "users", "keyed", "host") if options[name] is not None}
        command += [f"--{name}={value}" for name, value in given.items()]
        sys.exit(subprocess.run(command, cwd=settings.BASE_DIR, env=environment(), check=False).returncode)


def environment() -> dict[str, str]:
    """Return ours without Locust's own variables: what they set would be another run than the one asked for."""
    return {name: value for name, value in os.environ.items() if not name.startswith("LOCUST_")}


def positive(text: str) -> int:
    """Parse a whole number from 1."""
    if not text.isdecimal() or int(text) < 1:
        raise ArgumentTypeError(f"must be a whole number from 1, not {text!r}")
    return int(text)
