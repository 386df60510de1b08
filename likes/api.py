"""What all routes of the API share: who may, and OPTIONS; knows no route."""

from __future__ import annotations

from typing import Any

from django.conf import settings
from django.http import HttpRequest
from rest_framework import status
from rest_framework.authentication import BaseAuthentication
from rest_framework.response import Response
from rest_framework.views import APIView


class Api(APIView):
    """A route that is open unless it says which methods need a writer, and which of these the demo opens."""

    guarded: frozenset[str] = frozenset()
    opened_by_demo: frozenset[str] = frozenset()

    def is_open(self) -> bool:
        """Tell whether everyone may do this: then no session and no account is looked up."""
        method = self.request.method if self.request else None  # none while the schema is drawn
        return method not in self.guarded or (settings.LIKES_DEMO and method in self.opened_by_demo)

    def get_authenticators(self) -> list[BaseAuthentication]:
        """Return who could vouch for the caller."""
        return [] if self.is_open() else super().get_authenticators()

    def get_permissions(self) -> list[Any]:
        """Return what the caller must be."""
        return [] if self.is_open() else list(super().get_permissions())

    def options(self, request: HttpRequest, *args: Any, **kwargs: Any) -> Response:
        """Answer with Allow and nothing else."""
        return Response(status=status.HTTP_204_NO_CONTENT)
