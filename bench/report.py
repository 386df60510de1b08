"""How benchmarks speak: aligned tables on the terminal, and docs/benchmarks.md, which only this module writes.

Knows no benchmark, and measures nothing.
"""

from __future__ import annotations

import argparse
import os
import platform
import re
import shlex
import sys
import textwrap
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path

import psutil

PAGE = Path(__file__).resolve().parent.parent / "docs" / "benchmarks.md"
SECTIONS = {"front": "Taking likes", "flush": "Moving them to PostgreSQL", "stream": "Showing them live"}
HEAD = """\
# Benchmarks

Written by `./run.sh bench [front|flush|stream]`, each section by a run of its own; changes by hand are lost. Absolute
figures are those of the machine named with them. Ratios were taken within a run, whose contenders alternate.
"""
NOT_MEASURED = "not measured"


@dataclass(frozen=True)
class Table:
    """What a benchmark found: cells are text already, and the note says what a reader has to know to trust them."""

    title: str
    columns: list[str]
    rows: list[list[str]]
    note: str = ""


@dataclass(frozen=True)
class Target:
    """A figure that was promised: `sign` is ≤ or ≥, `measured` is None when a peer was absent."""

    figure: str
    sign: str
    bound: float
    measured: float | None
    unit: str = ""

    @property
    def met(self) -> str:
        """Return yes, no, or that nobody knows."""
        if self.measured is None:
            return NOT_MEASURED
        fits = self.measured <= self.bound if self.sign == "≤" else self.measured >= self.bound
        return "yes" if fits else "no"

    def row(self) -> list[str]:
        """Return figure, bound, measured and whether it is met."""
        unit = f" {self.unit}" if self.unit else ""
        measured = NOT_MEASURED if self.measured is None else f"{self.measured:.3g}{unit}"
        return [self.figure, f"{self.sign} {self.bound:g}{unit}", measured, self.met]


def targets(promised: Sequence[Target]) -> Table:
    """Return the table of what was promised and what was measured."""
    return Table("Targets", ["figure", "bound", "measured", "met"], [target.row() for target in promised])


def add_options(parser: argparse.ArgumentParser) -> None:
    """Add the options that every benchmark takes."""
    parser.add_argument("--no-write", action="store_true", help="only print; leave docs/benchmarks.md as it is")


def positive(text: str) -> int:
    """Read a number of rounds or seconds from the command line: 1 or more."""
    if not text.isdecimal() or int(text) < 1:
        raise argparse.ArgumentTypeError(f"must be a whole number, 1 or more, not {text!r}")
    return int(text)


def packages(*names: str) -> dict[str, str]:
    """Return the versions of Python and of these installed packages, for `publish`."""
    return {"Python": platform.python_version()} | {name: version(name) for name in names}


def publish(section: str, tables: Sequence[Table], *, versions: Mapping[str, str], write: bool = True) -> None:
    """Print the tables and, with `write`, make them the section of docs/benchmarks.md; the others stay as they are."""
    for table in tables:
        print(f"\n{as_text(table)}", flush=True)
    if not write:
        return
    known = sections(PAGE.read_text() if PAGE.exists() else "")
    known[section] = as_section(section, tables, versions)
    PAGE.write_text("\n".join([HEAD, *(known[name] for name in SECTIONS if name in known)]))


def sections(page: str) -> dict[str, str]:
    """Return the sections of a page with their markers, by name."""
    found = re.finditer(r"<!-- (\w+) -->\n.*?<!-- /\1 -->\n", page, re.DOTALL)
    return {section[1]: section[0] for section in found}


def as_section(section: str, tables: Sequence[Table], versions: Mapping[str, str]) -> str:
    """Return a section as Markdown: where it was measured, then the tables."""
    command = shlex.join(["./run.sh", "bench", section, *sys.argv[1:]])
    used = ", ".join(f"{name} {number}" for name, number in versions.items())
    parts = [
        f"<!-- {section} -->\n## {SECTIONS[section]}",
        wrapped(f"`{command}`, {datetime.now(UTC):%Y-%m-%d}. {machine()}. {used}."),
        *(as_markdown(table) for table in tables),
        f"<!-- /{section} -->\n",
    ]
    return "\n\n".join(parts)


def machine() -> str:
    """Return what this machine is; its name is nobody's business."""
    memory = psutil.virtual_memory().total / 2**30
    kernel = platform.release().partition("-")[0]
    return f"{processor()}, {os.cpu_count()} cores, {memory:.0f} GiB, {platform.system()} {kernel}"


def processor() -> str:
    """Return the model of the processor."""
    info = Path("/proc/cpuinfo")
    found = re.search(r"^model name\s*: (.*)$", info.read_text(), re.MULTILINE) if info.exists() else None
    return found[1] if found else platform.processor() or platform.machine()


def as_text(table: Table) -> str:
    """Return a table with aligned columns: the first to the left, numbers to the right."""
    lines = [table.columns, *table.rows]
    widths = [max(len(line[column]) for line in lines) for column in range(len(table.columns))]
    aligned = [
        "  ".join(cell.rjust(width) if column else cell.ljust(width) for column, (cell, width) in enumerate(cells))
        for cells in ([*zip(line, widths, strict=True)] for line in lines)
    ]
    return "\n".join(part for part in [table.title, *aligned, wrapped(table.note)] if part)


def as_markdown(table: Table) -> str:
    """Return a table as Markdown."""
    rule = ["---", *["--:"] * (len(table.columns) - 1)]
    lines = [f"| {' | '.join(cells)} |" for cells in [table.columns, rule, *table.rows]]
    return "\n\n".join(part for part in [f"### {table.title}", "\n".join(lines), wrapped(table.note)] if part)


def wrapped(text: str) -> str:
    """Return paragraphs of lines as long as those of our other pages."""
    return "\n\n".join(textwrap.fill(part, 120, break_on_hyphens=False) for part in text.split("\n\n"))
