"""Problem documents (RFC 9457), and Django's own errors as such; knows no route and nothing of likes."""

from __future__ import annotations

from http import HTTPStatus
from typing import Any

from django.core.exceptions import RequestDataTooBig
from django.http import HttpRequest, HttpResponse, HttpResponseBase, JsonResponse
from django.views import csrf, defaults

MEDIA_TYPE = "application/problem+json"
FAULT = "This is a fault of the service; it has been logged."
OUTCOMES = {
    "not_applied": "A server behind this one is away or full; nothing was changed. Try again later.",
    "unknown": "An answer was lost on its way here: the change may have been made or not. "
    "Only a retry under the same Idempotency-Key is sure to count once.",
}


def document(status: int, detail: str, **members: Any) -> dict[str, Any]:
    """Return the problem document of `status`; about:blank means that the status says what kind it is."""
    return {"type": "about:blank", "title": HTTPStatus(status).phrase, "status": status, "detail": detail, **members}


def fault() -> dict[str, Any]:
    """Return the document of a 500."""
    return document(HTTPStatus.INTERNAL_SERVER_ERROR, FAULT)


def unavailable(outcome: str) -> dict[str, Any]:
    """Return the document of a 503; `outcome` is "not_applied" or "unknown"."""
    return document(HTTPStatus.SERVICE_UNAVAILABLE, OUTCOMES[outcome], outcome=outcome)


def answer(status: int, detail: str, **members: Any) -> HttpResponse:
    """Return a problem document as a response of Django's, for what never reaches a view of the API."""
    compact = {"separators": (",", ":")}  # as DRF writes them
    body = document(status, detail, **members)
    return JsonResponse(body, status=status, content_type=MEDIA_TYPE, json_dumps_params=compact)


def not_allowed(request: HttpRequest, allowed: str) -> HttpResponse:
    """Return the answer to another method than those `allowed`, a list with commas."""
    response = answer(HTTPStatus.METHOD_NOT_ALLOWED, f'Method "{request.method}" not allowed.')
    response.headers["Allow"] = allowed
    return response


def too_large() -> HttpResponse:
    """Return the answer to a body above DATA_UPLOAD_MAX_MEMORY_SIZE."""
    return answer(HTTPStatus.REQUEST_ENTITY_TOO_LARGE, "The body is larger than 64 KiB.")


def is_admin(request: HttpRequest) -> bool:
    """Tell whether a person in the admin asked: they get Django's own pages."""
    return request.path_info.startswith("/admin/")


def bad_request(request: HttpRequest, exception: Exception) -> HttpResponseBase:
    """Answer what Django calls suspicious (handler400): a wrong Host, too many fields, a broken form."""
    if is_admin(request):
        return defaults.bad_request(request, exception)
    if isinstance(exception, RequestDataTooBig):
        return too_large()
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
    return answer(HTTPStatus.INTERNAL_SERVER_ERROR, FAULT)


def csrf_failure(request: HttpRequest, reason: str = "") -> HttpResponseBase:
    """Answer a form without its token (CSRF_FAILURE_VIEW)."""
    if is_admin(request):
        return csrf.csrf_failure(request, reason)
    return answer(HTTPStatus.FORBIDDEN, f"CSRF check failed: {reason}")
