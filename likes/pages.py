"""The page at `/`: the newest posts with their live totals. Knows no keys, no SQL and no way to count."""

from __future__ import annotations

import logging
import re

from django.conf import settings
from django.db import Error as DatabaseError
from django.http import HttpRequest, HttpResponse, HttpResponseBadRequest
from django.http.request import split_domain_port
from django.shortcuts import redirect, render
from django.templatetags.static import static
from django.views.decorators.cache import never_cache
from django.views.decorators.http import require_safe

from likes import counts
from likes.buffer import Unavailable
from likes.ids import MAX_ID
from likes.models import Post

POSTS = 20  # posts a page: one screen or two, and far below the 100 that a stream may ask for
RETRY_SECONDS = 5  # for a browser that met no database
NO_POSTS = "The posts cannot be read right now: the database is away. Likes of known posts are still being counted."
NO_TOTALS = "Live totals cannot be read right now: what you see is as of the last flush."

ID = re.compile(r"[0-9]{1,19}")

log = logging.getLogger(__name__)

# Nothing inline and nothing from elsewhere, so the policy can be this short.
POLICY = "; ".join(
    [
        "default-src 'none'",
        *(f"{kind}-src 'self'" for kind in ("script", "style", "img", "connect")),
        "form-action 'self'",
        "base-uri 'none'",
        "frame-ancestors 'none'",
    ]
)


@never_cache
@require_safe
def home(request: HttpRequest) -> HttpResponse:
    """Render the newest posts, or with `?before=ID` those older than it; 400 names a bad `before`, 503 has no posts."""
    before = request.GET.get("before", str(MAX_ID))
    if not ID.fullmatch(before) or int(before) > MAX_ID:
        return HttpResponseBadRequest(f"before must be the id of a post, a whole number up to {MAX_ID}")
    try:
        posts = list(Post.objects.filter(pk__lt=int(before)).order_by("-pk")[: POSTS + 1])
    except DatabaseError:
        log.warning("the page has no posts: the database is away", exc_info=True)
        return page(request, {"note": NO_POSTS}, status=503)
    return page(request, listing(posts[:POSTS], more=len(posts) > POSTS))


@require_safe
def favicon(request: HttpRequest) -> HttpResponse:
    """Send browsers from the address they guess to the icon."""
    return redirect(static("likes/favicon.svg"))


def listing(posts: list[Post], *, more: bool) -> dict[str, object]:
    """Return what the template shows of `posts`: live totals, or the persisted ones and a note when Redis is away."""
    try:
        totals = {post: total.likes for post, total in counts.totals([post.pk for post in posts]).items()}
        note = ""
    except Unavailable:
        totals, note = {}, NO_TOTALS
    rows = [row(post, totals.get(post.pk, post.likes)) for post in posts]
    return {"rows": rows, "note": note, "older": posts[-1].pk if more else None}


def row(post: Post, likes: int) -> dict[str, object]:
    """Return what the template shows of one post."""
    return {"post": post, "likes": likes, "shown": f"{likes:,}"}


def page(request: HttpRequest, context: dict[str, object], status: int = 200) -> HttpResponse:
    """Render the template under the page's Content-Security-Policy."""
    host, _port = split_domain_port(request.get_host())
    locust = f"http://{host}:{settings.LOCUST_PORT}/"
    shown = context | {"locust": locust if settings.LIKES_DEMO else None}
    response = render(request, "likes/home.html", shown, status=status)
    response["Content-Security-Policy"] = POLICY
    if status == 503:
        response["Retry-After"] = str(RETRY_SECONDS)
    return response
