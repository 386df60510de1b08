"""The tokens of trusted programs; knows no request."""

from __future__ import annotations

import hmac

from django.conf import settings


def is_known(token: bytes) -> bool:
    """Compare with every token in constant time, so that the time taken tells nothing about any of them."""
    matches = [hmac.compare_digest(token, known.encode()) for known in settings.LIKES_API_TOKENS if known]
    return any(matches)


def bearer(authorization: bytes) -> bytes | None:
    """Return the token of `Authorization: Bearer TOKEN`; None for any other scheme."""
    scheme, _, token = authorization.partition(b" ")
    return token.strip() if scheme.lower() == b"bearer" else None
