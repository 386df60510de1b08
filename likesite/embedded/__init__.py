"""The servers of one machine when the environment names no others: a PostgreSQL and two Valkeys, and their secrets.

Settings import this, so it must know neither them nor likes; what keeps the servers alive is `machine`'s business.
"""

import os
import secrets
from pathlib import Path

from likesite.embedded import housing
from likesite.embedded.housing import Closed, package_folder
from likesite.embedded.postgres import Postgres
from likesite.embedded.probing import NotReady
from likesite.embedded.valkey import Valkey

__all__ = ["Closed", "NotReady", "Postgres", "Valkey", "package_folder"]

SECRETS = {"secret_key": 48, "admin_password": 12}  # bytes of randomness
# A lost task is sent again by the next tick: the broker keeps nothing on disk, and a queue that nobody has read for
# days may go. Were it refused memory instead, a worker that comes back could not even say that it is there.
BROKER = {"appendonly": "no", "maxmemory": "256mb", "maxmemory-policy": "allkeys-lru"}


def servers(data_dir: Path) -> dict[str, Postgres | Valkey]:
    """The embedded servers of a data folder, by the environment variable that would name another one instead."""
    return {
        "DATABASE_URL": Postgres(data_dir / "postgres"),
        "REDIS_URL": Valkey(data_dir / "valkey"),
        "CELERY_BROKER_URL": Valkey(data_dir / "broker", **BROKER),
    }


def urls(data_dir: Path) -> dict[str, str]:
    """DATABASE_URL, REDIS_URL and CELERY_BROKER_URL of the embedded servers; writes nothing, starts nothing."""
    found = {name: server.url for name, server in servers(data_dir).items()}
    return found | {"CELERY_BROKER_URL": found["CELERY_BROKER_URL"].replace("unix://", "redis+socket://")}


def secret(data_dir: Path, name: str) -> str | None:
    """The secret `name` (one of SECRETS) that a first start made, or None before it."""
    path = data_dir / name
    return path.read_text().strip() if path.exists() else None


def make_secrets(data_dir: Path) -> None:
    """Make the secrets that are missing, readable by their owner only."""
    housing.make_parents(data_dir / "secrets")
    for name, size in SECRETS.items():
        path = data_dir / name
        if not path.exists():
            with open(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w") as file:
                file.write(secrets.token_urlsafe(size) + "\n")
