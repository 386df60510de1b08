"""The verbs of ./run.sh that ask what runs and change nothing but a count, and what all verbs parse with."""

import json
import os
import re
import sys
import time

from likesite.machine import lifecycle, service
from likesite.machine.plan import Machine
from likesite.machine.service import ask
from likesite.machine.supervision import Failed, Supervisor

OLDEST = "likesite_oldest_pending_like_age_seconds"
NOT_RUNNING = 3  # the exit code of LSB init scripts


class Usage(Exception):
    """The arguments do not fit; the message says what would."""


def tell(text: str) -> None:
    """Print to whoever reads; that they have left (`… | head`) must not break off what is being done."""
    try:
        print(text, flush=True)
    except BrokenPipeError:
        sys.stdout = open(os.devnull, "w")  # noqa: SIM115 - for the rest of this process


def say(line: str) -> None:
    """Tell how it goes."""
    tell(f"likesite: {line}")


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


def like(arguments: list[str]) -> int:
    post = number(arguments, 1, 1, "ID")
    status, body = ask(running(), f"/api/v1/posts/{post}/like", "POST")
    tell(body)
    return 0 if status == 202 else 1


def check(arguments: list[str]) -> int:
    no_arguments(arguments)
    machine, code = running(), 0
    for post in (1, 2, 3):
        status, body = ask(machine, f"/api/v1/posts/{post}/likes")
        if status == 200:
            counts = json.loads(body)
            tell("post {post}: {likes} likes, {persisted} persisted, {pending} pending".format(**counts))
        else:
            tell(f"post {post}: {status} {body}")
            code = 1
    return code


def logs(arguments: list[str]) -> int:
    folder = lifecycle.find(os.environ).run / "logs"
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
        orphaned = machine is not None and Supervisor(machine).alone()
        say("its supervisord has died and nothing restarts what dies: ./run.sh start" if orphaned else "not running")
        return NOT_RUNNING
    for name, state in Supervisor(machine).states().items():
        up = f"pid {state['pid']:<8} up {int(time.time() - state['start'])} s" if state["pid"] else ""
        tell(f"  {name:10} {state['statename']:9} {up}")
    tell(f"  oldest like not persisted: {_oldest(machine)}")
    tell(f"  ready: {service.complaint(machine) or 'yes'}")
    return 0


def _oldest(machine: Machine) -> str:
    try:
        _, metrics = ask(machine, "/metrics")
    except Failed as failure:
        return f"unknown: {failure}"
    found = re.search(rf"^{OLDEST} (\S+)$", metrics, re.MULTILINE)
    return f"{float(found[1]):.1f} s" if found else "unknown: Redis is away"


def env(arguments: list[str]) -> int:
    no_arguments(arguments)
    for name, value in sorted(lifecycle.find(os.environ).settings.items()):
        if name != "SECRET_KEY":
            tell(f"{name}={value}")
    return 0
