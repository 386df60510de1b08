"""Locust as the tests start it: to the end, or with its web UI. Knows no assertion about certificates."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
import urllib.request
from typing import Any
from urllib.parse import urlencode

from tests.servers import ROOT, Process, eventually, folder, free_port

RUN_SECONDS = 120.0
"""A deadline for a run of a few hundred likes; it takes about 3 s, most of it Python starting."""


def command(port: int, *arguments: str) -> list[str]:
    quick = ["--host", f"http://127.0.0.1:{port}", "--posts", "8", "--pause", "0"]
    return [sys.executable, "-m", "locust", *quick, *arguments]


def locust(port: int, *arguments: str) -> tuple[int, str]:
    """Run headless to the end; answers exit code and what was printed."""
    run = subprocess.run(
        command(port, "--headless", "--only-summary", *arguments), cwd=ROOT, env=environment(), capture_output=True,
        text=True, stdin=subprocess.DEVNULL, timeout=RUN_SECONDS, check=False,
    )  # fmt: skip
    return run.returncode, run.stdout + run.stderr


def environment() -> dict[str, str]:
    return {name: value for name, value in os.environ.items() if not name.startswith("LOCUST_")}


def number(certificate: str, name: str) -> int:
    found = re.search(rf"^  {name} +(\d+)", certificate, re.MULTILINE)
    assert found, certificate
    return int(found[1])


class WebUI:
    """Locust's web UI, as a browser would use it."""

    def __init__(self, process: type[Process], service: int) -> None:
        self.port = free_port()
        place = ["--web-host", "127.0.0.1", "--web-port", str(self.port)]
        self.process = process(command(service, *place), folder("locust") / "log").start()
        eventually(self._answers, "the web UI answers", RUN_SECONDS)

    def _answers(self) -> bool:
        assert self.process.running, self.process.output
        try:
            return bool(self.get("/"))
        except OSError:
            return False

    def get(self, path: str) -> str:
        with urllib.request.urlopen(f"http://127.0.0.1:{self.port}{path}", timeout=10) as answer:
            return str(answer.read().decode())

    def post(self, path: str, **fields: object) -> Any:
        data = urlencode(fields).encode()
        with urllib.request.urlopen(f"http://127.0.0.1:{self.port}{path}", data, timeout=10) as answer:
            return json.load(answer)

    def runs(self) -> list[dict[str, Any]]:
        found: list[dict[str, Any]] = json.loads(self.get("/certificates.json"))
        return found

    def certified(self, runs: int) -> bool:
        return len(self.runs()) == runs and all(run["certificate"] for run in self.runs())
