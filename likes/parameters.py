"""What comes in a path, a query or a header, checked; knows no body."""

from __future__ import annotations

import re

from django.core.exceptions import TooManyFieldsSent
from django.urls.converters import StringConverter
from rest_framework.exceptions import ValidationError
from rest_framework.request import Request

from likes import ids

VISIBLE_ASCII = re.compile(r"[\x21-\x7e]{1,255}")


class PostIdConverter(StringConverter):
    """An id in a path; one out of range is no address at all, so that it is answered 404 before anything is counted."""

    regex = r"[0-9]{1,19}"  # as many digits as 2^63 - 1 has

    def to_python(self, value: str) -> int:  # type: ignore[override]  # a converter may return anything
        """Return the id; raise ValueError, which Django takes for no match, outside 1 to 2^63 - 1."""
        number = int(value)
        if not ids.is_post_id(number):
            raise ValueError(value)
        return number


def idempotency_key(request: Request) -> str | None:
    """Return the Idempotency-Key, None without one; raise ValidationError for one that is no 1 to 255 visible ASCII."""
    key = request.headers.get("Idempotency-Key")
    if key is not None and not VISIBLE_ASCII.fullmatch(key):
        raise ValidationError({"Idempotency-Key": "must be 1 to 255 visible ASCII characters, without spaces"})
    return key


def post_ids(request: Request) -> list[int]:
    """Return the ids of `?post=1&post=2` that posts could have; raise ValidationError for none, over 100, no digits."""
    try:
        given = request.query_params.getlist("post")
    except TooManyFieldsSent as error:
        raise ValidationError({"post": f"must be given 1 to {ids.MOST_POSTS} times"}) from error
    if not 1 <= len(given) <= ids.MOST_POSTS:
        raise ValidationError({"post": f"must be given 1 to {ids.MOST_POSTS} times, not {len(given)}"})
    try:
        return ids.post_ids(given)
    except ValueError as error:
        raise ValidationError({"post": str(error)}) from error
