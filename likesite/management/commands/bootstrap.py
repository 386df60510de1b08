"""`manage.py bootstrap`: what a start does to the database before anything serves. Knows no processes."""

from typing import Any

from django.conf import settings
from django.contrib.auth import get_user_model
from django.core.management import call_command
from django.core.management.base import BaseCommand

from likes import books
from likesite import embedded

ADMIN = "admin"


class Command(BaseCommand):
    help = "Migrate, check that this is the deployment it was, seed the demo posts and make the first admin."

    def handle(self, *args: Any, **options: Any) -> None:
        call_command("migrate", interactive=False, stdout=self.stdout)
        books.check_deployment()
        call_command("seed_demo", stdout=self.stdout)
        self._make_admin()

    def _make_admin(self) -> None:
        users = get_user_model().objects
        password = embedded.secret(settings.LIKES_DATA_DIR, "admin_password")
        if password and not users.filter(username=ADMIN).exists():
            users.create_superuser(ADMIN, password=password)
            self.stdout.write(f"made the user {ADMIN}")
