"""The verbs of ./run.sh: parse, act, print. How things start and stop is lifecycle's business."""

import json
import os
import re
import shutil
import subprocess
import sys
import time
from collections.abc import Callable

from likesite import embedded
from likesite.machine import lifecycle
from likesite.machine.lifecycle import ask, find
from likesite.machine.plan import PROJECT, Invalid, Machine
from likesite.machine.supervision import Failed, Supervisor

# What a test run may see of its caller's environment.
TEST_ENVIRONMENT = ("PATH", "HOME", "USER", "LOGNAME", "LANG", "TERM", "TMPDIR", "TZ", "CI", "NO_COLOR")


OLDEST = "likesite_oldest_pending_like_age_seconds"


class Usage(Exception):
    """The arguments do not fit; the message says what would."""


def say(line: str) -> None:
    print(f"likesite: {line}", flush=True)


def no_arguments(arguments: list[str]) -> None:
    if arguments:
        raise Usage(f"unexpected {arguments[0]!r}")


def number(arguments: list[str], default: int | None, lowest: int, name: str) -> int:
    if not arguments and default is not None:
        return default
    if len(arguments) != 1 or not arguments[0].isdecimal() or int(arguments[0]) < lowest:
        raise Usage(f"{name} must be one whole number, {lowest} or more")
    return int(arguments[0])


def running() -> Machine:
    machine = lifecycle.current(os.environ)
    if machine is None:
        raise Failed("nothing is running here: ./run.sh start")
    return machine


def start(arguments: list[str]) -> int:
    no_arguments(arguments)
    machine = lifecycle.start(os.environ, say)
    if (port := os.environ.get("PORT")) and port != machine.settings["PORT"]:
        say(f"it runs already, on PORT {machine.settings['PORT']}: stop it first to move it to {port}")
    print(addresses(machine))
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
    if not machine.run.exists():
        say("nothing is running")
        return 0
    flushed = lifecycle.stop(machine, say)
    say("stopped")
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


def like(arguments: list[str]) -> int:
    post = number(arguments, 1, 1, "ID")
    status, body = ask(running(), f"/api/v1/posts/{post}/like", "POST")
    print(body)
    return 0 if status == 202 else 1


def check(arguments: list[str]) -> int:
    no_arguments(arguments)
    machine, code = running(), 0
    for post in (1, 2, 3):
        status, body = ask(machine, f"/api/v1/posts/{post}/likes")
        if status == 200:
            counts = json.loads(body)
            print("post {post}: {likes} likes, {persisted} persisted, {pending} pending".format(**counts))
        else:
            print(f"post {post}: {status} {body}")
            code = 1
    return code


def scale(arguments: list[str]) -> int:
    workers = number(arguments, None, 0, "N")
    machine = running()
    with lifecycle.locked(machine):
        Supervisor(machine).update(machine.programs(workers))
    say(f"{workers} worker processes")
    return 0


def logs(arguments: list[str]) -> int:
    folder = find(os.environ).run / "logs"
    names = sorted(path.stem for path in folder.glob("*.log"))
    if len(arguments) > 1 or not set(arguments) <= set(names):
        raise Usage(f"logs takes one of: {', '.join(names) or 'none yet'}")
    follow = [str(folder / f"{name}.log") for name in arguments or names]
    if not follow:
        raise Failed("there are no logs yet: ./run.sh start")
    os.execvp("tail", ["tail", "-n", "20", "-F", *follow])


def status(arguments: list[str]) -> int:
    no_arguments(arguments)
    machine = lifecycle.current(os.environ)
    if machine is None or not Supervisor(machine).answers():
        say("not running")
        return 3  # as in LSB init scripts
    for name, state in Supervisor(machine).states().items():
        up = f"pid {state['pid']:<8} up {int(time.time() - state['start'])} s" if state["pid"] else ""
        print(f"  {name:10} {state['statename']:9} {up}")
    print(f"  oldest like not persisted: {_oldest(machine)}")
    print(f"  ready: {lifecycle.complaint(machine) or 'yes'}")
    return 0


def _oldest(machine: Machine) -> str:
    try:
        _, metrics = ask(machine, "/metrics")
    except Failed as failure:
        return f"unknown: {failure}"
    found = re.search(rf"^{OLDEST} (\S+)$", metrics, re.MULTILINE)
    return f"{float(found[1]):.1f} s" if found else "unknown: Redis is away"


def manage(arguments: list[str]) -> int:
    machine = find(os.environ)
    embedded.make_secrets(machine.data)
    os.execve(sys.executable, [sys.executable, "manage.py", *arguments], machine.environment(os.environ))


def test(arguments: list[str]) -> int:
    likes = number(arguments, 1000, 1, "N")
    running()
    return manage(["loadtest", str(likes)])


def reset(arguments: list[str]) -> int:
    running()
    return manage(["reset_likes", *arguments])


def env(arguments: list[str]) -> int:
    no_arguments(arguments)
    for name, value in sorted(find(os.environ).settings.items()):
        if name != "SECRET_KEY":
            print(f"{name}={value}")
    return 0


def pytest(arguments: list[str]) -> int:
    kept = {name: value for name, value in os.environ.items() if name in TEST_ENVIRONMENT or name.startswith("LC_")}
    os.execve(sys.executable, [sys.executable, "-m", "pytest", *arguments], kept)


VERBS: dict[str, Callable[[list[str]], int]] = {
    function.__name__: function
    for function in (start, stop, down, destroy, test, like, check, reset, scale, logs, status, manage, env, pytest)
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
