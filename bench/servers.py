"""The servers of a benchmark: as shipped, in a temporary folder, ended with it."""

from __future__ import annotations

import os
import signal
from typing import NamedTuple

import django

from tests.servers import Postgres, Server, folder, manage, scrub, valkey


class Servers(NamedTuple):
    """What was started."""

    postgres: Server
    redis: Server


def start() -> Servers:
    """Start a PostgreSQL and a Valkey, point Django at them and migrate."""
    # TERM ends a run as Ctrl-C does, which ends its servers.
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    scrub()
    postgres = Server(Postgres(folder("postgres"))).start()
    redis = valkey()
    os.environ |= {
        "DATABASE_URL": postgres.server.url,
        "REDIS_URL": redis.server.url,
        "SECRET_KEY": "only-for-benchmarks",
        "LOG_LEVEL": "ERROR",
        "DJANGO_SETTINGS_MODULE": "likesite.settings",
    }
    migrated = manage("migrate")
    if migrated.returncode:
        raise RuntimeError(f"manage.py migrate failed:\n{migrated.stdout}{migrated.stderr}")
    django.setup()
    return Servers(postgres, redis)
