"""Pages of posts by cursor: stable while posts come and go; knows no totals."""

from __future__ import annotations

from typing import Any

from rest_framework.exceptions import NotFound, ValidationError
from rest_framework.pagination import Cursor, CursorPagination
from rest_framework.request import Request

from likes.ids import DIGITS, MAX_ID, MOST_POSTS


class PostPages(CursorPagination):
    """Newest first, by id, which is unique and never changes."""

    ordering = "-id"
    page_size = 20
    page_size_query_param = "page_size"
    max_page_size = MOST_POSTS

    def get_page_size(self, request: Request) -> int:
        """Return the size asked for, 20 without; raise ValidationError outside 1 to 100."""
        value = request.query_params.get("page_size", str(self.page_size))
        if not DIGITS.fullmatch(value) or len(value) > 3 or not 1 <= int(value) <= MOST_POSTS:
            raise ValidationError({"page_size": f"must be a whole number from 1 to {MOST_POSTS}"})
        return int(value)

    def decode_cursor(self, request: Request) -> Cursor | None:
        """Return where the page begins; raise ValidationError for a cursor that none of our pages named."""
        try:
            cursor: Cursor | None = super().decode_cursor(request)
        except NotFound as error:
            raise ValidationError({"cursor": "is not one that a page of this list named"}) from error
        if cursor and not is_position(cursor.position):
            raise ValidationError({"cursor": "is not one that a page of this list named"})
        return cursor


def is_position(position: Any) -> bool:
    """Tell whether a cursor's position is an id: DRF hands it to SQL as it came."""
    return position is None or (len(position) <= len(str(MAX_ID)) and DIGITS.fullmatch(position) is not None)
