"""./run.sh and manage.py up on a real machine: what is up stays up, nothing is left behind, nothing is lost."""

from __future__ import annotations

import json
import os
import re
import signal
import socket
import subprocess
import urllib.request
from collections.abc import Callable, Iterator
from pathlib import Path

import psutil
import psycopg2
import pytest
import redis

from tests.clones import Clone, clone
from tests.servers import ROOT, eventually, folder

BACK_SECONDS = 2.0 * 3  # what dies is back within 2 s
PROGRAMS = ("postgres", "valkey", "broker", "worker1", "beat", "web", "locust")


@pytest.fixture(scope="module")
def running() -> Iterator[Clone]:
    """A clone that was started, with three demo posts and a worker."""
    with clone() as made:
        made.start_output = made.must("start")
        yield made


def settings(made: Clone) -> dict[str, str]:
    return dict(line.split("=", 1) for line in made.must("env").splitlines())


def likes(made: Clone) -> list[list[int]]:
    """Likes, persisted and pending of posts 1 to 3, as ./run.sh check prints them."""
    return [[int(number) for number in re.findall(r"\d+", line)[1:]] for line in made.must("check").splitlines()]


def mains(made: Clone) -> list[int]:
    """The first process of each program: those after it come and go with it."""
    return [made.processes(name)[0].pid for name in PROGRAMS]


def persisted(made: Clone) -> Callable[[], bool]:
    return lambda: all(total == kept and not pending for total, kept, pending in likes(made))


def ready(made: Clone) -> bool:
    try:
        with urllib.request.urlopen(f"http://127.0.0.1:{made.environment['PORT']}/ready", timeout=3) as answer:
            return answer.status == 200
    except OSError:
        return False


def test_a_start_says_where_everything_is(running: Clone) -> None:
    password = (running.data / "admin_password").read_text().strip()
    for part in (f":{running.environment['PORT']}/", f":{running.environment['LOCUST_PORT']}/", password, "/api/docs"):
        assert part in running.start_output


def test_secrets_are_for_their_owner_only(running: Clone) -> None:
    for name in ("secret_key", "admin_password", "run/settings.json"):
        assert (running.data / name).stat().st_mode & 0o077 == 0


def test_every_part_is_a_process_that_can_be_told_by_its_command_line(running: Clone) -> None:
    lines = {name: " ".join(running.processes(name)[0].cmdline()) for name in PROGRAMS}
    for name, pattern in {
        "worker1": r"celery .*\bworker\b",
        "beat": r"celery .*\bbeat\b",
        "web": r"uvicorn",
        "valkey": r"valkey-server",
        "postgres": r"postgres -D ",
    }.items():
        assert re.search(pattern, lines[name])


def test_every_part_works_in_the_project_or_in_the_data_folder(running: Clone) -> None:
    for process in running.processes():
        assert Path(process.cwd()).is_relative_to(running.path)


def test_no_server_listens_on_a_port_but_web_and_locust(running: Clone) -> None:
    ports = {
        connection.laddr.port
        for process in running.processes()
        for connection in process.net_connections("inet")
        if connection.status == psutil.CONN_LISTEN
    }
    assert ports == {int(running.environment["PORT"]), int(running.environment["LOCUST_PORT"])}


def test_a_second_start_changes_nothing(running: Clone) -> None:
    before = mains(running)
    assert running.must("start").splitlines()[-5:] == running.start_output.splitlines()[-5:]
    assert mains(running) == before


def test_a_like_is_seen_at_once_and_persisted_soon(running: Clone) -> None:
    before = likes(running)
    assert json.loads(running.must("like", "2")) == {"post": 2, "likes": before[1][0] + 1}
    assert likes(running)[1][0] == before[1][0] + 1
    eventually(persisted(running), "every like is in PostgreSQL")


def test_reset_puts_all_totals_to_zero_and_the_books_still_match(running: Clone) -> None:
    running.must("like")
    running.must("reset")
    assert likes(running) == [[0, 0, 0]] * 3
    running.must("manage", "audit")


@pytest.mark.parametrize("name", PROGRAMS)
def test_what_dies_is_back_however_often(running: Clone, name: str) -> None:
    for _ in range(4):
        before = running.pids(name)
        running.processes(name)[0].kill()
        eventually(lambda: running.pids(name) - before, f"{name} is back", BACK_SECONDS)  # noqa: B023 - called at once
    eventually(lambda: ready(running), "all works again")
    eventually(lambda: len(running.pids("worker1")) == 3, "one worker and its two children, none from before")


def test_scale_starts_and_stops_workers_and_leaves_the_others_alone(running: Clone) -> None:
    first = running.processes("worker1")[0].pid
    running.must("scale", "2")
    eventually(lambda: len(running.pids("worker2")) == 3, "the second worker is there")
    assert first in running.pids("worker1")
    running.must("scale", "0")
    assert not running.pids("worker1") | running.pids("worker2")
    running.must("like", "3")
    assert likes(running)[2][2] > 0, "nobody flushes"
    running.must("scale", "1")
    eventually(persisted(running), "the new worker has flushed")


def test_env_names_servers_that_answer(running: Clone) -> None:
    found = settings(running)
    with psycopg2.connect(found["DATABASE_URL"]) as connection, connection.cursor() as cursor:
        cursor.execute("SELECT count(*) FROM likes_post")
        assert cursor.fetchone() == (3,)
    client = redis.Redis.from_url(found["REDIS_URL"])
    assert client.config_get("appendfsync") == {"appendfsync": "always"}
    assert client.info("memory")["maxmemory_policy"] == "noeviction"


def test_commands_reach_what_runs_whatever_their_environment_says(running: Clone) -> None:
    lies = {"PORT": "1", "DATABASE_URL": "postgres://nobody@127.0.0.1:1/none", "REDIS_URL": "redis://127.0.0.1:1",
            "LIKES_PREFIX": "other", "PGPORT": "1", "PYTHONPATH": "/nowhere"}  # fmt: skip
    assert likes(running)
    assert running.must("check", **lies) == running.must("check")
    running.must("manage", "audit", **lies)


def test_manage_passes_the_exit_code_on(running: Clone) -> None:
    assert running.run("manage", "shell", "-c", "raise SystemExit(7)").returncode == 7


def test_status_names_every_program_with_its_pid_and_the_oldest_like(running: Clone) -> None:
    printed = running.must("status")
    for name in PROGRAMS:
        assert re.search(rf"{name} +RUNNING +pid {running.processes(name)[0].pid}\b", printed)
    assert re.search(r"oldest like not persisted: \d+\.\d s", printed)


def test_more_workers_than_a_machine_can_have_are_refused(running: Clone) -> None:
    result = running.run("scale", "1000")
    assert result.returncode == 2
    assert "N must be at most 64" in result.stderr


def test_a_start_of_what_runs_names_the_settings_that_it_does_not_take(running: Clone) -> None:
    assert "with another LIKES_SHARDS: stop it first" in running.must("start", LIKES_SHARDS="9")


def test_a_shell_can_read_the_settings(running: Clone) -> None:
    printed = running.must("env")
    [url] = [line.partition("=")[2] for line in printed.splitlines() if line.startswith("DATABASE_URL=")]
    read = subprocess.run(
        ["bash", "-c", 'eval "$1"; printf %s "$DATABASE_URL"', "bash", printed],
        capture_output=True, text=True, timeout=30, check=True,
    )  # fmt: skip
    assert read.stdout == url


def test_logs_follows_the_one_that_is_named(running: Clone) -> None:
    with subprocess.Popen(
        ["./run.sh", "logs", "web"], cwd=running.path, env=running.environment, stdout=subprocess.PIPE, text=True
    ) as follower:
        assert follower.stdout is not None
        assert any("Uvicorn" in line for line in follower.stdout)  # it goes on until it is found, or the test is ended
        follower.kill()


def test_a_taken_port_is_named_and_nothing_stays_behind(running: Clone) -> None:
    with clone() as other:
        result = other.run("start", PORT=running.environment["PORT"])
        assert result.returncode == 1
        assert f"PORT {running.environment['PORT']}" in result.stderr
        assert not other.pids()


def test_bad_arguments_are_refused_with_usage(running: Clone) -> None:
    for arguments in (["bogus"], [], ["scale"], ["scale", "-1"], ["like", "one"], ["logs", "nothing"]):
        assert running.run(*arguments).returncode == 2, arguments
    assert "usage" in running.must("help")


def test_a_dead_supervisord_leaves_no_orphans_to_the_next_start(running: Clone) -> None:
    before = running.pids()
    running.must("like")
    running.processes("keeper")[0].kill()
    eventually(lambda: running.run("status").returncode == 3, "status tells")
    running.must("start")
    assert not before & running.pids()
    eventually(persisted(running), "nothing was lost")
    running.must("manage", "audit")


def test_down_flushes_and_keeps_every_like(running: Clone) -> None:
    running.must("reset")
    running.must("scale", "0")
    running.must("like")
    running.must("down")
    assert not running.pids()
    assert not running.run_folder.exists()
    running.bash("./run.sh start | head -n 1")  # whose reader leaves early
    assert likes(running)[0] == [1, 1, 0]


def test_two_stacks_never_touch_each_other_even_in_deep_and_closed_folders(running: Clone) -> None:
    closed = folder("closed")  # for its owner only, which PostgreSQL's user under root is not
    before = mains(running), likes(running)
    with clone(closed / "a folder of 100%" / "/".join(["deep"] * 20) / "likesite") as other:
        other.must("start")
        assert json.loads(other.must("like")) == {"post": 1, "likes": 1}
        eventually(persisted(other), "its worker flushes")
        for url in ("DATABASE_URL", "REDIS_URL"):
            assert settings(other)[url] != settings(running)[url]
        kept = {Path(part) for process in other.processes("postgres") for part in process.cmdline() if "data" in part}
        other.must("destroy", "--yes")
        assert not other.pids()
        assert not other.data.exists()
        assert not any(path.exists() for path in kept)
    assert (mains(running), likes(running)) == before


def test_destroy_asks_first(running: Clone) -> None:
    assert running.run("destroy").returncode == 1
    assert ready(running)


def test_what_does_not_become_ready_is_stopped_and_says_why() -> None:
    with clone() as made, socket.socket() as silent:
        silent.bind(("127.0.0.1", 0))
        result = made.run("start", DATABASE_URL=f"postgres://likes@127.0.0.1:{silent.getsockname()[1]}/likes")
        assert result.returncode == 1
        assert "refused" in result.stderr
        assert not made.pids()


def test_up_runs_the_same_in_the_foreground_until_it_is_told_to_end() -> None:
    with clone() as made:
        log = folder("up") / "log"
        with log.open("w") as output:
            up = subprocess.Popen(made.up(), cwd=made.path, env=made.environment, stdout=output, stderr=output)
        eventually(lambda: "Ctrl-C stops it" in log.read_text() or up.poll() is not None, "it is up", 60)
        assert json.loads(made.must("like")) == {"post": 1, "likes": 1}
        up.send_signal(signal.SIGINT)
        assert up.wait(timeout=60) == 0
        assert not made.pids()
        assert "flushing likes" in log.read_text()


def test_run_sh_is_sound_bash() -> None:
    subprocess.run(["bash", "-n", str(ROOT / "run.sh")], check=True, timeout=10)
    assert os.access(ROOT / "run.sh", os.X_OK)
