"""A peer: the view that a Django tutorial ends with, which counts in PostgreSQL, one UPDATE a like.

Settings and connections as for production; no session, no user, no CSRF: it is given only what answers a like.
"""

from __future__ import annotations

import environ
from django.conf import settings
from django.core.wsgi import get_wsgi_application
from django.db import connection
from django.http import Http404, HttpRequest, JsonResponse
from django.urls import path
from django.views.decorators.http import require_POST

POSTS = 10_000
COMPACT = {"separators": (",", ":")}
HEADERS = {"Allow": "POST, OPTIONS", "Vary": "origin"}  # the middleware writes the others of likesite's answer

env = environ.Env()
settings.configure(
    SECRET_KEY=env("SECRET_KEY"),
    DEBUG=False,
    ALLOWED_HOSTS=["127.0.0.1"],
    ROOT_URLCONF=__name__,
    MIDDLEWARE=[
        "django.middleware.security.SecurityMiddleware",
        "django.middleware.common.CommonMiddleware",
        "django.middleware.clickjacking.XFrameOptionsMiddleware",
    ],
    DATABASES={"default": env.db("DATABASE_URL") | {"CONN_MAX_AGE": None}},
)


@require_POST
def like(request: HttpRequest, post: int) -> JsonResponse:
    """Count one like and answer with the new total."""
    with connection.cursor() as cursor:
        cursor.execute("UPDATE naive_post SET likes = likes + 1 WHERE id = %s RETURNING likes", [post])
        row = cursor.fetchone()
    if row is None:
        raise Http404
    return JsonResponse({"post": post, "likes": row[0]}, status=202, headers=HEADERS, json_dumps_params=COMPACT)


def make_table() -> None:
    """Make the table with its posts, where it is missing."""
    with connection.cursor() as cursor:
        cursor.execute("CREATE TABLE IF NOT EXISTS naive_post (id bigint PRIMARY KEY, likes bigint NOT NULL DEFAULT 0)")
        fill = "INSERT INTO naive_post (id) SELECT generate_series(1, %s) ON CONFLICT DO NOTHING"
        cursor.execute(fill, [POSTS])
    connection.close()


urlpatterns = [path("api/v1/posts/<int:post>/like", like)]
application = get_wsgi_application()
make_table()
