"""A Django project that does nothing but stream: django-eventstream's own view, with Redis behind it."""

import os
from urllib.parse import unquote, urlsplit

SECRET_KEY = os.environ["SECRET_KEY"]
DEBUG = False
ALLOWED_HOSTS = ["127.0.0.1"]
ROOT_URLCONF = "bench.peers.eventstream_django.urls"
ASGI_APPLICATION = "bench.peers.eventstream_django.asgi.application"
INSTALLED_APPS = ["django_eventstream"]
MIDDLEWARE: list[str] = []  # nothing that a stream would pay for
USE_TZ = True
EVENTSTREAM_REDIS = {"unix_socket_path": unquote(urlsplit(os.environ["REDIS_URL"]).path)}
