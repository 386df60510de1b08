"""Client processes of a benchmark: each takes one JSON command a line on stdin and answers it with one on stdout.

Both ends of that conversation; knows nothing of what is asked.
"""

from __future__ import annotations

import atexit
import json
import os
import select
import subprocess
import sys
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[2]
ANSWER_SECONDS = 180.0  # the longest command opens some thousand streams of a server that is slow to take them


class Helper:
    """A client process, started and ended with the benchmark."""

    def __init__(self, module: str, *arguments: str, **environment: str) -> None:
        self._popen = subprocess.Popen(
            [sys.executable, "-m", module, *arguments],
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, cwd=ROOT, env=os.environ | environment,
        )  # fmt: skip
        atexit.register(self.end)

    def ask(self, do: str, **options: Any) -> Any:
        """Send a command and return its answer. Raises RuntimeError when there is none within ANSWER_SECONDS."""
        assert self._popen.stdin is not None
        assert self._popen.stdout is not None
        self._popen.stdin.write(json.dumps({"do": do} | options) + "\n")
        self._popen.stdin.flush()
        ready, _, _ = select.select([self._popen.stdout], [], [], ANSWER_SECONDS)
        line = self._popen.stdout.readline() if ready else ""
        if not line:
            raise RuntimeError(f"{self._popen.args!r} did not answer {do!r}")
        return json.loads(line)

    def __enter__(self) -> Helper:
        return self

    def __exit__(self, *_: object) -> None:
        self.end()

    def end(self) -> None:
        """Kill it: it holds nothing."""
        self._popen.kill()
        self._popen.wait(20)


def answer(line: str, commands: Mapping[str, Callable[..., Any]]) -> None:
    """Do what a line of stdin asks for, and print what comes of it."""
    asked = json.loads(line)
    print(json.dumps(commands[asked.pop("do")](**asked)), flush=True)


def serve(commands: Mapping[str, Callable[..., Any]]) -> None:
    """Answer until stdin ends."""
    for line in sys.stdin:
        answer(line, commands)


def to_last_core() -> None:
    """Keep the clients off the cores of the server where there are several, and off nothing where there is one."""
    if hasattr(os, "sched_setaffinity"):
        os.sched_setaffinity(0, {max(os.sched_getaffinity(0))})


def cpu_seconds() -> float:
    """Return the CPU time of this process so far."""
    times = os.times()
    return times.user + times.system
