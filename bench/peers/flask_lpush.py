"""A peer: a Flask view that pushes each like onto a list in Redis, for somebody to count later."""

from __future__ import annotations

import os

from flask import Flask, Response
from redis import Redis

HEADERS = {
    "Allow": "POST, OPTIONS",
    "X-Frame-Options": "DENY",
    "Vary": "origin",
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "same-origin",
    "Cross-Origin-Opener-Policy": "same-origin",
}

application = Flask(__name__)
redis = Redis.from_url(os.environ["REDIS_URL"])


@application.post("/api/v1/posts/<int:post>/like")
def like(post: int) -> Response:
    """Take one like; the total it answers with is the length of the list, the best it has."""
    likes = redis.lpush("flask:likes", post)
    return Response(f'{{"post":{post},"likes":{likes}}}', 202, HEADERS, content_type="application/json")
