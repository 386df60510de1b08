"""What compose.yaml promises, shown on its own commands, environments and health checks."""

from __future__ import annotations

import json
import os
import re
import signal
import stat
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.request import Request, urlopen

import psycopg2
import pytest
import redis

from tests.composition import Composition, awaited, services
from tests.servers import ROOT, folder

ONE_SHOTS = {"secrets", "migrate"}
LIKES = 60


@pytest.fixture(scope="module")
def stack() -> Iterator[Composition]:
    stack = Composition(folder("compose"), {})
    try:
        stack.up()
        yield stack
    finally:
        stack.stop()


def call(stack: Composition, path: str, data: bytes | None = None) -> Any:
    request = Request(f"http://127.0.0.1:{stack.ports['web']}{path}", data, {"Content-Type": "application/json"})
    with urlopen(request, timeout=5) as answer:
        return json.load(answer)


def manage(stack: Composition, *arguments: str) -> str:
    """Run manage.py as `docker compose exec web` does."""
    result = stack.run("web", "python", "manage.py", *arguments)
    assert result.returncode == 0, result.stdout + result.stderr
    return result.stdout


# --- Running.


def test_all_services_come_up_healthy_from_nothing(stack: Composition) -> None:
    long_running = [name for name, service in stack.services.items() if "profiles" not in service]
    assert {name: stack.health(name) for name in long_running if name not in ONE_SHOTS} == dict.fromkeys(
        set(long_running) - ONE_SHOTS, ""
    )


def test_likes_are_exact_with_three_workers_and_one_of_them_killed(stack: Composition) -> None:
    before = call(stack, "/api/v1/posts/1/likes")["likes"]
    victim = stack.start("worker")
    stack.start("worker")
    for number in range(LIKES):
        call(stack, "/api/v1/posts/1/like", b"")
        if number == LIKES // 2:
            os.killpg(victim.pid, signal.SIGKILL)
    counted = awaited(lambda: call(stack, "/api/v1/posts/1/likes"), lambda counted: counted["pending"] == 0)
    assert counted["persisted"] == before + LIKES
    manage(stack, "audit")


def test_migrate_may_run_again(stack: Composition) -> None:
    posts = call(stack, "/api/v1/posts")
    assert stack.run("migrate").returncode == 0
    assert len(call(stack, "/api/v1/posts")["results"]) == len(posts["results"])


def test_admin_may_log_in_with_the_password_that_was_made(stack: Composition) -> None:
    password = (stack.secrets / "admin_password").read_text()
    check = "from django.contrib.auth import authenticate; print(authenticate(username='admin', password='''%s'''))"
    assert manage(stack, "shell", "-v", "0", "-c", check % password).split()[-1] == "admin"


def test_the_database_lets_nobody_in_without_the_password(stack: Composition) -> None:
    address = {"host": "127.0.0.1", "port": stack.ports["db"], "user": "likesite", "dbname": "likesite"}
    with pytest.raises(psycopg2.OperationalError, match="password"):
        psycopg2.connect(**address, passfile="/nowhere", connect_timeout=2)


def test_counters_are_on_disk_before_an_answer_and_never_evicted(stack: Composition) -> None:
    with redis.Redis(port=stack.ports["redis"], socket_timeout=3) as counters:
        found = counters.config_get("appendonly", "appendfsync", "maxmemory-policy", "save")
    assert found == {"appendonly": "yes", "appendfsync": "always", "maxmemory-policy": "noeviction", "save": ""}


def test_the_queue_has_a_memory_limit_of_its_own(stack: Composition) -> None:
    with redis.Redis(port=stack.ports["broker"], socket_timeout=3) as broker:
        found = broker.config_get("maxmemory", "maxmemory-policy")
    assert int(found["maxmemory"]) > 0
    assert found["maxmemory-policy"] == "allkeys-lru"


def test_locust_offers_its_web_ui(stack: Composition) -> None:
    stack.up("load")
    with urlopen(f"http://127.0.0.1:{stack.ports['locust']}/", timeout=5) as page:
        assert b"Locust" in page.read()


# --- Secrets.


def test_secrets_are_made_once_and_are_their_owners(tmp_path: Path) -> None:
    composition = Composition(tmp_path, {})
    made = []
    for _ in range(2):
        assert composition.run("secrets").returncode == 0
        made.append({path.name: path.read_text() for path in composition.secrets.iterdir()})
    assert made[0] == made[1]
    assert set(made[0]) == {"secret_key", "admin_password", "db_password", "pgpass"}
    assert len(set(made[0].values())) == 4
    assert {stat.S_IMODE(path.stat().st_mode) for path in composition.secrets.iterdir()} == {0o600}


GIVEN = {"SECRET_KEY": "key $1", "ADMIN_PASSWORD": "so 'quoted'", "DB_PASSWORD": r"a:b\c"}


def secrets_after(folder: Path, environ: dict[str, str]) -> dict[str, str]:
    """Start the one-shot in this environment and return what is kept then, by the name of its variable."""
    result = Composition(folder, environ).run("secrets")
    assert result.returncode == 0, result.stderr
    return {path.name.upper(): path.read_text() for path in (folder / "secrets").iterdir()}


def test_secrets_of_the_environment_are_taken_at_the_first_start(tmp_path: Path) -> None:
    assert secrets_after(tmp_path, GIVEN) == GIVEN | {"PGPASS": r"*:*:*:*:a\:b\\c"}


def test_passwords_that_the_database_knows_stay_whatever_is_given_later(tmp_path: Path) -> None:
    made = secrets_after(tmp_path, {})
    assert secrets_after(tmp_path, GIVEN) == made | {"SECRET_KEY": GIVEN["SECRET_KEY"]}
    told = Composition(tmp_path, GIVEN).run("secrets").stderr
    assert "admin_password counts at the first start only" in told
    assert "db_password counts at the first start only" in told
    assert secrets_after(tmp_path, {}) == made | {"SECRET_KEY": GIVEN["SECRET_KEY"]}


def test_no_file_of_the_repository_reaches_the_image_unless_it_runs() -> None:
    rules = [line for line in (ROOT / ".dockerignore").read_text().splitlines() if not line.startswith("#")]
    assert rules[0] == "*"
    assert not [rule for rule in rules if rule.startswith(("!.", "!tests"))]


# --- The file.


def test_long_running_services_have_a_health_check_and_come_back_when_they_die() -> None:
    for name, service in services({}).items():
        assert ("healthcheck" in service, service["restart"]) == (
            (False, "no") if name in ONE_SHOTS else (True, "unless-stopped")
        ), name


def test_ports_are_the_callers_and_on_loopback_unless_asked() -> None:
    published = {name: service["ports"] for name, service in services({}).items() if "ports" in service}
    assert all(port.startswith("127.0.0.1:") for ports in published.values() for port in ports)
    moved = services({"PORT": "9000", "LOCUST_PORT": "9001", "BIND": "0.0.0.0"})
    assert (moved["web"]["ports"], moved["locust"]["ports"]) == (["0.0.0.0:9000:8000"], ["127.0.0.1:9001:8089"])


def test_workers_can_be_scaled() -> None:
    assert not {"container_name", "ports", "hostname"} & services({})["worker"].keys()


def test_every_variable_of_the_settings_is_passed_on() -> None:
    read = set(re.findall(r'(?:env\.\w+|number|whole)\(\s*"([A-Z_]+)"', (ROOT / "likesite/settings.py").read_text()))
    own = {"SECRET_KEY", "LIKES_DATA_DIR"}  # kept in the volume of secrets, and that volume
    assert read - own <= services({})["web"]["environment"].keys()


def test_the_example_names_every_variable_that_compose_reads_and_no_other() -> None:
    text = (ROOT / "compose.yaml").read_text()
    read = set(re.findall(r"\$\{(\w+)", text.replace("$${", "")))
    passed = {
        key
        for service in services({}).values()
        for key, value in service.get("environment", {}).items()
        if value is None
    }
    assert set(re.findall(r"^#([A-Z_]+)=", (ROOT / ".env.example").read_text(), re.M)) == read | passed


def test_redis_insight_is_led_to_the_counters() -> None:
    insight = services({})["redisinsight"]
    assert insight["environment"]["RI_REDIS_HOST"] in services({})
    assert insight["profiles"] == ["tools"]


def test_our_processes_have_no_privileges() -> None:
    assert re.findall(r"^USER (\w+)$", (ROOT / "Dockerfile").read_text(), re.M) == ["likesite"]
    for name, service in services({}).items():
        assert "no-new-privileges:true" in service["security_opt"], name
        if service["image"] == "likesite":
            assert (service["read_only"], service["cap_drop"]) == (True, ["ALL"]), name
