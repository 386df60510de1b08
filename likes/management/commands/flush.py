"""`manage.py flush`: move every like to PostgreSQL now, with no Celery at all."""

from __future__ import annotations

import time
from datetime import datetime
from typing import Any

from django.core.management.base import BaseCommand, CommandError, CommandParser
from django.db import DatabaseError, InterfaceError

from likes import counts, tasks
from likes.buffer import Unavailable, flusher

PAUSE = 0.5  # seconds between two looks at shards that somebody else is flushing, or that nobody can


class Command(BaseCommand):
    help = "Move every like taken so far from Redis to PostgreSQL. Needs no worker; does no harm beside one."

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument("--timeout", type=float, default=60.0, help="seconds after which to give up")

    def handle(self, *args: Any, **options: Any) -> None:
        deadline = time.monotonic() + options["timeout"]
        moved = 0
        try:
            began = flusher.status()[0]["now"]
            while shards := waiting_since(began):
                if time.monotonic() > deadline:
                    raise CommandError(f"likes of shards {shards} are still in Redis; the log above says why")
                moved += self._flush(shards)
            counts.settle()
        except (Unavailable, DatabaseError, InterfaceError) as error:
            raise CommandError(f"could not flush: {error}") from error
        self.stdout.write(f"flushed {moved} likes")

    def _flush(self, shards: list[int]) -> int:
        moved = 0
        for shard in shards:
            moved += tasks.flush_shard(shard)
            if self.stdout.isatty():
                self.stdout.write(f"shard {shard}: {moved} likes so far")
        if not moved:
            time.sleep(PAUSE)
        return moved


def waiting_since(began: datetime) -> list[int]:
    """Return the shards with likes from before `began`: newer ones would have no end under load. Raises Unavailable."""
    return [shard for shard, told in enumerate(flusher.status()) if told["since"] and told["since"] <= began]
