"""One machine's likesite: its settings, its folders and its programs. Starts nothing; supervision does.

Reads the environment itself: Django's settings cannot be loaded before the first start has made the secrets.
"""

import json
import os
import sys
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path

from likesite import embedded

PROJECT = Path(__file__).resolve().parents[2]
LOOPBACK = "127.0.0.1"
DEFAULTS = {"PORT": "8000", "LOCUST_PORT": "8089", "WEB_WORKERS": "1", "LIKES_HOST": LOOPBACK, "LIKES_DEMO": "on"}
ALLOWED_HOSTS = "localhost,127.0.0.1,[::1]"  # as settings have it
SERVERS = ("DATABASE_URL", "REDIS_URL", "CELERY_BROKER_URL")
DJANGO = ("SECRET_KEY", "DEBUG", "ALLOWED_HOSTS", "CSRF_TRUSTED_ORIGINS", "CORS_ALLOWED_ORIGINS", "COOKIES_SECURE",
          "BEHIND_TLS_PROXY", "LOG_LEVEL")  # fmt: skip
# Variables by which a caller's shell would reach into the programs past our settings.
FOREIGN = ("PG", "LOCUST_", "UVICORN_", "CELERY_", "PYTHON", "DJANGO_SETTINGS_MODULE")
METRICS = "PROMETHEUS_MULTIPROC_DIR"


class Invalid(Exception):
    """A setting cannot be used; the message names it."""


@dataclass(frozen=True)
class Program:
    """What launch.py turns into, and how supervisord ends it."""

    name: str
    command: list[str]
    folder: Path
    rank: int  # they start in this order and end in the reverse
    user: str | None = None
    variables: dict[str, str] = field(default_factory=dict)  # beside those of the whole machine
    cluster: Path | None = None  # PostgreSQL's data folder,
    locks: list[Path] = field(default_factory=list)  # and the files that keep a second one out of it
    stop_signal: str = "TERM"
    stop_seconds: int = 10  # then it is killed


def is_setting(name: str) -> bool:
    return name.startswith("LIKES_") or name in (*DEFAULTS, *SERVERS, *DJANGO)


def data_folder(environment: Mapping[str, str]) -> Path:
    """LIKES_DATA_DIR, resolved from the project's root."""
    return (PROJECT / (environment.get("LIKES_DATA_DIR") or ".data")).resolve()


def read_settings(environment: Mapping[str, str]) -> dict[str, str]:
    """The settings of a start in this environment, the embedded servers' addresses filled in; raises Invalid."""
    given = {name: value for name, value in environment.items() if value and is_setting(name)}
    data = data_folder(environment)
    settings = DEFAULTS | embedded.urls(data) | given | {"LIKES_DATA_DIR": str(data)}
    for name, lowest in {"PORT": 1, "LOCUST_PORT": 1, "WEB_WORKERS": 1}.items():
        highest = 65_535 if name.endswith("PORT") else 64
        if not settings[name].isdecimal() or not lowest <= int(settings[name]) <= highest:
            raise Invalid(f"{name} must be a whole number from {lowest} to {highest}, not {settings[name]!r}")
    if settings["PORT"] == settings["LOCUST_PORT"]:
        raise Invalid(f"PORT and LOCUST_PORT are both {settings['PORT']}: give each its own")
    hosts, own = given.get("ALLOWED_HOSTS", ALLOWED_HOSTS), address(settings["LIKES_HOST"])
    if own not in hosts.split(","):  # our own commands ask the service there
        settings["ALLOWED_HOSTS"] = f"{hosts},{own}"
    return settings


def address(host: str) -> str:
    """Where this machine reaches a server that listens on `host`, as a URL has it."""
    return {"0.0.0.0": LOOPBACK, "::": "[::1]"}.get(host, f"[{host}]" if ":" in host else host)  # noqa: S104


@dataclass(frozen=True)
class Machine:
    """The programs that a set of settings calls for, and where they keep their things."""

    settings: dict[str, str]

    @property
    def data(self) -> Path:
        return Path(self.settings["LIKES_DATA_DIR"])

    @property
    def run(self) -> Path:
        return self.data / "run"

    @property
    def base_url(self) -> str:
        return f"http://{address(self.settings['LIKES_HOST'])}:{self.settings['PORT']}"

    @property
    def locust_url(self) -> str:
        return f"http://{LOOPBACK}:{self.settings['LOCUST_PORT']}"

    def environment(self, base: Mapping[str, str]) -> dict[str, str]:
        """`base` with our settings and none of another likesite's, for programs and commands of this machine."""
        kept = {name: value for name, value in base.items() if not name.startswith(FOREIGN) and not is_setting(name)}
        return kept | self.settings | {"DJANGO_SETTINGS_MODULE": "likesite.settings"}

    def servers(self) -> dict[str, embedded.Postgres | embedded.Valkey]:
        """The embedded servers that run: those whose variable names no other server."""
        own = embedded.urls(self.data)
        found = embedded.servers(self.data)
        return {name: server for name, server in found.items() if self.settings[name] == own[name]}

    def programs(self, workers: int) -> list[Program]:
        """Every program."""
        numbered = [self._worker(number) for number in range(1, workers + 1)]
        return [*self.server_programs(), *numbered, self._beat(), self._web(), self._locust()]

    def server_programs(self) -> list[Program]:
        names = {"DATABASE_URL": "postgres", "REDIS_URL": "valkey", "CELERY_BROKER_URL": "broker"}
        return [
            Program(
                names[variable], server.command(), server.folder, 10, server.user,
                cluster=server.cluster, locks=server.locks, stop_signal=server.stop_signal, stop_seconds=60,
            )
            for variable, server in self.servers().items()
        ]  # fmt: skip

    def _worker(self, number: int) -> Program:
        # Two processes each: one may hang on a frozen server while the other goes on. Gossip and mingle would make
        # every start wait for the others. A task ends within 30 s.
        options = ["--hostname", f"worker{number}@%h", "--concurrency", "2", "--without-gossip", "--without-mingle"]
        command = _python("celery", "-A", "likesite", "worker", *options)
        return Program(f"worker{number}", command, PROJECT, 20, stop_seconds=40)

    def _beat(self) -> Program:
        command = _python("celery", "-A", "likesite", "beat", "--schedule", str(self.run / "beat-schedule"))
        return Program("beat", command, PROJECT, 30)

    def _web(self) -> Program:
        place = ["--host", self.settings["LIKES_HOST"], "--port", self.settings["PORT"]]
        # Seconds: open streams would keep it from ever ending. The access log would cost as much as a like. Nothing
        # here speaks WebSocket, and Django would write a traceback for each stranger who does.
        options = ["--workers", self.settings["WEB_WORKERS"], "--timeout-graceful-shutdown", "3", "--no-access-log"]
        options += ["--ws", "none", "--http", "likesite.protocol:Protocol"]
        command = _python("uvicorn", "likesite.asgi:application", *place, *options)
        # Where several processes put what each has measured, for the one that is asked.
        alone = self.settings["WEB_WORKERS"] == "1"
        return Program("web", command, PROJECT, 40, variables={} if alone else {METRICS: str(self.run / "metrics")})

    def _locust(self) -> Program:
        # It asks nobody for a password and loads any host it is told to: it never leaves the loopback.
        place = ["--web-host", LOOPBACK, "--web-port", self.settings["LOCUST_PORT"]]
        return Program("locust", _python("locust", "-f", "locustfile.py", "--host", self.base_url, *place), PROJECT, 50)

    def remember(self) -> None:
        """Keep these settings for the commands that come while it runs, whatever their environment says."""
        path = self.run / "settings.json"
        with open(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600), "w") as file:
            json.dump(self.settings, file, indent=1)

    def describe(self, program: Program) -> Path:
        """Write what launch.py reads and return the file."""
        path = self.run / f"{program.name}.json"
        path.write_text(json.dumps(asdict(program), default=str, indent=1))
        return path


def remembered(data: Path) -> Machine | None:
    """The machine last started in this data folder and not stopped since."""
    path = data / "run" / "settings.json"
    return Machine(json.loads(path.read_text())) if path.exists() else None


def _python(module: str, *arguments: str) -> list[str]:
    # By module, not by script: the scripts' first lines break when the folder is moved.
    return [sys.executable, "-m", module, *arguments]
