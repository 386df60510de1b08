"""Who may write: an admin's session or the holder of a token; knows no route."""

from __future__ import annotations

from django.contrib.auth.models import AnonymousUser
from rest_framework.authentication import BaseAuthentication, get_authorization_header
from rest_framework.exceptions import AuthenticationFailed
from rest_framework.request import Request

from likes.tokens import bearer, is_known


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
        token = bearer(get_authorization_header(request))
        if token is None:
            return None
        if not is_known(token):
            raise AuthenticationFailed("This token is not one of this service's.")
        return Program(), "token"

    def authenticate_header(self, request: Request) -> str:
        """Return the challenge that makes a refusal a 401 and not a 403."""
        return 'Bearer realm="likesite"'
