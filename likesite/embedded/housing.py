"""Where an embedded server may live: folders open to its user, socket paths short enough, binaries within reach.

PostgreSQL refuses to run as root, so under root it runs as somebody else, who may not be able to enter the data folder
or the folder its binaries came in. Must not know which servers there are, nor any setting.
"""

import hashlib
import os
import pwd
import shutil
import stat
from dataclasses import dataclass
from importlib.metadata import version
from importlib.util import find_spec
from pathlib import Path

# sun_path holds 108 bytes with its closing zero; PostgreSQL's own names take 16 of them ("/.s.PGSQL.5432" and the
# ".lock" beside it is a plain file), supervisord binds under a name that is 9 longer for a moment.
LONGEST_SOCKET_FOLDER = 107 - 32
# Not tempfile.gettempdir(): a caller with another TMPDIR has to find the same sockets.
SHORT_FOLDERS = Path("/tmp")  # noqa: S108 - the folders in it are private, and their owner is checked
# The clusters of data folders that are closed to PostgreSQL's user. They hold data, so no temporary folder.
ELSEWHERE = Path("/var/lib/likesite")


class Closed(Exception):
    """A folder cannot be used as it stands; the message names it and says what would help."""


def key(folder: Path) -> str:
    """A short name of a folder, the same in every process and at every start."""
    return hashlib.sha256(os.fsencode(folder.resolve())).hexdigest()[:12]


def unprivileged_user() -> str | None:
    """Who PostgreSQL runs as when we are root, or None when we are not."""
    if os.geteuid() != 0:
        return None
    known = {entry.pw_name for entry in pwd.getpwall()}
    return "postgres" if "postgres" in known else "nobody"


def owner(path: Path) -> str:
    uid = path.stat().st_uid
    try:
        return pwd.getpwuid(uid).pw_name
    except KeyError:
        raise Closed(f"{path} belongs to user id {uid}, who has no name on this machine") from None


def open_to(path: Path, user: str | None) -> bool:
    """Whether `user` can reach `path`: every folder above that exists lets it through. None is ourselves: yes."""
    if user is None:
        return True
    entry = pwd.getpwnam(user)
    groups = set(os.getgrouplist(user, entry.pw_gid))
    folders = [folder for folder in [path, *path.resolve().parents] if folder.is_dir()]
    return all(_may_enter(folder.stat(), entry.pw_uid, groups) for folder in folders)


def _may_enter(status: os.stat_result, uid: int, groups: set[int]) -> bool:
    if status.st_uid == uid:
        return bool(status.st_mode & stat.S_IXUSR)
    if status.st_gid in groups:
        return bool(status.st_mode & stat.S_IXGRP)
    return bool(status.st_mode & stat.S_IXOTH)


def home(folder: Path, user: str | None) -> Path:
    """The folder itself, or its stand-in where `user` can go. Once data is in the stand-in it stays there."""
    elsewhere = ELSEWHERE / key(folder)
    if user is None:
        return folder.resolve()
    if elsewhere.exists():
        return elsewhere
    used = folder.is_dir() and any(folder.iterdir())
    if open_to(folder if used else folder.parent, user):  # an empty one becomes the user's own
        return folder.resolve()
    if used:
        raise Closed(f"{folder} holds data, but user {user} cannot enter it or a folder above it")
    return elsewhere


def socket_folder(folder: Path) -> Path:
    """The folder itself, or a short one that stands for it when a socket's path would be too long."""
    if len(os.fsencode(folder.resolve())) <= LONGEST_SOCKET_FOLDER:
        return folder.resolve()
    return SHORT_FOLDERS / f"likesite-{os.geteuid()}-{key(folder)}"


def make_private(folder: Path, user: str | None = None) -> None:
    """A folder that only `user` (None: we) can enter, and that nobody else has made before us."""
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    uid = os.geteuid() if user is None else pwd.getpwnam(user).pw_uid
    status = folder.lstat()
    if not stat.S_ISDIR(status.st_mode) or status.st_uid not in (uid, os.geteuid()):
        raise Closed(f"{folder} belongs to user id {status.st_uid}, or is no folder: it cannot be trusted")
    if status.st_uid != uid:
        os.chown(folder, uid, -1)
    folder.chmod(0o700)


def make_parents(folder: Path) -> None:
    """The folders above a server's own: open to walk through, whatever the caller's umask, and readable by nobody."""
    for parent in reversed([folder.parent, *folder.parent.parents]):
        if not parent.exists():
            parent.mkdir(exist_ok=True)
            parent.chmod(0o711)


def package_folder(name: str) -> Path:
    """Where an installed package lives, without importing it."""
    spec = find_spec(name)
    if spec is None or not spec.submodule_search_locations:
        raise Closed(f"the package {name} is not installed: pip install -r requirements.txt")
    return Path(spec.submodule_search_locations[0])


@dataclass(frozen=True)
class Wheel:
    """An installed wheel's folders, and the copy of them in `home` for a user who cannot enter where they are."""

    name: str
    folders: tuple[str, ...]
    home: Path

    def root(self, user: str | None) -> Path:
        """The folder that holds the wheel's folders, one that `user` can enter."""
        installed = package_folder(self.folders[0])
        return installed.parent if open_to(installed, user) else self._copy

    def bring_to(self, user: str | None) -> None:
        """Make the copy, when `user` needs one."""
        if self.root(user) != self._copy or self._copy.exists():
            return
        unfinished = self._copy.with_suffix(".unfinished")
        shutil.rmtree(unfinished, ignore_errors=True)
        for name in self.folders:
            source = package_folder(self.folders[0]).with_name(name)
            if source.exists():
                shutil.copytree(source, unfinished / name, ignore=shutil.ignore_patterns("include", "*.a", "*.py*"))
        for path in [unfinished, *unfinished.rglob("*")]:
            path.chmod(0o755)
        unfinished.rename(self._copy)

    @property
    def _copy(self) -> Path:
        return self.home / f"{self.name}-{version(self.name)}"
