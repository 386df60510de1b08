"""`manage.py seed_demo`: the three posts that a newcomer finds."""

from __future__ import annotations

from typing import Any

from django.conf import settings
from django.core.management.base import BaseCommand
from django.db import connection, transaction

from likes.models import Post

TITLES = ("Hello, likes", "A post about to go viral", "The quiet one")


class Command(BaseCommand):
    help = "Make demo posts 1 to 3, once in the life of a database, where LIKES_DEMO is on."

    @transaction.atomic
    def handle(self, *args: Any, **options: Any) -> None:
        if not settings.LIKES_DEMO or self._had_posts():
            return
        for title in TITLES:
            post = Post.objects.create(title=title)
            self.stdout.write(f"post {post.pk}: {post.title}")

    def _had_posts(self) -> bool:
        """Return whether an id was ever given out: a demo post that somebody deleted does not come back."""
        with connection.cursor() as cursor:
            cursor.execute("LOCK TABLE likes_post IN SHARE ROW EXCLUSIVE MODE")  # two starts at once seed once
            cursor.execute("SELECT is_called FROM likes_post_id_seq")
            return bool(cursor.fetchone()[0])
