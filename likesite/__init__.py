"""The deployment of likesite: settings, routes and processes. Counting lives in `likes`."""

from likesite.celery import app as celery_app

__all__ = ["celery_app"]
