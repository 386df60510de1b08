"""Lists that cost the same however long the table is, and lists nobody can edit. Knows no model."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from django.contrib import admin
from django.core.paginator import Paginator
from django.db.models import Model
from django.http import HttpRequest
from django.utils.functional import cached_property

if TYPE_CHECKING:
    AnyAdmin = admin.ModelAdmin[Any]
    AnyPaginator = Paginator[Any]
else:  # Django's classes take type parameters from the checker only
    AnyAdmin, AnyPaginator = admin.ModelAdmin, Paginator

# Rows that a list numbers pages for: the rest is found by search and filter, never by counting a table.
LISTED_ROWS = 10_000


class BoundedPaginator(AnyPaginator):
    """Pages of the first LISTED_ROWS rows; PostgreSQL stops counting one row further."""

    @cached_property
    def rows(self) -> int:
        found: int = self.object_list.order_by()[: LISTED_ROWS + 1].count()
        return found

    @cached_property
    def count(self) -> int:
        return min(self.rows, LISTED_ROWS)

    @property
    def capped(self) -> bool:
        """Whether there are rows behind the last page."""
        return self.rows > LISTED_ROWS


class Listing(AnyAdmin):
    """Ordered by an index and by nothing else; no query over a whole table, no count beside a filter."""

    paginator = BoundedPaginator
    show_full_result_count = False
    show_facets = admin.ShowFacets.NEVER
    sortable_by = ()
    ordering = ("-pk",)


class ViewOnly(Listing):
    """Rows that nobody adds, changes or deletes by hand, superusers included."""

    actions = None

    def has_add_permission(self, request: HttpRequest) -> bool:
        return False

    def has_change_permission(self, request: HttpRequest, obj: Model | None = None) -> bool:
        return False

    def has_delete_permission(self, request: HttpRequest, obj: Model | None = None) -> bool:
        return False
