"""The web process: which rooms a request passes, outermost first, and what they are given."""

import logging
import os
from collections.abc import Sequence
from typing import cast

from django.conf import settings
from django.core.asgi import get_asgi_application
from django.db import InterfaceError, OperationalError, close_old_connections

from likes.asgi_types import App

os.environ.setdefault("DJANGO_SETTINGS_MODULE", "likesite.settings")
django_application = cast(App, get_asgi_application())  # mappings of ASGI, narrower in the stubs than in truth

from likes import books, counts  # noqa: E402 - models can be imported only now
from likes.announcer import announcer  # noqa: E402
from likes.bodies import BoundedBody  # noqa: E402
from likes.buffer import Total, buffer  # noqa: E402
from likes.fastlane import FastLane  # noqa: E402
from likes.stream import Stream  # noqa: E402
from likes.values import BulkLiked  # noqa: E402

log = logging.getLogger(__name__)


def snapshot(posts: list[int]) -> dict[int, Total]:
    """Return live totals, in a thread that no request of Django's looks after: its connection is looked after here."""
    close_old_connections()
    try:
        return counts.totals(posts)
    finally:
        close_old_connections()


def like_many(likes: Sequence[tuple[int, int]]) -> BulkLiked:
    """Count the cold posts of a bulk call, in such a thread too."""
    close_old_connections()
    try:
        return counts.like_many(likes)
    finally:
        close_old_connections()


def startup() -> None:
    """Refuse to serve a deployment that shards otherwise, then begin to announce.

    Without PostgreSQL, warm posts are served all the same.
    """
    try:
        books.check_deployment()
    except (OperationalError, InterfaceError) as error:
        log.warning("deployment unchecked: %s", error)
    finally:
        close_old_connections()
    announcer.open()


room = BoundedBody(django_application)
lane = FastLane(room, buffer, settings.REDIS_URL, like_many) if settings.LIKES_FASTLANE else None
application = Stream(lane or room, snapshot, startup=startup, shutdown=announcer.close)
