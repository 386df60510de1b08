"""The servers under test: likesite as its supervisor starts it, and django-eventstream's view under the same uvicorn.

Starts and measures processes; knows nothing of what they are sent.
"""

from __future__ import annotations

import http.client
import os
import time
from dataclasses import dataclass

import psutil

from likesite.embedded import BROKER
from likesite.machine.plan import Machine, Program, read_settings
from tests.servers import Process, eventually, folder, free_port, valkey

OURS = "likesite.asgi:application"
PEER = "bench.peers.eventstream_django.asgi:application"
START_SECONDS = 60.0
STREAMS = "20000"  # LIKES_STREAMS: more than any run opens


@dataclass(frozen=True)
class Look:
    """What a process had used at one moment: seconds of the clock and of CPU, bytes of its own, threads."""

    at: float
    cpu: float
    memory: int
    threads: int


class Web:
    """One web process on a port of its own."""

    def __init__(self, machine: Machine, application: str) -> None:
        program = named(machine, "web")
        own = {OURS: application, "likesite.protocol:Protocol": "auto"} if application != OURS else {}
        command = [own.get(part, part) for part in program.command]
        peer = {} if application == OURS else {"DJANGO_SETTINGS_MODULE": "bench.peers.eventstream_django.settings"}
        self.port = int(machine.settings["PORT"])
        self._process = start(machine, program, command, **peer)
        eventually(self._answers, f"{application} answers", START_SECONDS)
        assert self._process.popen is not None
        self._seen = psutil.Process(self._process.popen.pid)

    def _answers(self) -> bool:
        assert self._process.running, self._process.output
        try:
            return bool(self.get("/health"))
        except OSError:
            return False

    def get(self, path: str) -> bytes:
        """Return the body of one answer, whatever its status. Raises OSError, http.client.HTTPException."""
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=10)
        try:
            connection.request("GET", path)
            return connection.getresponse().read()
        finally:
            connection.close()

    def look(self) -> Look:
        """Return what it has used by now."""
        times = self._seen.cpu_times()
        memory = self._seen.memory_full_info().uss
        return Look(time.monotonic(), times.user + times.system, memory, self._seen.num_threads())

    def cpu(self) -> tuple[float, float]:
        """Return the time and the CPU seconds used by now: cheaper than a look, which walks the process' memory."""
        times = self._seen.cpu_times()
        return time.monotonic(), times.user + times.system

    def end(self) -> None:
        """End it, open streams or not."""
        self._process.kill()


class Site:
    """The settings of one deployment, and its worker and beat, which run for as long as the benchmark does."""

    def __init__(self) -> None:
        broker = valkey(**BROKER).server.url.replace("unix://", "redis+socket://")
        os.environ |= {"CELERY_BROKER_URL": broker, "LIKES_STREAMS": STREAMS, "LIKES_DATA_DIR": str(folder("data"))}
        self._machine().run.mkdir()
        for name in ("worker1", "beat"):
            program = named(self._machine(), name)
            start(self._machine(), program, program.command)

    def web(self, application: str) -> Web:
        """Start a web process: OURS or PEER."""
        return Web(self._machine(), application)

    def _machine(self) -> Machine:
        return Machine(read_settings(os.environ | {"PORT": str(free_port())}))


def named(machine: Machine, name: str) -> Program:
    """Return one of the programs that the supervisor would start."""
    return next(program for program in machine.programs(1) if program.name == name)


def start(machine: Machine, program: Program, command: list[str], **environment: str) -> Process:
    """Start a program with the settings of the machine."""
    log = folder(program.name) / "log"
    settings = machine.settings | {"DJANGO_SETTINGS_MODULE": "likesite.settings"} | environment
    return Process(command, log, **settings).start()
