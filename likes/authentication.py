"""Who may write: an admin's session or the holder of a token; knows no route."""

from __future__ import annotations

import hmac

from django.conf import settings
from django.contrib.auth.models import AnonymousUser
from rest_framework.authentication import BaseAuthentication, get_authorization_header
from rest_framework.exceptions import AuthenticationFailed
from rest_framework.request import Request


class Program(AnonymousUser):
    """Who holds a token: staff to the API, and no account."""

    is_staff = True  # type: ignore[assignment]  # AnonymousUser pins it to False

    @property
    def is_authenticated(self) -> bool:  # type: ignore[override]  # AnonymousUser pins it to False
        """Say yes: the token was right."""
        return True


class BearerAuthentication(BaseAuthentication):
    """`Authorization: Bearer TOKEN` with one of LIKES_API_TOKENS (RFC 6750)."""

    def authenticate(self, request: Request) -> tuple[Program, str] | None:
        """Return the program of a right token, None without one; raise AuthenticationFailed for a wrong one."""
        scheme, _, token = get_authorization_header(request).partition(b" ")
        if scheme.lower() != b"bearer":
            return None
        if not is_known(token.strip()):
            raise AuthenticationFailed("This token is not one of this service's.")
        return Program(), "token"

    def authenticate_header(self, request: Request) -> str:
        """Return the challenge that makes a refusal a 401 and not a 403."""
        return 'Bearer realm="likesite"'


def is_known(token: bytes) -> bool:
    """Compare with every token in constant time, so that the time taken tells nothing about any of them."""
    matches = [hmac.compare_digest(token, known.encode()) for known in settings.LIKES_API_TOKENS if known]
    return any(matches)
