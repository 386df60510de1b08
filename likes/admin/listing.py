"""Lists that cost the same however long the table is, and lists nobody can edit. Knows no model."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any, cast

from django.contrib import admin
from django.core.paginator import Paginator
from django.db.models import Model, QuerySet
from django.http import HttpRequest
from django.utils.functional import cached_property
from django.utils.html import format_html

if TYPE_CHECKING:
    AnyAdmin = admin.ModelAdmin[Any]
    AnyPaginator = Paginator[Any]
else:  # Django's classes take type parameters from the checker only
    AnyAdmin, AnyPaginator = admin.ModelAdmin, Paginator

NONE = "\N{EN DASH}"  # what a column shows where there is nothing to show

# Rows that a list numbers pages for: the rest is found by search and filter, never by counting a table.
LISTED_ROWS = 10_000


def moment(field: str) -> Callable[[Model], str]:
    """Return a column that shows a time to the second, in UTC: Django's own stops at minutes, and batches do not."""

    @admin.display(description=field.removesuffix("_at"))
    def column(row: Model) -> str:
        value = getattr(row, field)
        return format_html('<span class="nowrap">{}</span>', f"{value:%Y-%m-%d %H:%M:%S}") if value else NONE

    return column


class BoundedPaginator(AnyPaginator):
    """Pages of the first LISTED_ROWS rows; PostgreSQL stops counting one row further."""

    @cached_property
    def rows(self) -> int:
        rows = cast("QuerySet[Any]", self.object_list)
        return rows.order_by()[: LISTED_ROWS + 1].count()

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
