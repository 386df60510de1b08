"""The verbs of ./run.sh: parse, act, print. How things start and stop is lifecycle's business."""

import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from typing import NoReturn

from likesite import embedded
from likesite.machine import lifecycle
from likesite.machine.asking import Usage, check, env, like, logs, no_arguments, number, running, say, status, tell
from likesite.machine.lifecycle import find
from likesite.machine.plan import PROJECT, Invalid, Machine
from likesite.machine.supervision import Failed, Supervisor

# What a run of tests or benchmarks may see of its caller's environment.
RUN_ENVIRONMENT = ("PATH", "HOME", "USER", "LOGNAME", "LANG", "TERM", "TMPDIR", "TZ", "CI", "NO_COLOR")

MOST_WORKERS = 64  # each is two processes of 100 MB


def start(arguments: list[str]) -> int:
    no_arguments(arguments)
    machine = lifecycle.start(os.environ, say)
    for name in lifecycle.not_taken(os.environ, machine):
        say(f"it runs already, with another {name}: stop it first to change that")
    tell(addresses(machine))
    return 0


def addresses(machine: Machine) -> str:
    password = embedded.secret(machine.data, "admin_password")
    places = {
        "page": f"{machine.base_url}/",
        "API": f"{machine.base_url}/api/docs",
        "admin": f"{machine.base_url}/admin/   user admin, password {password} (as made at the first start)",
        "Locust": f"{machine.locust_url}/",
        "data": str(machine.data),
    }
    return "\n".join(f"  {name:7} {place}" for name, place in places.items())


def stop(arguments: list[str]) -> int:
    no_arguments(arguments)
    return _stop(find(os.environ))


def _stop(machine: Machine) -> int:
    supervisor = Supervisor(machine)
    if not supervisor.answers() and not supervisor.alone():
        say("nothing is running")
    flushed = not machine.run.exists() or lifecycle.stop(machine, say)
    return 0 if flushed else 1


def down(arguments: list[str]) -> int:
    no_arguments(arguments)
    return _down(find(os.environ))


def _down(machine: Machine) -> int:
    code = _stop(machine)
    for folder in {Supervisor(machine).socket.parent, machine.run}:
        shutil.rmtree(folder, ignore_errors=True)
    return code


def destroy(arguments: list[str]) -> int:
    if arguments not in ([], ["--yes"]):
        raise Usage("destroy takes --yes or nothing")
    machine = find(os.environ)
    if not arguments and not _agreed(f"Delete every like, post and password in {machine.data}? Type yes: "):
        say("nothing deleted")
        return 1
    _down(machine)
    for server in embedded.servers(machine.data).values():
        server.remove()
    for name in embedded.SECRETS:
        (machine.data / name).unlink(missing_ok=True)
    if machine.data.exists() and not any(machine.data.iterdir()):  # a folder of the caller's may hold other things
        machine.data.rmdir()
    say(f"{machine.data} holds nothing of likesite any more")
    return 0


def _agreed(question: str) -> bool:
    try:
        return input(question).strip() == "yes"
    except EOFError:
        return False


def scale(arguments: list[str]) -> int:
    workers = number(arguments, None, 0, "N")
    if workers > MOST_WORKERS:
        raise Usage(f"N must be at most {MOST_WORKERS}: each is a program of its own on this machine")
    machine = running()
    with lifecycle.locked(machine):
        Supervisor(machine).update(machine.programs(workers))
    say(f"{workers} worker processes")
    return 0


def manage(arguments: list[str]) -> int:
    machine = find(os.environ)
    embedded.make_secrets(machine.data)
    os.execve(sys.executable, [sys.executable, "manage.py", *arguments], machine.environment(os.environ))


def test(arguments: list[str]) -> int:
    likes = number(arguments, 1000, 1, "N")
    return manage(["loadtest", str(likes), "--host", running().base_url])


def reset(arguments: list[str]) -> int:
    running()
    return manage(["reset_likes", *arguments])


def pytest(arguments: list[str]) -> int:
    _run_alone("pytest", arguments)


def bench(arguments: list[str]) -> int:
    _run_alone("bench", arguments)


def _run_alone(module: str, arguments: list[str]) -> NoReturn:
    """Become `python -m module …`, which starts servers of its own and must not meet the caller's."""
    kept = {name: value for name, value in os.environ.items() if name in RUN_ENVIRONMENT or name.startswith("LC_")}
    os.execve(sys.executable, [sys.executable, "-m", module, *arguments], kept)


VERBS: dict[str, Callable[[list[str]], int]] = {
    verb.__name__: verb
    for verb in (start, stop, down, destroy, test, like, check, reset, scale, logs, status, manage, env, pytest, bench)
}
ERRORS = (Failed, Invalid, embedded.Closed, embedded.NotReady, OSError, subprocess.SubprocessError)


def main(arguments: list[str]) -> int:
    """Run one verb and return its exit code; 2 for a verb or arguments that do not exist."""
    os.chdir(PROJECT)
    verb, *rest = arguments or [""]
    try:
        if verb not in VERBS:
            raise Usage(f"the verbs are {', '.join(VERBS)}")
        return VERBS[verb](rest)
    except Usage as error:
        print(f"likesite: {verb}: {error}", file=sys.stderr)
        return 2
    except ERRORS as error:
        print(f"likesite: {error}", file=sys.stderr)
        return 1


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
