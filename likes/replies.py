"""Answers of the fast lane, as the views give them: a whole one at a time. Knows no route and no server."""

from __future__ import annotations

import json
import logging
from collections.abc import Iterator
from http import HTTPStatus
from typing import Any, NamedTuple

from likes import problems
from likes.asgi_types import Message
from likes.buffer import Broken, Unavailable
from likes.heads import Head
from likes.instruments import UNKNOWN_OUTCOMES
from likes.lane import Full

log = logging.getLogger(__name__)

FAILURES = (Unavailable, Full, Broken)


class Reply(NamedTuple):
    """One answer: `more` are headers beside those of `head`, its type and its length."""

    status: int
    body: bytes
    head: Head
    kind: bytes = b"application/json"
    more: tuple[tuple[bytes, bytes], ...] = ()

    def messages(self) -> Iterator[Message]:
        """Return it as ASGI messages."""
        own = [(b"content-type", self.kind), (b"content-length", b"%d" % len(self.body))]
        yield {"type": "http.response.start", "status": self.status, "headers": [*own, *self.head.pairs, *self.more]}
        yield {"type": "http.response.body", "body": self.body}

    def text(self) -> bytes:
        """Return it as HTTP/1.1, all that follows the status line and the server's own headers."""
        lines = (b"content-type: %b\r\ncontent-length: %d\r\n" % (self.kind, len(self.body))) + self.head.text
        for pair in self.more:
            lines += b"%b: %b\r\n" % pair
        return lines + b"\r\n" + self.body


def failed(error: Exception, head: Head) -> Reply:
    """Return 503, or 500 for a fault of ours, as the views do."""
    if not isinstance(error, FAILURES) or isinstance(error, Broken):
        log.error("a like or a read failed", exc_info=error)
        return problem(problems.fault(), head)
    known = error if isinstance(error, Unavailable) else Unavailable("not_applied", "too many likes wait")
    if known.outcome == "unknown":
        UNKNOWN_OUTCOMES.inc()
    return problem(problems.unavailable(known.outcome), head, (b"retry-after", b"%d" % known.retry_after))


def stranded(error: Exception) -> Exception:
    """Return the error of a call that was never sent, as the trip before it failed."""
    return Unavailable("not_applied", str(error))


def problem(document: dict[str, Any], head: Head, *more: tuple[bytes, bytes]) -> Reply:
    """Return a problem document."""
    body = json.dumps(document, separators=(",", ":")).encode()
    return Reply(HTTPStatus(document["status"]), body, head, problems.MEDIA_TYPE.encode(), more)
