"""./run.sh bench: which benchmarks there are, what they may see, and how their page is kept."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from bench import report
from bench.report import Table, Target
from likesite.machine import console
from tests.servers import ROOT

TABLE = Table("Likes", ["who", "likes/s"], [["lane", "20,000"], ["view", "900"]], "One core.")


def bench(*arguments: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "likesite.machine.console", "bench", *arguments]
    return subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=60, check=False)


def test_the_usage_of_run_sh_names_every_benchmark() -> None:
    line = re.search(r"^  bench .*$", (ROOT / "run.sh").read_text(), re.M)
    assert line
    assert all(name in line[0] for name in report.SECTIONS)


def test_a_benchmark_that_does_not_exist_is_refused_with_those_that_do() -> None:
    refused = bench("nonsense")
    assert refused.returncode == 2
    assert "'nonsense' is none of front, flush, stream" in refused.stderr


def test_help_starts_nothing_and_names_every_benchmark() -> None:
    helped = bench("--help")
    assert helped.returncode == 0
    assert "front|flush|stream" in helped.stdout


def test_a_benchmark_sees_nothing_of_a_service_that_its_caller_works_with(monkeypatch: pytest.MonkeyPatch) -> None:
    called: list[Any] = []
    monkeypatch.setattr(os, "execve", lambda *given: called.extend(given))
    monkeypatch.setenv("LIKES_SHARDS", "3")
    monkeypatch.setenv("REDIS_URL", "redis://elsewhere")
    monkeypatch.setenv("LC_ALL", "C.UTF-8")
    console.VERBS["bench"](["front", "--rounds", "1"])
    _, command, environment = called
    assert command[1:] == ["-m", "bench", "front", "--rounds", "1"]
    assert environment["PATH"] == os.environ["PATH"]
    assert environment["LC_ALL"] == "C.UTF-8"
    assert set(environment) & {"LIKES_SHARDS", "REDIS_URL", "DATABASE_URL", "SECRET_KEY"} == set()


@pytest.fixture
def page(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Where this test's tables are written instead of docs/benchmarks.md."""
    monkeypatch.setattr(report, "PAGE", tmp_path / "benchmarks.md")
    return tmp_path / "benchmarks.md"


def test_a_run_replaces_its_own_section_and_leaves_the_others(page: Path) -> None:
    report.publish("stream", [TABLE], versions={"Python": "3.11.7"})
    report.publish("front", [TABLE], versions={"Python": "3.11.7"})
    streams = report.sections(page.read_text())["stream"]
    report.publish("front", [Table("Other", ["who"], [["nobody"]])], versions={"Valkey": "9.1.2"})
    found = report.sections(page.read_text())
    assert list(found) == ["front", "stream"], "in the order of the path of a like"
    assert found["stream"] == streams
    assert "| nobody |" in found["front"]
    assert "Valkey 9.1.2" in found["front"]
    assert "20,000" not in found["front"]


def test_a_run_that_only_prints_leaves_the_page_alone(page: Path, capsys: pytest.CaptureFixture[str]) -> None:
    report.publish("flush", [TABLE], versions={}, write=False)
    assert not page.exists()
    assert capsys.readouterr().out.splitlines()[1:] == [
        "Likes",
        "who   likes/s",
        "lane   20,000",
        "view      900",
        "One core.",
    ]


def test_a_target_says_whether_it_is_met_and_an_absent_peer_meets_none() -> None:
    promised = [
        Target("cost", "≤", 0.28, 0.28),
        Target("rate", "≥", 3.5, 3.49),
        Target("screen", "≤", 100, None, "ms"),
    ]
    assert report.targets(promised).rows == [
        ["cost", "≤ 0.28", "0.28", "yes"],
        ["rate", "≥ 3.5", "3.49", "no"],
        ["screen", "≤ 100 ms", "not measured", "not measured"],
    ]
