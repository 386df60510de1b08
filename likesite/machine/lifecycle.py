"""Bringing one machine's likesite up and down, in the order that loses nothing.

Shared by `./run.sh start` and `manage.py up`; knows no verbs and prints through `say` only.
"""

import fcntl
import os
import shutil
import socket
import subprocess
import sys
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

from likesite import embedded
from likesite.embedded import housing
from likesite.machine import service
from likesite.machine.plan import (
    LOOPBACK,
    PROJECT,
    Invalid,
    Machine,
    data_folder,
    is_setting,
    read_settings,
    remembered,
)
from likesite.machine.supervision import SERVERS, Failed, Supervisor

Say = Callable[[str], None]
POINTER = PROJECT / ".data" / "running"  # names the data folder of what runs from this clone
FLUSH_SECONDS = 120.0


def current(environment: Mapping[str, str]) -> Machine | None:
    """The machine that was started and not stopped: of LIKES_DATA_DIR where that is set, else of this clone."""
    if environment.get("LIKES_DATA_DIR") or not POINTER.exists():
        return remembered(data_folder(environment))
    return remembered(Path(POINTER.read_text().strip())) or remembered(data_folder(environment))


def find(environment: Mapping[str, str]) -> Machine:
    """What runs, else what a start in this environment would run."""
    return current(environment) or Machine(read_settings(environment))


@contextmanager
def locked(machine: Machine) -> Iterator[None]:
    """Starts, stops and scalings of one data folder take turns."""
    housing.make_parents(machine.run)
    housing.make_private(machine.run)
    with (machine.run / "lock").open("w") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield


def start(environment: Mapping[str, str], say: Say) -> Machine:
    """Bring everything up and return once it is ready; when it cannot be, Failed or Invalid say why.

    What ran before runs on then; what was started is stopped again. Where everything runs, nothing is done.
    """
    planned = find(environment)
    with locked(planned):
        machine = remembered(planned.data) or planned  # somebody else may have started it while we waited
        if not Supervisor(machine).answers():
            # After a power cut: what it was started with, but for what the caller says now.
            machine = Machine(read_settings({**machine.settings, **environment}))
            _start_anew(machine, Supervisor(machine), say)
        elif Supervisor(machine).stopped():  # an earlier start, or a stop, was cut short
            _bring_up(machine, Supervisor(machine), say)
        else:
            reason = service.complaint(machine)
            say(f"it runs already, and is not ready: {reason}" if reason else "it runs already")
    return machine


def _start_anew(machine: Machine, supervisor: Supervisor, say: Say) -> None:
    try:
        supervisor.clear()
        _prepare(machine, say)
        supervisor.launch(machine.programs(workers=1))
        _bring_up(machine, supervisor, say)
    except BaseException:  # Ctrl-C too: nothing may run on half started
        _take_down(machine, supervisor)
        raise


def _bring_up(machine: Machine, supervisor: Supervisor, say: Say) -> None:
    say("starting PostgreSQL and Valkey" if machine.servers() else "using the servers of the environment")
    supervisor.start([*SERVERS, "locust"])  # it asks nobody, and loads while the database is brought up to date
    for server in machine.servers().values():
        server.wait_ready(service.READY_SECONDS)
    say("bringing the database up to date")
    manage(machine, "bootstrap", timeout=FLUSH_SECONDS)
    say("starting web, worker and beat")
    supervisor.start(supervisor.states())
    service.wait_ready(machine)


def _prepare(machine: Machine, say: Say) -> None:
    check_ports(machine)
    embedded.make_secrets(machine.data)
    for name, server in machine.servers().items():
        if not server.folder.exists():
            say(f"making the data folder of {name}'s server")
        server.prepare()
    shutil.rmtree(machine.run / "metrics", ignore_errors=True)
    (machine.run / "metrics").mkdir()
    machine.remember()
    housing.make_parents(POINTER)
    POINTER.write_text(f"{machine.data}\n")


def stop(machine: Machine, say: Say) -> bool:
    """Stop everything, likes flushed first; whether they were. What was not flushed stays in Redis."""
    with locked(machine):
        supervisor = Supervisor(machine)
        flushed = True
        if supervisor.answers():
            flushed = _wind_down(machine, supervisor, say)
        elif supervisor.alone():
            flushed = _flush(machine, say)
        _take_down(machine, supervisor)
    return flushed


def _wind_down(machine: Machine, supervisor: Supervisor, say: Say) -> bool:
    names = supervisor.states()
    say("stopping web and beat")
    supervisor.stop([name for name in names if name in ("web", "beat", "locust")], timeout=30)
    flushed = _flush(machine, say)
    say("stopping the workers, then the servers")
    supervisor.stop([name for name in names if name not in SERVERS], timeout=60)
    return flushed


def _take_down(machine: Machine, supervisor: Supervisor) -> None:
    if supervisor.answers():
        supervisor.shut_down(timeout=120)
    supervisor.clear()
    (machine.run / "settings.json").unlink(missing_ok=True)
    if POINTER.exists() and POINTER.read_text().strip() == str(machine.data):
        POINTER.unlink()


def _flush(machine: Machine, say: Say) -> bool:
    say("flushing likes")
    try:
        manage(machine, "flush", timeout=FLUSH_SECONDS)
    except Failed as failure:
        say(f"not flushed, kept in Redis: {failure}")
        return False
    return True


def not_taken(environment: Mapping[str, str], machine: Machine) -> list[str]:
    """Return the settings in `environment` that what runs was started without."""
    kept = {"LIKES_DATA_DIR", "ALLOWED_HOSTS"}  # what runs has its own words for these
    given = {name: value for name, value in environment.items() if value and is_setting(name) and name not in kept}
    return sorted(name for name, value in given.items() if machine.settings.get(name) != value)


def manage(machine: Machine, *arguments: str, timeout: float) -> None:
    """Run `manage.py …` with this machine's settings; Failed with its output when it fails or takes too long."""
    try:
        subprocess.run(
            [sys.executable, "manage.py", *arguments], cwd=PROJECT, env=machine.environment(os.environ),
            timeout=timeout, check=True, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True,
        )  # fmt: skip
    except subprocess.CalledProcessError as error:
        raise Failed(f"manage.py {arguments[0]} failed:\n{service.last_lines(error.stdout)}") from error
    except subprocess.TimeoutExpired as error:
        raise Failed(f"manage.py {arguments[0]} did not end within {timeout:g} s") from error


def check_ports(machine: Machine) -> None:
    """Raise Invalid, by name, for a port that another program listens on."""
    for name, host in {"PORT": machine.settings["LIKES_HOST"], "LOCUST_PORT": LOOPBACK}.items():
        port = int(machine.settings[name])
        try:
            family, _, _, _, address = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0]
        except OSError as error:
            raise Invalid(f"LIKES_HOST {host!r} is no address of this machine: {error}") from error
        with socket.socket(family) as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            try:
                probe.bind(address)
            except OSError as error:
                raise Invalid(f"{name} {port} cannot be used ({error.strerror}): set {name} to a free port") from error
