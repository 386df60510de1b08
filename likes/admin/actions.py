"""What the admin can do to posts: flush now, reset, and the settling of deletes. Knows no key and no SQL.

*Flush now* runs in the web process and for a few seconds at most, so that it works with no worker at all.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Iterable
from typing import cast

from django.contrib import admin, messages
from django.contrib.admin.helpers import ACTION_CHECKBOX_NAME
from django.contrib.admin.models import CHANGE, LogEntry
from django.db import Error as DatabaseError
from django.db.models import QuerySet
from django.http import HttpRequest, HttpResponse
from django.template.response import TemplateResponse

from likes import counts, tasks
from likes.admin.listing import AnyAdmin
from likes.buffer import Unavailable, buffer
from likes.ledger import AlreadyFolded
from likes.models import Post

log = logging.getLogger(__name__)

FLUSH_SECONDS = 5.0  # a person is waiting for the page; what is left goes with the next tick
NOTHING_FLUSHED = "Nothing was there to flush: all is persisted, or a worker is moving it at this moment."
UNFLUSHED = "Not flushed: %s. Likes that were accepted stay where they are, for the next flush."
UNSETTLED = "On record, but Redis could not be told: live totals may be wrong until the next flush that reaches it."
NOT_RESET = "Nothing was reset: %s"


@admin.action(description="Flush now", permissions=["change"])
def flush_now(site: AnyAdmin, request: HttpRequest, queryset: QuerySet[Post]) -> None:
    """Move to PostgreSQL what the shards of the selected posts hold: these posts' likes and their neighbours'."""
    try:
        likes = flush(queryset.values_list("pk", flat=True))
    except (Unavailable, DatabaseError, AlreadyFolded) as error:
        warn(request, UNFLUSHED, error)
    else:
        messages.success(request, f"Likes flushed: {likes}." if likes else NOTHING_FLUSHED)


@admin.action(description="Reset likes", permissions=["change"])
def reset_likes(site: AnyAdmin, request: HttpRequest, queryset: QuerySet[Post]) -> HttpResponse | None:
    """Ask first. Then take totals to zero, each on record as an Adjustment in the user's name."""
    if request.POST.get("post") != "yes":
        return ask_before_reset(site, request, queryset)
    posts = list(queryset)
    try:
        # First, because a like that is still on its way when a total is reset counts from zero.
        flush(post.pk for post in posts)
    except (Unavailable, DatabaseError, AlreadyFolded) as error:
        warn(request, UNFLUSHED, error)
    reset(request, posts)
    return None


def ask_before_reset(site: AnyAdmin, request: HttpRequest, queryset: QuerySet[Post]) -> HttpResponse:
    """Show which totals would go, and the button that confirms it."""
    context = {
        **site.admin_site.each_context(request),
        "title": "Reset likes",
        "posts": queryset,
        "opts": site.opts,
        "action_checkbox_name": ACTION_CHECKBOX_NAME,
    }
    return TemplateResponse(request, "admin/likes/post/reset_confirmation.html", context)


def reset(request: HttpRequest, posts: list[Post]) -> None:
    """Reset totals and say what came of it; the history of each post says who did it."""
    rows = Post.objects.filter(pk__in=[post.pk for post in posts])
    try:
        changed = sum(counts.reset(rows, by=request.user.get_username()))
    except DatabaseError as error:
        warn(request, NOT_RESET, error)
        return
    except Unavailable as error:
        warn(request, UNSETTLED, error)
    else:
        messages.success(request, f"Totals set to zero: {changed}. The adjustments say what they were.")
    user = cast("int", request.user.pk)  # nobody gets here without an account
    LogEntry.objects.log_actions(user, posts, CHANGE, "Reset likes.")


def settle(request: HttpRequest, posts: list[int]) -> None:
    """Tell Redis of totals that were adjusted; what fails here is tried again by every tick."""
    try:
        counts.settle(posts, door=buffer)
    except (Unavailable, DatabaseError) as error:
        warn(request, UNSETTLED, error)


def flush(posts: Iterable[int]) -> int:
    """Flush the shards of these posts, within about FLUSH_SECONDS, and return how many likes were moved.

    Raises Unavailable, AlreadyFolded, django.db.Error.
    """
    deadline = time.monotonic() + FLUSH_SECONDS
    moved = 0
    for shard in buffer.by_shard(posts):
        while batch := tasks.flush_batch(shard):
            moved += batch.total
            if not batch.left or time.monotonic() > deadline:
                break
    return moved


def warn(request: HttpRequest, message: str, error: Exception) -> None:
    """Tell the person, in a sentence, and the log, in full."""
    log.warning("admin %s: %s: %s", request.path, type(error).__name__, str(error).strip())
    messages.warning(request, message % str(error).strip() if "%s" in message else message)
