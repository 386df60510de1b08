"""Turn into one program of the machine, after clearing what its last life left behind. Runs as a script.

Supervisord restarts at once whatever ends, so this is where a program that cannot start is kept from spinning. Must
import nothing of likesite: it is part of every restart, and those are promised within 2 s.
"""

import json
import os
import pwd
import resource
import sys
import time
from pathlib import Path

import psutil

MARK = "LIKESITE_PROGRAM"  # in the environment of a program and all its children: "<run folder>:<name>"
QUICK_SECONDS = 1.0  # two starts are at least this far apart: whoever is killed after coming up does not wait
SLOW_SECONDS = 1.9  # …and this far, under the 2 s of the promise, once it looks as if it never comes up
OPEN_FILES = 65_536
PATIENCE = 20  # starts in a row that lived less than SLOW_SECONDS


class Occupied(Exception):
    """Somebody else's PostgreSQL runs on our cluster; the message names its process."""


def mark(run: Path, name: str) -> str:
    return f"{run}:{name}"


def leftovers(run: Path, name: str = "") -> list[psutil.Process]:
    """Processes of the program `name` ("": of any) that still run, ourselves left out."""
    wanted = mark(run, name)
    found = [(one, _mark_of(one)) for one in psutil.process_iter() if one.pid != os.getpid()]
    return [one for one, its in found if its == wanted or (not name and its.startswith(wanted))]


def _mark_of(process: psutil.Process) -> str:
    try:
        return process.environ().get(MARK, "")
    except (psutil.Error, OSError):  # it has ended, or is not ours to look at
        return ""


def clear_cluster(cluster: Path, locks: list[Path]) -> None:
    """Make a PostgreSQL cluster startable: end the backends of a postmaster that was killed, and drop its lock files.

    Killed while it starts it leaves an empty lock, and with a reused process id a full one: PostgreSQL would refuse to
    start beside either, for good.
    """
    inside = _working_in(cluster)
    for process, title in inside:
        if not title.startswith("postgres:"):  # the title of a backend
            raise Occupied(f"process {process.pid} runs PostgreSQL on {cluster}, and no start of ours: end it first")
    end([process for process, _ in inside], timeout=5)
    for lock in locks:
        lock.unlink(missing_ok=True)


def _working_in(cluster: Path) -> list[tuple[psutil.Process, str]]:
    found = []
    for process in psutil.process_iter():
        try:
            if process.name() == "postgres" and process.cwd() == str(cluster):
                found.append((process, process.cmdline()[0]))
        except (psutil.Error, OSError, IndexError):  # it has ended, or is not ours to look at
            continue
    return found


def end(processes: list[psutil.Process], timeout: float) -> None:
    """End `processes` at once and wait until they are gone, at most `timeout` seconds."""
    for process in processes:
        try:
            process.kill()
        except psutil.NoSuchProcess:
            continue
    wait_gone(processes, timeout)


def wait_gone(processes: list[psutil.Process], timeout: float) -> list[psutil.Process]:
    """Wait until `processes` have ended, at most `timeout` seconds, and return those that have not."""
    deadline = time.monotonic() + timeout
    while (alive := [one for one in processes if _lives(one)]) and time.monotonic() < deadline:
        time.sleep(0.02)
    return alive


def _lives(process: psutil.Process) -> bool:
    try:
        # Orphans are their new parent's to collect, and in a container it may never do so.
        return process.is_running() and process.status() != psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return False


def pause(record: Path) -> None:
    """Sleep until the next start is due; `record` keeps when the last was and how many lives in a row were short."""
    last, short = _last_start(record)
    lived = time.time() - last
    short = short + 1 if 0 <= lived < SLOW_SECONDS else 0
    apart = SLOW_SECONDS if short > PATIENCE else QUICK_SECONDS
    if 0 <= lived < apart:
        time.sleep(apart - lived)
    record.write_text(json.dumps([time.time(), short]))


def _last_start(record: Path) -> tuple[float, int]:
    try:
        last, short = json.loads(record.read_text())
        return float(last), int(short)
    except (OSError, ValueError, TypeError):  # none yet, or cut off by a power cut
        return 0.0, 0


def become(user: str) -> None:
    """Give up root for good: `user`, its groups and nothing else."""
    entry = pwd.getpwnam(user)
    os.initgroups(user, entry.pw_gid)
    os.setgid(entry.pw_gid)
    os.setuid(entry.pw_uid)


def raise_file_limit() -> None:
    """Allow as many open files as an unprivileged process may have, within reason: each stream is one."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = OPEN_FILES if hard == resource.RLIM_INFINITY else min(OPEN_FILES, hard)
    if soft != resource.RLIM_INFINITY and soft < wanted:
        resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, hard))


def main(description: Path) -> None:
    """Become the program that the JSON file `description` describes."""
    program = json.loads(description.read_text())
    run, name = description.parent, description.stem
    end(leftovers(run, name), timeout=5)
    if program["cluster"]:
        clear_cluster(Path(program["cluster"]), [Path(lock) for lock in program["locks"]])
    pause(description.with_suffix(".started"))
    os.chdir(program["folder"])
    raise_file_limit()
    if program["user"]:
        become(program["user"])
    os.execve(program["command"][0], program["command"], os.environ | program["variables"] | {MARK: mark(run, name)})


if __name__ == "__main__":
    main(Path(sys.argv[1]))
