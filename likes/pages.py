"""The page at `/`: the newest posts with their live totals. Knows no keys, no SQL and no way to count."""

from __future__ import annotations

import logging
import re
from collections.abc import Callable
from functools import wraps
from http import HTTPStatus

from django.conf import settings
from django.db import Error as DatabaseError
from django.http import HttpRequest, HttpResponse
from django.http.request import split_domain_port
from django.shortcuts import redirect, render
from django.templatetags.static import static
from django.views.decorators.cache import never_cache
from django.views.decorators.csrf import csrf_exempt

from likes import counts, problems
from likes.buffer import Unavailable
from likes.ids import MAX_ID
from likes.models import Post

POSTS = 20  # posts a page: one screen or two, and far below the 100 that a stream may ask for
RETRY_SECONDS = 5  # for a browser that met no database
NO_POSTS = "The posts cannot be read right now: the database is away. Likes of known posts are still being counted."
NO_TOTALS = "Totals cannot be read right now. Nothing is lost, and they are back as soon as Redis is."
UNKNOWN = "\N{EN DASH}"  # in place of a total: the persisted one may be lower than what was shown before

BEFORE = f"must be the id of a post, a whole number up to {MAX_ID}"
ID = re.compile(r"[0-9]{1,19}")
SAFE = ("GET", "HEAD")

View = Callable[[HttpRequest], HttpResponse]

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


def safe_only(view: View) -> View:
    """Refuse other methods than GET and HEAD with a problem document; behind that, no form needs a token."""

    @csrf_exempt
    @wraps(view)
    def checked(request: HttpRequest) -> HttpResponse:
        return view(request) if request.method in SAFE else problems.not_allowed(request, ", ".join(SAFE))

    return checked


@safe_only
@never_cache
def home(request: HttpRequest) -> HttpResponse:
    """Render the newest posts, or with `?before=ID` those older than it; 400 names a bad `before`, 503 has no posts."""
    before = request.GET.get("before", str(MAX_ID))
    if not ID.fullmatch(before) or int(before) > MAX_ID:
        return problems.answer(HTTPStatus.BAD_REQUEST, f"before: {BEFORE}", errors={"before": [BEFORE]})
    try:
        posts = list(Post.objects.filter(pk__lt=int(before)).order_by("-pk")[: POSTS + 1])
    except DatabaseError:
        log.warning("the page has no posts: the database is away", exc_info=True)
        return page(request, {"note": NO_POSTS}, status=503)
    return page(request, listing(posts[:POSTS], more=len(posts) > POSTS))


@safe_only
def favicon(request: HttpRequest) -> HttpResponse:
    """Send browsers from the address they guess to the icon."""
    return redirect(static("likes/favicon.svg"))


def listing(posts: list[Post], *, more: bool) -> dict[str, object]:
    """Return what the template shows of `posts`: those still there with live totals; a note where they are unknown."""
    older = posts[-1].pk if more else None
    try:
        totals = counts.totals(post.pk for post in posts)
    except Unavailable:
        return {"rows": [row(post, None) for post in posts], "note": NO_TOTALS, "older": older}
    return {"rows": [row(post, totals[post.pk].likes) for post in posts if post.pk in totals], "older": older}


def row(post: Post, likes: int | None) -> dict[str, object]:
    """Return what the template shows of one post."""
    return {"post": post, "likes": likes, "shown": UNKNOWN if likes is None else f"{likes:,}"}


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
