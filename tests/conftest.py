"""The servers that every test runs against, and how they are emptied between tests."""

from __future__ import annotations

import os
import signal
from collections.abc import Iterator

import django
import pytest

from likesite import embedded
from tests import servers
from tests.servers import Process, Server

# TERM ends a run as Ctrl-C does, which ends its servers.
signal.signal(signal.SIGTERM, signal.default_int_handler)
# Django's settings read the environment when they are imported, which the test modules do: so before any of them.
servers.scrub()
POSTGRES = Server(servers.Postgres(servers.folder("postgres"), fsync="off")).start()
REDIS = servers.valkey()
BROKER = servers.valkey(**embedded.BROKER)
os.environ |= {
    "DATABASE_URL": POSTGRES.server.url,
    "REDIS_URL": REDIS.server.url,
    "CELERY_BROKER_URL": BROKER.server.url.replace("unix://", "redis+socket://"),
    "SECRET_KEY": "only-for-tests",
    "LIKES_DATA_DIR": str(servers.folder("data")),
    "ALLOWED_HOSTS": "localhost,127.0.0.1,testserver",
    "DJANGO_SETTINGS_MODULE": "likesite.settings",
}
django.setup()

from django.core.management import call_command  # noqa: E402  after setup, as Django wants
from django.db import connection  # noqa: E402
from django.test.utils import setup_test_environment  # noqa: E402

from likes import books, counts  # noqa: E402
from likes.buffer import ACK, DRAIN, LIKE, SETTLE, TOTALS, buffer, flusher  # noqa: E402
from likes.wire import connect  # noqa: E402
from tests.proxy import Proxy  # noqa: E402

REPLY = 0.6  # seconds; the product waits longer for Redis, and each test of a lost reply would with it

setup_test_environment()
call_command("migrate", verbosity=0)


@pytest.fixture(autouse=True)
def fresh() -> Iterator[None]:
    """Give each test empty tables and an empty Redis, and connections that a test before it cannot have broken."""
    clean()
    yield
    connection.close()


def clean() -> None:
    """Start what a test stopped, empty everything, and forget what this process knew of it."""
    for server in (POSTGRES, REDIS, BROKER):
        if not server.running:
            server.start()
    connection.close()
    empty_database()
    buffer.client.flushall()
    counts.absent.forget()
    books.check_deployment.cache_clear()
    books.check_deployment()  # as a process that runs has done: it is two queries, once


def empty_database() -> None:
    """Empty every table but the migrations' own."""
    kept = {"django_migrations", "django_content_type", "auth_permission"}
    with connection.cursor() as cursor:
        tables = set(connection.introspection.table_names(cursor)) - kept
        cursor.execute(f"TRUNCATE {', '.join(sorted(tables))} RESTART IDENTITY CASCADE")


@pytest.fixture
def redis() -> Server:
    """The Redis that counts."""
    return REDIS


@pytest.fixture
def line(redis: Server, monkeypatch: pytest.MonkeyPatch) -> Iterator[Proxy]:
    """Put a proxy between the product and a Redis that knows every script, so that a call is one round trip."""
    for script in (LIKE, TOTALS, DRAIN, ACK, SETTLE):
        flusher.client.script_load(script.source)
    proxy = Proxy(redis.server.socket)
    for door in (buffer, flusher):
        monkeypatch.setattr(door, "client", connect(proxy.url, REPLY))
    yield proxy
    proxy.close()


@pytest.fixture
def postgres() -> Server:
    """The PostgreSQL with the totals."""
    return POSTGRES


@pytest.fixture
def broker() -> Server:
    """Celery's Redis."""
    return BROKER


@pytest.fixture
def process() -> Iterator[type[Process]]:
    """Start programs that end with the test: `process(command, log)`."""
    started: list[Process] = []

    class Mine(Process):
        def __init__(self, *args: object, **kwargs: object) -> None:
            super().__init__(*args, **kwargs)  # type: ignore[arg-type]  # passed on as they are
            started.append(self)

    yield Mine
    for one in started:
        one.thaw()
        one.kill()
