"""`python -m bench [NAME] [options]`: one benchmark or all of them, each in a process of its own; measures nothing."""

from __future__ import annotations

import signal
import subprocess
import sys

from bench.report import SECTIONS

USAGE = f"""\
usage: ./run.sh bench [{"|".join(SECTIONS)}] [options]

Runs one benchmark, or all of them in this order; `./run.sh bench NAME --help` lists its options.
They print tables and write them to docs/benchmarks.md."""


def main(arguments: list[str]) -> int:
    """Run what was asked for; return the first exit code that is not 0, or 2 for a name that does not exist."""
    named, options = split(arguments)
    if named == [] and options[:1] in (["-h"], ["--help"]):
        print(USAGE)
        return 0
    if not set(named) <= set(SECTIONS):
        print(f"likesite: bench: {named[0]!r} is none of {', '.join(SECTIONS)}", file=sys.stderr)
        return 2
    return next((code for name in named or SECTIONS if (code := run(name, options))), 0)


def split(arguments: list[str]) -> tuple[list[str], list[str]]:
    """Return the name, if there is one, and the options."""
    if arguments and not arguments[0].startswith("-"):
        return arguments[:1], arguments[1:]
    return [], arguments


def run(name: str, options: list[str]) -> int:
    """Run one benchmark to its end and return its exit code. Asked to end ourselves, we have it end its servers."""
    with subprocess.Popen([sys.executable, "-m", f"bench.{name}", *options]) as process:
        signal.signal(signal.SIGINT, lambda *_: None)  # it has heard a terminal's Ctrl-C itself
        signal.signal(signal.SIGTERM, lambda *_: process.terminate())
        return process.wait()


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
