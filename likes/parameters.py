"""What comes in a path, a query or a header, checked; knows no body."""

from __future__ import annotations

import re

from django.core.exceptions import TooManyFieldsSent
from django.urls.converters import StringConverter
from rest_framework.exceptions import ValidationError
from rest_framework.request import Request

from likes.models import MAX_ID

VISIBLE_ASCII = re.compile(r"[\x21-\x7e]{1,255}")
DIGITS = re.compile(r"[0-9]+")  # not \d, which takes the digits of every script
MOST_POSTS = 100  # posts of one read


class PostIdConverter(StringConverter):
    """An id in a path; one out of range is no address at all, so that it is answered 404 before anything is counted."""

    regex = r"[0-9]{1,19}"  # as many digits as 2^63 - 1 has

    def to_python(self, value: str) -> int:  # type: ignore[override]  # a converter may return anything
        """Return the id; raise ValueError, which Django takes for no match, outside 1 to 2^63 - 1."""
        number = int(value)
        if not is_post_id(number):
            raise ValueError(value)
        return number


def is_post_id(number: int) -> bool:
    """Tell whether a post could have this id."""
    return 1 <= number <= MAX_ID


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
        raise ValidationError({"post": f"must be given 1 to {MOST_POSTS} times"}) from error
    if not 1 <= len(given) <= MOST_POSTS:
        raise ValidationError({"post": f"must be given 1 to {MOST_POSTS} times, not {len(given)}"})
    if not all(DIGITS.fullmatch(value) for value in given):
        raise ValidationError({"post": "must be a post's id, in digits"})
    numbers = [int(value) for value in given if len(value) <= len(str(MAX_ID))]
    return [number for number in numbers if is_post_id(number)]
