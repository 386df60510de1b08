"""Every error as an RFC 9457 problem document; knows statuses and exceptions, not how counting works."""

from __future__ import annotations

from collections.abc import Iterator
from http import HTTPStatus
from typing import Any

from django.core.exceptions import PermissionDenied, RequestDataTooBig
from django.db import InterfaceError, OperationalError
from django.http import Http404, HttpRequest, HttpResponse, HttpResponseBase, JsonResponse
from django.views import csrf, defaults
from rest_framework import exceptions
from rest_framework.permissions import SAFE_METHODS
from rest_framework.response import Response

from likes import counts
from likes.buffer import Unavailable
from likes.instruments import UNKNOWN_OUTCOMES

MEDIA_TYPE = "application/problem+json"
DATABASE_RETRY_AFTER = 2  # seconds; about what a restarted PostgreSQL needs
OUTCOMES = {
    "not_applied": "A server behind this one is away or full; nothing was changed. Try again later.",
    "unknown": "An answer was lost on its way here: the change may have been made or not. "
    "Only a retry under the same Idempotency-Key is sure to count once.",
}


class TooLarge(exceptions.APIException):
    """A body above DATA_UPLOAD_MAX_MEMORY_SIZE."""

    status_code = HTTPStatus.REQUEST_ENTITY_TOO_LARGE
    default_detail = "The body is larger than 64 KiB."


class ServiceUnavailable(exceptions.APIException):
    """A server behind this one is away or full; `outcome` is "not_applied" or "unknown", `wait` is in seconds."""

    status_code = HTTPStatus.SERVICE_UNAVAILABLE

    def __init__(self, outcome: str, wait: int) -> None:
        super().__init__(OUTCOMES[outcome])
        self.outcome = outcome
        self.wait = wait


def document(status: int, detail: str, **members: Any) -> dict[str, Any]:
    """Return the problem document of `status`; about:blank means that the status says what kind it is."""
    return {"type": "about:blank", "title": HTTPStatus(status).phrase, "status": status, "detail": detail, **members}


def answer(status: int, detail: str, **members: Any) -> HttpResponse:
    """Return a problem document as a response of Django's, for what never reaches a view of the API."""
    return JsonResponse(document(status, detail, **members), status=status, content_type=MEDIA_TYPE)


def handler(error: Exception, context: dict[str, Any]) -> Response | None:
    """Answer what a view of the API raised (EXCEPTION_HANDLER); None lets Django log it and answer 500."""
    known = as_api_exception(error, context["request"].method)
    if known is None:
        return None
    if isinstance(known, ServiceUnavailable) and known.outcome == "unknown":
        UNKNOWN_OUTCOMES.inc()
    data = document(known.status_code, summary(known), **members(known))
    return Response(data, known.status_code, headers=headers(known), content_type=MEDIA_TYPE)


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


def is_admin(request: HttpRequest) -> bool:
    """Tell whether a person in the admin asked: they get Django's own pages."""
    return request.path_info.startswith("/admin/")


def bad_request(request: HttpRequest, exception: Exception) -> HttpResponseBase:
    """Answer what Django calls suspicious (handler400): a wrong Host, too many fields, a broken form."""
    if is_admin(request):
        return defaults.bad_request(request, exception)
    if isinstance(exception, RequestDataTooBig):
        return answer(TooLarge.status_code, TooLarge.default_detail)
    return answer(HTTPStatus.BAD_REQUEST, "The request is malformed, or its Host is not one of this service's.")


def forbidden(request: HttpRequest, exception: Exception) -> HttpResponseBase:
    """Answer a PermissionDenied from outside the API (handler403)."""
    if is_admin(request):
        return defaults.permission_denied(request, exception)
    return answer(HTTPStatus.FORBIDDEN, "This is not allowed.")


def not_found(request: HttpRequest, exception: Exception) -> HttpResponseBase:
    """Answer an address that nothing is served at (handler404), an id out of range among them."""
    if is_admin(request):
        return defaults.page_not_found(request, exception)
    return answer(HTTPStatus.NOT_FOUND, "There is nothing at this address.")


def server_error(request: HttpRequest) -> HttpResponseBase:
    """Answer what nobody expected (handler500); Django has logged it."""
    if is_admin(request):
        return defaults.server_error(request)
    return answer(HTTPStatus.INTERNAL_SERVER_ERROR, "This is a fault of the service; it has been logged.")


def csrf_failure(request: HttpRequest, reason: str = "") -> HttpResponseBase:
    """Answer a form without its token (CSRF_FAILURE_VIEW)."""
    if is_admin(request):
        return csrf.csrf_failure(request, reason)
    return answer(HTTPStatus.FORBIDDEN, f"CSRF check failed: {reason}")
