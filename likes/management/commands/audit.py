"""`manage.py audit`: are the books right? Exit 0 yes, 1 no, 2 could not tell."""

from __future__ import annotations

import json
import sys
from typing import Any

from django.core.exceptions import ImproperlyConfigured
from django.core.management.base import BaseCommand, CommandParser
from django.db import DatabaseError, InterfaceError

from likes import audit, books
from likes.buffer import Broken, Unavailable


class Command(BaseCommand):
    help = "Hold the likes Redis accepted against those PostgreSQL has. Exit 0: exact, 1: drift, 2: could not tell."

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument("--json", action="store_true", help="print one JSON object")
        parser.add_argument(
            "--seconds", type=float, default=audit.SHARD_SECONDS, help="how long to look at a busy shard"
        )
        parser.add_argument(
            "--note-losses", action="store_true", help="take note of what wiped Redises lost: no drift any more"
        )

    def handle(self, *args: Any, **options: Any) -> None:
        try:
            books.check_deployment()
            taken = audit.take(options["seconds"])
            if options["note_losses"]:
                self._note(taken)
                taken = audit.take(options["seconds"])
        except (Unavailable, DatabaseError, InterfaceError, Broken, ImproperlyConfigured) as error:
            self._cannot_tell(str(error).strip(), as_json=options["json"])
            sys.exit(2)
        self.stdout.write(json.dumps(taken.as_json()) if options["json"] else report(taken))
        sys.exit(taken.exit_code)

    def _note(self, taken: audit.Audit) -> None:
        for shard in taken.shards:
            books.note_losses(shard.shard, shard.epoch)

    def _cannot_tell(self, reason: str, *, as_json: bool) -> None:
        self.stdout.write(json.dumps({"exit_code": 2, "error": reason}) if as_json else f"could not tell: {reason}")


def report(taken: audit.Audit) -> str:
    """Return the audit as lines for a person."""
    lines = ["shard   accepted    drained  in flight    pending      drift"]
    for shard in taken.shards:
        numbers = (shard.accepted, shard.drained, shard.inflight, shard.pending, shard.drift)
        lines.append(f"{shard.shard:>5} " + " ".join(f"{number:>10}" for number in numbers))
    sums = taken.sums
    lines += [
        f"came:  {sums.ledger} drained + {sums.starting} starting + {sums.adjusted} adjusted",
        f"are:   {sums.totals} in totals + {sums.orphaned} orphaned + {sums.quarantined} quarantined",
        f"drift: {sums.drift}",
    ]
    lines += [
        f"shard {loss.shard}: Redis was wiped, epoch {loss.epoch} lost at least {loss.likes} likes"
        + (" (noted)" if loss.noted else "")
        for loss in taken.losses
    ]
    lines += [f"shard {number} moved all the time: could not tell" for number in taken.undecided]
    return "\n".join([*lines, ("exact", "DRIFT", "could not tell")[taken.exit_code]])
