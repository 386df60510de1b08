"""What a view of the API raised, as a problem document; knows what our exceptions mean in HTTP, and no route."""

from __future__ import annotations

from collections.abc import Iterator
from http import HTTPStatus
from typing import Any

from django.core.exceptions import PermissionDenied
from django.db import InterfaceError, OperationalError
from django.http import Http404, HttpResponse
from rest_framework import exceptions
from rest_framework.permissions import SAFE_METHODS

from likes import counts, problems
from likes.buffer import Unavailable
from likes.instruments import UNKNOWN_OUTCOMES

DATABASE_RETRY_AFTER = 2  # seconds; about what a restarted PostgreSQL needs


class ServiceUnavailable(exceptions.APIException):
    """A server behind this one is away or full; `outcome` is "not_applied" or "unknown", `wait` is in seconds."""

    status_code = HTTPStatus.SERVICE_UNAVAILABLE

    def __init__(self, outcome: str, wait: int) -> None:
        super().__init__(problems.OUTCOMES[outcome])
        self.outcome = outcome
        self.wait = wait


def handler(error: Exception, context: dict[str, Any]) -> HttpResponse | None:
    """Answer what a view of the API raised (EXCEPTION_HANDLER); None lets Django log it and answer 500.

    No Response of DRF's, which the view's own renderer would make a page of at /api/docs.
    """
    known = as_api_exception(error, context["request"].method)
    if known is None:
        return None
    if isinstance(known, ServiceUnavailable) and known.outcome == "unknown":
        UNKNOWN_OUTCOMES.inc()
    response = problems.answer(known.status_code, summary(known), **members(known))
    for name, value in headers(known).items():
        response.headers[name] = value
    return response


def as_api_exception(error: Exception, method: str | None) -> exceptions.APIException | None:
    """Return the exception of DRF's that says to HTTP what `error` says to us."""
    known: exceptions.APIException | None = None
    match error:
        case exceptions.APIException():
            known = error
        case counts.UnknownPost() | Http404():
            known = exceptions.NotFound("There is no such post.")
        case counts.KeyReused():
            known = exceptions.ValidationError({"Idempotency-Key": "came with another body before"})
        case PermissionDenied():
            known = exceptions.PermissionDenied()
        case Unavailable():
            known = ServiceUnavailable(error.outcome, error.retry_after)
        case OperationalError() | InterfaceError():  # a commit may have happened before the connection was lost
            known = ServiceUnavailable("not_applied" if method in SAFE_METHODS else "unknown", DATABASE_RETRY_AFTER)
    return known


def summary(error: exceptions.APIException) -> str:
    """Return the error in one sentence; of invalid fields, the first one's, by name."""
    if not isinstance(error, exceptions.ValidationError):
        return str(error.detail)
    return next((f"{field}: {texts[0]}" for field, texts in by_field(error.detail)), "The request is not valid.")


def members(error: exceptions.APIException) -> dict[str, Any]:
    """Return the members that this kind of problem adds to the five of every document."""
    if isinstance(error, exceptions.ValidationError):
        return {"errors": dict(by_field(error.detail))}
    if isinstance(error, ServiceUnavailable):
        return {"outcome": error.outcome}
    return {}


def headers(error: exceptions.APIException) -> dict[str, str]:
    """Return the headers that an error brings along: when to come back, how to log in."""
    wait, challenge = getattr(error, "wait", None), getattr(error, "auth_header", None)
    found = {"Retry-After": str(wait) if wait else None, "WWW-Authenticate": challenge}
    return {name: value for name, value in found.items() if value}


def by_field(detail: Any, name: str = "") -> Iterator[tuple[str, list[str]]]:
    """Yield each invalid field and its messages, nested ones by their path: `likes[3].count`."""
    if isinstance(detail, dict):
        for key, inner in detail.items():
            step = f"[{key}]" if isinstance(key, int) else f".{key}"
            yield from by_field(inner, (name + step).removeprefix("."))
    else:
        yield name or "body", [str(text) for text in (detail if isinstance(detail, list) else [detail])]
