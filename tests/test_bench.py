"""./run.sh bench: which benchmarks there are, what they may see, and how their page is kept."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from bench import contenders, front_tables, report
from bench.load import Outcome
from bench.report import Table, Target
from bench.turns import EXPRESS, LANE, TURNS, Figures, Load, check
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


def test_a_peer_that_is_not_installed_is_named_with_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", "/nowhere")
    monkeypatch.setattr(contenders, "NGINX_PLACES", ())
    with pytest.raises(contenders.Absent, match=r"Node\.js and npm .*apt install nodejs npm"):
        contenders.express()
    with pytest.raises(contenders.Absent, match=r"nginx.*libnginx-mod-http-lua lua-nginx-redis"):
        contenders.nginx()


def test_an_absent_peer_has_a_row_and_no_ratio() -> None:
    turns = [turn for turn in TURNS if turn.who in (LANE, EXPRESS) and turn.load == "hot"]
    found = {(LANE, "hot"): [Figures(20_000, 3, 9, 30, 10, 0, 0)], (EXPRESS, "hot"): []}
    table = front_tables.figures_table(found, {EXPRESS: "Node.js"}, turns, "")
    assert table.rows[0][1:7] == ["20,000", "3.00", "9.00", "30.0", "10.0", "40.0"]
    assert table.rows[1][0] == "Express, INCR: one hot post (absent: needs Node.js)"
    assert front_tables.ratios_table(found, turns, EXPRESS).rows[0] == ["likesite: one hot post", *["-"] * 4]
    assert {target.met for target in front_tables.promised(found)} == {report.NOT_MEASURED}


def test_a_ratio_is_the_median_of_the_ratios_of_the_rounds() -> None:
    ours = [Figures(1, 1, 1, web, 0, 0, 0) for web in (1, 4, 100)]
    theirs = [Figures(1, 1, 1, web, 0, 0, 0) for web in (2, 4, 50)]
    assert front_tables.ratio(ours, theirs, front_tables.FIGURES["CPU"]) == 1


@pytest.mark.parametrize("counted", [299, 309])
def test_a_turn_whose_likes_were_lost_or_doubled_ends_the_benchmark(counted: int) -> None:
    outcome = Outcome(answered=102, refused=2, broken=0, seconds=1, p50=1, p99=1)
    asked = Load("three a request", entries=3, connections=0)
    check(outcome, asked, 300)
    with pytest.raises(RuntimeError, match=f"300 likes were acknowledged and {counted} counted"):
        check(outcome, asked, counted)
