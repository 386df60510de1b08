"""`manage.py reset_likes`: totals to zero, on record."""

from __future__ import annotations

import getpass
from typing import Any

from django.core.management import call_command
from django.core.management.base import BaseCommand, CommandError, CommandParser
from django.db import DatabaseError

from likes import counts
from likes.buffer import Unavailable
from likes.ids import MAX_ID
from likes.models import Post


class Command(BaseCommand):
    help = "Flush, then set the totals of all posts, or of those named, to zero; each as an adjustment on record."

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument("post", nargs="*", type=int, help="ids of posts; none: all")

    def handle(self, *args: Any, **options: Any) -> None:
        posts = Post.objects.all()
        if options["post"]:
            posts = posts.filter(pk__in=options["post"])
            self._refuse_unknown(options["post"], posts)
        call_command("flush", stdout=self.stdout)
        done = 0
        try:
            for chunk in counts.reset(posts, by=f"manage.py reset_likes, {getpass.getuser()}"):
                done += chunk
                self.stdout.write(f"reset {done} posts")
        except (Unavailable, DatabaseError) as error:
            raise CommandError(f"stopped after {done} posts, the next tick settles them: {error}") from error
        if not done:
            self.stdout.write("every total is zero already")

    def _refuse_unknown(self, wanted: list[int], posts: Any) -> None:
        known = set(posts.filter(pk__lte=MAX_ID).values_list("pk", flat=True))
        if unknown := sorted(set(wanted) - known):
            raise CommandError(f"post: there is none with id {', '.join(map(str, unknown))}; nothing was reset")
