"""The books in the admin: what moved, what was adjusted, what could not be added. To look at, never to edit."""

from __future__ import annotations

from typing import Any

from django.conf import settings
from django.contrib import admin
from django.db.models import QuerySet
from django.http import HttpRequest

from likes.admin.listing import ViewOnly, moment
from likes.models import Adjustment, Batch, Deployment, OrphanedLikes, QuarantinedLikes, ShardEpoch, ShardState


class ShardFilter(admin.SimpleListFilter):
    """The shards there can be; Django's own filter would read the whole table for those there are."""

    title = parameter_name = "shard"

    def lookups(self, request: HttpRequest, model_admin: Any) -> list[tuple[str, str]]:
        return [(str(shard), str(shard)) for shard in range(settings.LIKES_SHARDS)]

    def queryset(self, request: HttpRequest, queryset: QuerySet[Any]) -> QuerySet[Any]:
        return queryset if self.value() is None else queryset.filter(shard=self.value())


@admin.register(Batch)
class BatchAdmin(ViewOnly):
    """The ledger, newest first."""

    list_display = (moment("drained_at"), "shard", "kind", "likes", "posts", moment("applied_at"), "folded")
    list_filter = (ShardFilter, "drained_at")
    search_fields = ("id__exact",)
    search_help_text = "The id of a batch."
    ordering = ("-drained_at",)


@admin.register(Adjustment)
class AdjustmentAdmin(ViewOnly):
    """Resets and deletes, newest first."""

    list_display = ("id", "kind", "post_id", "likes", "by", moment("created_at"), moment("settled_at"))
    list_filter = ("kind", ("settled_at", admin.EmptyFieldListFilter))
    search_fields = ("post_id__exact", "by")
    search_help_text = "The id of a post, or who did it."


class MovedLikesAdmin(ViewOnly):
    """Likes that reached no post."""

    list_display: tuple[Any, ...] = ("id", "post_id", "likes", moment("created_at"), "batch")
    search_fields = ("post_id__exact", "batch__exact")
    search_help_text = "The id of a post or of a batch."


@admin.register(OrphanedLikes)
class OrphanedLikesAdmin(MovedLikesAdmin):
    """Likes of posts that were gone."""


@admin.register(QuarantinedLikes)
class QuarantinedLikesAdmin(MovedLikesAdmin):
    """Likes that PostgreSQL refused."""

    list_display = (*MovedLikesAdmin.list_display, "error")


@admin.register(ShardEpoch)
class ShardEpochAdmin(ViewOnly):
    """The lives of each shard's counters; the audit says what those that ended took with them."""

    list_display = (
        "id",
        "shard",
        "accepted",
        "likes",
        "posts",
        "batches",
        moment("last_at"),
        moment("noted_at"),
        "epoch",
    )
    list_filter = (ShardFilter,)


@admin.register(ShardState)
class ShardStateAdmin(ViewOnly):
    """How far each shard's ledger is folded."""

    list_display = ("shard", moment("folded_until"))


@admin.register(Deployment)
class DeploymentAdmin(ViewOnly):
    """How this deployment shards."""

    list_display = ("prefix", "shards", moment("created_at"))
