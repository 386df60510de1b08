"""Posts in the admin: their totals, to read. What may change them is in `actions`."""

from __future__ import annotations

from collections.abc import Iterable
from functools import partial
from typing import Any

from django.contrib import admin, messages
from django.contrib.admin.views.main import ChangeList
from django.db import transaction
from django.db.models import QuerySet
from django.http import HttpRequest, HttpResponse, HttpResponseRedirect

from likes import counts
from likes.admin.actions import flush_now, reset_likes, settle
from likes.admin.listing import NONE, Listing, moment
from likes.buffer import Total, Unavailable
from likes.models import Post

ACTION_POSTS = 900  # posts an action takes at once: its confirmation is one form, and Django reads 1,000 fields of one
NO_TOTALS = "Live totals cannot be read: Redis is away. Persisted totals are as of the last flush."


def read_totals(request: HttpRequest, posts: Iterable[Post]) -> None:
    """Give each of `posts` its `total`, all in one Redis round trip; None, and a message, where it cannot be read."""
    try:
        totals = counts.totals([post.pk for post in posts])
    except Unavailable:
        totals = {}
        messages.warning(request, NO_TOTALS)
    for post in posts:
        post.total = totals.get(post.pk)  # type: ignore[attr-defined]  # for `total_of`


def total_of(post: Post) -> Total | None:
    """Return what `read_totals` gave the post."""
    return getattr(post, "total", None)


class PostList(ChangeList):
    """A page of posts whose totals were read together, not row by row."""

    def get_results(self, request: HttpRequest) -> None:
        """Read the page's rows, and their totals where they will be shown: an action redirects or asks."""
        super().get_results(request)
        if request.method == "GET":
            read_totals(request, self.result_list)


@admin.register(Post)
class PostAdmin(Listing):
    """Posts. What changes a total is a like, or an action or a delete that leaves an Adjustment."""

    list_display = ("id", "title", "persisted", "pending", "live", moment("created_at"))
    list_display_links = ("id", "title")
    list_filter = ("created_at",)
    search_fields = ("title", "id__exact")
    search_help_text = "A title or a part of it, or an id."
    fields = ("title", "persisted", "pending", "live", "created_at", "updated_at")
    readonly_fields = fields[1:]
    actions = (flush_now, reset_likes)

    @admin.display
    def persisted(self, post: Post) -> int:
        """Return what PostgreSQL holds; of the same moment as the two below, where Redis can tell."""
        total = total_of(post)
        return total.persisted if total else post.likes

    @admin.display
    def pending(self, post: Post) -> int | str:
        """Return the likes on their way to PostgreSQL."""
        total = total_of(post)
        return total.pending if total else NONE

    @admin.display
    def live(self, post: Post) -> int | str:
        """Return persisted and pending likes together."""
        total = total_of(post)
        return total.likes if total else NONE

    def get_changelist(self, request: HttpRequest, **kwargs: Any) -> type[ChangeList]:
        """Return the list that reads totals."""
        return PostList

    def render_change_form(
        self, request: HttpRequest, context: dict[str, Any], *args: Any, **kwargs: Any
    ) -> HttpResponse:
        """Show the form of one post, with its totals."""
        if kwargs.get("obj") is not None:
            read_totals(request, [kwargs["obj"]])
        return super().render_change_form(request, context, *args, **kwargs)

    def response_action(self, request: HttpRequest, queryset: QuerySet[Post]) -> HttpResponse | None:
        """Run an action, unless all posts of a list too long to confirm were chosen."""
        if request.POST.get("select_across") == "1" and queryset[ACTION_POSTS:].exists():
            messages.error(request, f"An action takes {ACTION_POSTS} posts at most: search or filter first.")
            return HttpResponseRedirect(request.get_full_path())
        return super().response_action(request, queryset)

    def delete_model(self, request: HttpRequest, obj: Post) -> None:
        """Delete one post, as many are deleted."""
        self.delete_queryset(request, Post.objects.filter(pk=obj.pk))

    def delete_queryset(self, request: HttpRequest, queryset: QuerySet[Post]) -> None:
        """Delete posts; a trigger archives their totals, and Redis is told once that is committed.

        The rows are locked in the order in which a flush locks them, so that the two cannot deadlock.
        """
        with transaction.atomic():
            rows = Post.objects.filter(pk__in=list(queryset.values_list("pk", flat=True)))
            posts = list(rows.select_for_update().order_by("pk").values_list("pk", flat=True))
            super().delete_queryset(request, rows)
            transaction.on_commit(partial(settle, request, posts))
