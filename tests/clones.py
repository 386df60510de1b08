"""Copies of the project in temporary folders, each with its own `.venv`, for tests that run `./run.sh` for real."""

from __future__ import annotations

import os
import shutil
import subprocess
import sysconfig
import venv
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import psutil

from likesite.machine import launch
from tests.servers import ROOT, folder, free_port

PARTS = ("likes", "likesite", "manage.py", "run.sh", "locustfile.py", "requirements.txt", "requirements-dev.txt",
         "constraints.txt")  # fmt: skip
# A deadline for whatever ./run.sh does here, in seconds: the promise for a start is 10, times three, on a busy machine.
VERB_SECONDS = 90.0


class Clone:
    """A copy of the project at `path`, and the stack that runs from it."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.data = path / ".data"
        self.run_folder = self.data / "run"
        self.start_output = ""
        self.environment = {"PORT": str(free_port()), "LOCUST_PORT": str(free_port()), "PATH": os.environ["PATH"]}
        path.mkdir(parents=True)
        for part in PARTS:
            source = ROOT / part
            (shutil.copytree if source.is_dir() else shutil.copy2)(source, path / part)
        self._make_venv()

    def _make_venv(self) -> None:
        """Make a `.venv` that finds the packages of the running one, and says that all is installed."""
        venv.create(self.path / ".venv", symlinks=True)
        library = next((self.path / ".venv" / "lib").glob("python3*")) / "site-packages"
        (library / "shared.pth").write_text(sysconfig.get_path("purelib") + "\n")
        stamp = "cat requirements.txt requirements.txt constraints.txt | cksum > .venv/installed-requirements.txt"
        subprocess.run(["bash", "-c", stamp], cwd=self.path, check=True, timeout=10)

    def run(self, *arguments: str, **environment: str) -> subprocess.CompletedProcess[str]:
        """Run `./run.sh …` and read its output to the end, which comes only when no process holds it open."""
        return self._execute(["./run.sh", *arguments], environment)

    def bash(self, line: str) -> None:
        """Run a line of bash, which has to succeed."""
        result = self._execute(["bash", "-c", f"set -o pipefail; {line}"], {})
        assert result.returncode == 0, result.stdout + result.stderr

    def _execute(self, command: list[str], environment: dict[str, str]) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            command,
            cwd=self.path,
            env=self.environment | environment,
            capture_output=True,
            text=True,
            stdin=subprocess.DEVNULL,
            timeout=VERB_SECONDS,
            check=False,
        )

    def must(self, *arguments: str, **environment: str) -> str:
        """Run `./run.sh …`, which has to succeed, and return what it printed."""
        result = self.run(*arguments, **environment)
        assert result.returncode == 0, f"{arguments}: {result.stdout}{result.stderr}"
        return result.stdout

    def up(self) -> list[str]:
        """The command line of `manage.py up` in this clone."""
        return [str(self.path / ".venv" / "bin" / "python"), "manage.py", "up"]

    def processes(self, name: str = "") -> list[psutil.Process]:
        """The processes of one program of the stack, of all of them without a name, the oldest first."""
        return sorted(launch.leftovers(self.run_folder, name), key=lambda one: one.create_time())

    def pids(self, name: str = "") -> set[int]:
        return {process.pid for process in self.processes(name)}


def open_folder(name: str) -> Path:
    """A new folder that everybody may walk through."""
    made = folder(name)
    made.chmod(0o711)
    return made


@contextmanager
def clone(path: Path | None = None) -> Iterator[Clone]:
    """A clone, nothing running in it yet; destroyed at the end, whatever runs by then."""
    made = Clone(path or open_folder("clone") / "likesite")
    try:
        yield made
    finally:
        made.run("destroy", "--yes")
        launch.end(made.processes(), timeout=5)
