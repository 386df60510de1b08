"""Supervisord and what it keeps alive: its configuration, the calls to it, and the end of what it left behind.

Knows programs by name, folder and signal only; which there are is machine's business.
"""

import http.client
import os
import shlex
import signal
import socket
import subprocess
import sys
import time
import xmlrpc.client
from collections.abc import Collection
from pathlib import Path
from typing import Any

import psutil

from likesite.embedded import housing
from likesite.machine import launch
from likesite.machine.plan import Machine, Program

CALL_SECONDS = 5.0  # supervisord answers within its 0.1 s look
KEEPER = "keeper"  # supervisord's own name among the marked processes
SERVERS = ("postgres", "valkey", "broker")


class Failed(Exception):
    """Something did not start or stop in time; the message names it."""


class _Connection(http.client.HTTPConnection):
    def __init__(self, path: Path) -> None:
        super().__init__("localhost", timeout=CALL_SECONDS)
        self.path = path

    def connect(self) -> None:
        self.sock = socket.socket(socket.AF_UNIX)
        self.sock.settimeout(self.timeout)
        self.sock.connect(str(self.path))


class _Transport(xmlrpc.client.Transport):
    def __init__(self, path: Path) -> None:
        super().__init__()
        self.path = path

    def make_connection(self, host: Any) -> http.client.HTTPConnection:
        return _Connection(self.path)


class Supervisor:
    """The supervisord of one machine's run folder."""

    def __init__(self, machine: Machine) -> None:
        self.machine = machine
        self.run = machine.run
        self.socket = housing.socket_folder(self.run) / "supervisor.sock"
        self.config = self.run / "supervisord.conf"

    def call(self, method: str, *arguments: object) -> Any:
        """Answer of `supervisor.<method>`; OSError where none listens, xmlrpc.client.Fault when it refuses."""
        with xmlrpc.client.ServerProxy("http://localhost", transport=_Transport(self.socket)) as proxy:
            return getattr(proxy.supervisor, method)(*arguments)

    def answers(self) -> bool:
        try:
            return bool(self.call("getState")["statename"] == "RUNNING")
        except (OSError, http.client.HTTPException, xmlrpc.client.Error):
            return False

    def states(self) -> dict[str, dict[str, Any]]:
        """What supervisord knows of each program, by name: statename, pid, start (seconds since 1970)."""
        return {state["name"]: state for state in self.call("getAllProcessInfo")}

    def stopped(self) -> list[str]:
        """Programs that do not run and will not be restarted."""
        return [name for name, state in self.states().items() if state["statename"] in ("STOPPED", "FATAL")]

    def launch(self, programs: list[Program]) -> None:
        """Start supervisord, with none of `programs` started yet. It outlives us and holds none of our files."""
        for folder in {self.run, self.run / "logs", self.socket.parent}:
            housing.make_private(folder)
        self.socket.unlink(missing_ok=True)
        self.write(programs)
        script = Path(__file__).with_name("keeper.py")
        environment = self.machine.environment(os.environ) | {launch.MARK: launch.mark(self.run, KEEPER)}
        with (self.run / "logs" / "keeper.log").open("ab") as log:
            process = subprocess.Popen(
                [sys.executable, "-P", str(script), "-n", "-c", str(self.config)], cwd=self.run, env=environment,
                stdin=subprocess.DEVNULL, stdout=log, stderr=log, start_new_session=True,
            )  # fmt: skip
        self._wait(lambda: self.answers() or process.poll() is not None, "supervisord did not start", 10)
        if process.poll() is not None:
            raise Failed(f"supervisord ended at once; see {self.run / 'logs' / 'keeper.log'}")

    def write(self, programs: list[Program]) -> None:
        """Write its configuration and a description of each program."""
        sections = [_program(self.machine.describe(program), program) for program in programs]
        self.config.write_text("\n".join([_head(self.socket), *sections]))

    def start(self, names: Collection[str]) -> None:
        """Start those of `names` that do not run, in their order."""
        states = self.states()
        for name in names:
            if name in states and states[name]["statename"] not in ("STARTING", "RUNNING"):
                self.call("startProcess", name, False)

    def stop(self, names: Collection[str], timeout: float) -> None:
        """Stop `names` side by side; Failed when one still runs after `timeout` seconds."""
        running = [name for name, state in self.states().items() if name in names and state["pid"]]
        for name in running:
            self.call("stopProcess", name, False)
        self._wait(lambda: not any(self.states()[name]["pid"] for name in running), f"{running} did not stop", timeout)

    def update(self, programs: list[Program]) -> None:
        """Make `programs` all there are: start the new ones, stop and drop those no longer named."""
        self.write(programs)
        [[added, _, removed]] = self.call("reloadConfig")
        self.stop(removed, 60)
        for name in removed:
            self.call("removeProcessGroup", name)
        for name in added:
            self.call("addProcessGroup", name)
        self.start(added)

    def shut_down(self, timeout: float) -> None:
        """Stop all that still runs, the servers last, and supervisord itself."""
        self.call("shutdown")
        self._wait(lambda: not launch.leftovers(self.run, KEEPER), "supervisord did not stop", timeout)

    def alone(self) -> bool:
        """Whether programs run on although their supervisord has died."""
        return not self.answers() and bool(launch.leftovers(self.run))

    def clear(self) -> None:
        """End what runs without a supervisord that answers: programs first, then the servers they write to."""
        launch.end(launch.leftovers(self.run, KEEPER), timeout=5)
        servers = [one for name in SERVERS for one in launch.leftovers(self.run, name)]
        others = [one for one in launch.leftovers(self.run) if one not in servers]
        for group, patience in ((others, 10), (servers, 30)):
            _end_gently(group, patience)

    def _wait(self, done: Any, complaint: str, timeout: float) -> None:
        deadline = time.monotonic() + timeout
        while not done():
            if time.monotonic() > deadline:
                raise Failed(f"{complaint} within {timeout:g} s; see {self.run / 'logs'}")
            time.sleep(0.05)


def _end_gently(processes: list[psutil.Process], patience: float) -> None:
    for process in processes:
        try:
            # INT is PostgreSQL's fast shutdown, and ends everything else as TERM does.
            process.send_signal(signal.SIGINT if "postgres" in process.name() else signal.SIGTERM)
        except psutil.NoSuchProcess:
            continue
    launch.end(launch.wait_gone(processes, patience), timeout=5)


def _head(path: Path) -> str:
    # Paths are relative to the run folder, where supervisord works: it expands some of them twice, a % would end it.
    user = "user=root\n" if os.geteuid() == 0 else ""
    return f"""\
[supervisord]
nodaemon=true
silent=true
{user}logfile=logs/supervisord.log
pidfile=supervisord.pid
childlogdir=logs
logfile_maxbytes=5MB
logfile_backups=1
[unix_http_server]
file={_plain(path)}
chmod=0700
[rpcinterface:supervisor]
supervisor.rpcinterface_factory=supervisor.rpcinterface:make_main_rpcinterface
"""


def _program(description: Path, program: Program) -> str:
    command = [sys.executable, "-P", str(Path(__file__).with_name("launch.py")), str(description)]
    # No startsecs: what is killed young would wait longer each time and be given up in the end. launch.py sees to it
    # that nothing spins.
    return f"""\
[program:{program.name}]
command={_plain(shlex.join(command))}
priority={program.rank}
autostart=false
autorestart=true
startsecs=0
startretries=1000000
stopsignal={program.stop_signal}
stopwaitsecs={program.stop_seconds}
killasgroup=true
redirect_stderr=true
stdout_logfile=logs/{program.name}.log
stdout_logfile_maxbytes=10MB
stdout_logfile_backups=1
"""


def _plain(value: object) -> str:
    return str(value).replace("%", "%%")
