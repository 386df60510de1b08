"""What judges the suite is judged itself: which runs prove that a mutant was noticed, and what one leaves behind."""

from __future__ import annotations

import sys

import psutil
import pytest

from likesite.machine import launch
from tests.mutants import MUTANTS, Run
from tests.servers import eventually, folder
from tests.stack import Start

TEST = "tests/test_books.py::test_one"


@pytest.mark.parametrize(
    ("code", "output", "noticed"),
    [
        (1, f"FAILED {TEST} - assert 1 == 2", True),
        (1, f"FAILED {TEST}[a case] - assert 1 == 2", True),
        (1, f"ERROR {TEST} - AssertionError: never happened within 60 s", False),
        (1, f"ERROR {TEST} - assert 1 == 0\nFAILED {TEST} - assert 1 == 2", True),
        (1, f"ERROR tests/test_api.py - ImportError\nFAILED {TEST} - assert 1 == 2", False),
        (1, f"FAILED {TEST}_and_another - assert 1 == 2", False),
        (2, f"FAILED {TEST} - KeyboardInterrupt", False),
        (0, "1 passed", False),
    ],
)
def test_only_the_failure_of_its_own_test_shows_that_a_mutant_was_noticed(
    code: int, output: str, noticed: bool
) -> None:
    assert Run(code, 1.0, f"F\n{output}\n").failed(TEST) == noticed


def test_a_run_that_is_told_to_end_leaves_no_process_behind(process: Start) -> None:
    command = [sys.executable, "-m", "tests.mutants", MUTANTS[0].name]
    mutants = process(command, folder("mutants") / "log").start()
    assert mutants.popen is not None
    us = psutil.Process(mutants.popen.pid)
    found: list[psutil.Process] = []

    def served() -> bool:
        found[:] = us.children(recursive=True)
        return any("valkey-server" in name(one) for one in found)

    eventually(served, "a run has started its servers", 60)
    assert mutants.stop(timeout=60) != 0
    assert not launch.wait_gone(found, timeout=30)


def name(one: psutil.Process) -> str:
    try:
        return one.name()
    except psutil.NoSuchProcess:
        return ""
