"""What an answer to a like means for the count. Knows the answers of the API; no network, no Locust."""

import json
from enum import Enum


class Outcome(Enum):
    """Whether a like that was sent is counted."""

    ACKNOWLEDGED = "acknowledged"
    """Answered 202: counted, or the service broke its promise."""
    NOT_APPLIED = "not applied"
    """Certainly not counted; sending it again is safe."""
    REFUSED = "refused"
    """Certainly not counted, and would be refused again."""
    UNKNOWN = "unknown"
    """Sent, and no answer that tells. Sending it again is safe only under its key."""


def judge(status: int, body: bytes | None, error: BaseException | None) -> Outcome:
    """Read one answer. `status` is 0 when there was none, `error` then says why."""
    if status == 202:
        return Outcome.ACKNOWLEDGED
    if isinstance(error, ConnectionRefusedError):  # nobody listened: nothing was sent
        return Outcome.NOT_APPLIED
    if status == 503 and _member(body, "outcome") == "not_applied":
        return Outcome.NOT_APPLIED
    if 300 <= status < 500 and status != 408:  # 408: a proxy gave up waiting, which tells nothing
        return Outcome.REFUSED
    return Outcome.UNKNOWN


def _member(body: bytes | None, name: str) -> object:
    """One member of a problem document; None when the body is no such thing (a proxy's page, an empty answer)."""
    try:
        document = json.loads(body or b"")
    except ValueError:
        return None
    return document.get(name) if isinstance(document, dict) else None
