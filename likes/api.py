"""What all routes of the API share: who may, a database to save to, and OPTIONS; knows no route."""

from __future__ import annotations

from typing import Any

from django.conf import settings
from django.db import InterfaceError, OperationalError, connection
from django.http import HttpRequest
from rest_framework import status
from rest_framework.authentication import BaseAuthentication
from rest_framework.request import Request
from rest_framework.response import Response
from rest_framework.views import APIView

from likes.buffer import Unavailable


class Api(APIView):
    """A route that is open unless it says which methods need a writer, and which of these the demo opens."""

    guarded: frozenset[str] = frozenset()
    opened_by_demo: frozenset[str] = frozenset()
    saves: frozenset[str] = frozenset()  # methods that change PostgreSQL

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

    def initial(self, request: Request, *args: Any, **kwargs: Any) -> None:
        """Look who asks, and connect before anything is saved. Raises Unavailable: nothing was changed so far."""
        try:
            super().initial(request, *args, **kwargs)
            if request.method in self.saves:
                connection.cursor().close()
        except (OperationalError, InterfaceError) as error:
            raise Unavailable("not_applied", f"PostgreSQL cannot be asked: {error}") from error

    def options(self, request: HttpRequest, *args: Any, **kwargs: Any) -> Response:
        """Answer with Allow and nothing else."""
        return Response(status=status.HTTP_204_NO_CONTENT)
