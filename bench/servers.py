"""The servers of a benchmark: as shipped, in a temporary folder, ended with it."""

from __future__ import annotations

import os

import django

from tests.servers import Postgres, Server, folder, manage, scrub, valkey


def start() -> None:
    """Start a PostgreSQL and a Valkey, point Django at them and migrate."""
    scrub()
    postgres = Server(Postgres(folder("postgres"))).start()
    os.environ |= {
        "DATABASE_URL": postgres.server.url,
        "REDIS_URL": valkey().server.url,
        "SECRET_KEY": "only-for-benchmarks",
        "LOG_LEVEL": "ERROR",
        "DJANGO_SETTINGS_MODULE": "likesite.settings",
    }
    migrated = manage("migrate")
    if migrated.returncode:
        raise RuntimeError(f"manage.py migrate failed:\n{migrated.stdout}{migrated.stderr}")
    django.setup()
