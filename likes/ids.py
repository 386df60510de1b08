"""What can be the id of a post, and how many a request may name; knows no request, and no post."""

from __future__ import annotations

import re
from collections.abc import Iterable

MAX_ID = 2**63 - 1  # PostgreSQL's bigint
MOST_ENTRIES = 1_000  # of one bulk call: some milliseconds of work
MOST_LIKES = 10_000  # of one entry: a buffer that an app sends on, and no way to set totals at will
MOST_POSTS = 100  # of one page, one read, one stream: one round trip of some milliseconds
DIGITS = re.compile(r"[0-9]+")  # not \d, which takes the digits of every script
NO_ID = "must be a post's id, in digits"


def is_post_id(number: int) -> bool:
    """Tell whether a post could have this id."""
    return 1 <= number <= MAX_ID


def post_ids(given: Iterable[str]) -> list[int]:
    """Return the ids that posts could have among numbers in digits; raise ValueError, with the rule, for no digits."""
    values = list(given)
    if not all(DIGITS.fullmatch(value) for value in values):
        raise ValueError(NO_ID)
    numbers = [int(value) for value in values if len(value) <= len(str(MAX_ID))]
    return [number for number in numbers if is_post_id(number)]
