"""Every setting, read from the environment and checked at start; knows addresses and limits, no behaviour."""

from __future__ import annotations

import warnings
from pathlib import Path
from typing import Any

from django.core.exceptions import ImproperlyConfigured
from redis.backoff import NoBackoff
from redis.retry import Retry

from likes.ids import MAX_ID
from likesite import embedded
from likesite.environment import env, is_fault, number, redis_arguments, switch, whole

BASE_DIR = Path(__file__).resolve().parent.parent


# --- The servers. Unset means the embedded ones of LIKES_DATA_DIR.
LIKES_DATA_DIR = Path(env.str("LIKES_DATA_DIR", str(BASE_DIR / ".data"))).resolve()
_embedded = embedded.urls(LIKES_DATA_DIR)
REDIS_URL: str = env.str("REDIS_URL", "") or _embedded["REDIS_URL"]
CELERY_BROKER_URL: str = env.str("CELERY_BROKER_URL", "") or _embedded["CELERY_BROKER_URL"]
_database_url = env.str("DATABASE_URL", "") or _embedded["DATABASE_URL"]
DATABASES = {"default": env.db_url_config(_database_url)}
if DATABASES["default"].get("ENGINE") != "django.db.backends.postgresql":
    raise ImproperlyConfigured("DATABASE_URL must be a postgres:// address: the ledger is PostgreSQL's")
_options: dict[str, Any] = DATABASES["default"].setdefault("OPTIONS", {})
_options.update(
    connect_timeout=2,  # seconds
    keepalives_idle=5,  # seconds; with the two below, a host that vanished is noticed within 11 s
    keepalives_interval=2,
    keepalives_count=3,
    # Milliseconds. The transaction of a flush sets tighter limits of its own.
    options="-c statement_timeout=15000 -c lock_timeout=5000 -c idle_in_transaction_session_timeout=30000 "
    + _options.get("options", ""),
)
DATABASES["default"]["CONN_HEALTH_CHECKS"] = True
DEFAULT_AUTO_FIELD = "django.db.models.BigAutoField"

# --- Counting (docs/architecture.md).
LIKES_PREFIX: str = env.str("LIKES_PREFIX", "likes")
if not LIKES_PREFIX.isascii() or not LIKES_PREFIX.replace("-", "").replace("_", "").isalnum():
    raise ImproperlyConfigured(
        "LIKES_PREFIX must be letters, digits, - and _ only: it becomes part of a key's hash tag"
    )
LIKES_SHARDS = whole("LIKES_SHARDS", 8, low=1, high=100)
LIKES_FLUSH_SECONDS = number("LIKES_FLUSH_SECONDS", 1.0, low=0.1, high=3600)
LIKES_ADOPT_SECONDS = number("LIKES_ADOPT_SECONDS", 3.0, low=0, high=3600)
LIKES_BATCH_POSTS = whole("LIKES_BATCH_POSTS", 5_000, low=1, high=50_000)
LIKES_IDEMPOTENCY_SECONDS = whole("LIKES_IDEMPOTENCY_SECONDS", 3_600, low=1, high=31_536_000)
LIKES_STALE_SECONDS = number("LIKES_STALE_SECONDS", 30.0, low=1, high=86_400)
LIKES_STREAMS = whole("LIKES_STREAMS", 10_000, low=1, high=1_000_000)  # of one web process: anybody may open one
LIKES_STREAMS_PER_ADDRESS = whole("LIKES_STREAMS_PER_ADDRESS", 0, low=0, high=1_000_000)  # 0: as many as there are
LIKES_BARRIER: str = env.str("LIKES_BARRIER", "on")
if LIKES_BARRIER not in ("on", "off"):
    raise ImproperlyConfigured(f"LIKES_BARRIER must be on or off, not {LIKES_BARRIER!r}")
LIKES_DEMO: bool = switch("LIKES_DEMO", False)
LIKES_INFLIGHT = whole("LIKES_INFLIGHT", 10_000, low=1_000, high=1_000_000)
LIKES_FASTLANE = switch("LIKES_FASTLANE", True)
LIKES_API_TOKENS: list[str] = env.list("LIKES_API_TOKENS", default=[])
LOCUST_PORT = whole("LOCUST_PORT", 8089, low=1, high=65535)  # the page of a demo links to it

# --- Django.
DEBUG: bool = switch("DEBUG", False)
SECRET_KEY: str = env.str("SECRET_KEY", "") or embedded.secret(LIKES_DATA_DIR, "secret_key") or ""
if not SECRET_KEY:
    raise ImproperlyConfigured("SECRET_KEY is unset, and no start has kept one in LIKES_DATA_DIR: set SECRET_KEY")
ALLOWED_HOSTS: list[str] = env.list("ALLOWED_HOSTS", default=["localhost", "127.0.0.1", "[::1]"])
CSRF_TRUSTED_ORIGINS: list[str] = env.list("CSRF_TRUSTED_ORIGINS", default=[])
CSRF_COOKIE_SECURE = SESSION_COOKIE_SECURE = switch("COOKIES_SECURE", False)
SECURE_PROXY_SSL_HEADER = ("HTTP_X_FORWARDED_PROTO", "https") if switch("BEHIND_TLS_PROXY", False) else None
ROOT_URLCONF = "likesite.urls"
ASGI_APPLICATION = "likesite.asgi.application"
WSGI_APPLICATION = None
APPEND_SLASH = False
CSRF_FAILURE_VIEW = "likes.problems.csrf_failure"
USE_TZ = True
TIME_ZONE = "UTC"
LANGUAGE_CODE = "en-us"
DATA_UPLOAD_MAX_MEMORY_SIZE = 64 * 1024  # bytes; a larger body is answered 413

INSTALLED_APPS = [
    "django.contrib.admin",
    "django.contrib.auth",
    "django.contrib.contenttypes",
    "django.contrib.sessions",
    "django.contrib.messages",
    "whitenoise.runserver_nostatic",
    "django.contrib.staticfiles",
    "corsheaders",
    "rest_framework",
    "drf_spectacular",
    "drf_spectacular_sidecar",
    "likesite",
    "likes",
]
MIDDLEWARE = [
    "django.middleware.security.SecurityMiddleware",
    "whitenoise.middleware.WhiteNoiseMiddleware",
    "corsheaders.middleware.CorsMiddleware",
    "django.contrib.sessions.middleware.SessionMiddleware",
    "django.middleware.common.CommonMiddleware",
    "django.middleware.csrf.CsrfViewMiddleware",
    "django.contrib.auth.middleware.AuthenticationMiddleware",
    "django.contrib.messages.middleware.MessageMiddleware",
    "django.middleware.clickjacking.XFrameOptionsMiddleware",
    "likes.bodies.refuse_large_bodies",  # last: see there
]
TEMPLATES = [
    {
        "BACKEND": "django.template.backends.django.DjangoTemplates",
        "APP_DIRS": True,
        "OPTIONS": {
            "context_processors": [
                "django.template.context_processors.request",
                "django.contrib.auth.context_processors.auth",
                "django.contrib.messages.context_processors.messages",
            ]
        },
    }
]
AUTH_PASSWORD_VALIDATORS = [
    {"NAME": f"django.contrib.auth.password_validation.{name}"}
    for name in ("UserAttributeSimilarityValidator", "MinimumLengthValidator", "CommonPasswordValidator")
]
STATIC_URL = "/static/"
STATIC_ROOT = BASE_DIR / "staticfiles"
# A clone serves its assets where they lie, and has no folder of collected ones to be warned about.
WHITENOISE_USE_FINDERS = True
warnings.filterwarnings("ignore", "No directory at", module="whitenoise|django")

# --- REST.
REST_FRAMEWORK: dict[str, Any] = {
    "DEFAULT_RENDERER_CLASSES": ["rest_framework.renderers.JSONRenderer"],
    "DEFAULT_PARSER_CLASSES": ["likes.bodies.StrictJSONParser"],
    "DEFAULT_CONTENT_NEGOTIATION_CLASS": "likes.bodies.Negotiation",
    "DEFAULT_AUTHENTICATION_CLASSES": [
        "likes.authentication.BearerAuthentication",  # first: its challenge makes a refusal a 401
        "rest_framework.authentication.SessionAuthentication",
    ],
    "DEFAULT_PERMISSION_CLASSES": ["rest_framework.permissions.IsAdminUser"],
    "EXCEPTION_HANDLER": "likes.exceptions.handler",
    "NON_FIELD_ERRORS_KEY": "body",
    "DEFAULT_SCHEMA_CLASS": "drf_spectacular.openapi.AutoSchema",
}
SPECTACULAR_SETTINGS: dict[str, Any] = {
    "TITLE": "likesite",
    "DESCRIPTION": "Likes at very high rates, every one counted exactly once.",
    "VERSION": "1",
    "SERVE_INCLUDE_SCHEMA": False,
    "SWAGGER_UI_DIST": "SIDECAR",
    "SWAGGER_UI_FAVICON_HREF": "SIDECAR",
    "SERVE_AUTHENTICATION": [],
    "SERVE_PERMISSIONS": ["rest_framework.permissions.AllowAny"],
    "PATH_CONVERTER_OVERRIDES": {"post": {"type": "integer", "minimum": 1, "maximum": MAX_ID}},
    "POSTPROCESSING_HOOKS": ["drf_spectacular.hooks.postprocess_schema_enums", "likes.openapi.add_streams"],
}
CORS_ALLOW_ALL_ORIGINS = LIKES_DEMO
CORS_ALLOWED_ORIGINS: list[str] = env.list("CORS_ALLOWED_ORIGINS", default=[])
CORS_EXPOSE_HEADERS = ["Idempotent-Replayed", "Retry-After"]
CORS_ALLOW_HEADERS = ["accept", "authorization", "content-type", "idempotency-key", "last-event-id", "x-csrftoken"]

# --- Live totals. No retries: a publish that was lost is made good by the next flush, a doubled one is not worth it.
# (redis-py's own default is ten: a flush would be held up 15 s by each announcement to a frozen Redis.)
EVENTSTREAM_REDIS = redis_arguments(REDIS_URL) | {
    "socket_timeout": 1.0,  # seconds
    "socket_connect_timeout": 0.5,  # seconds
    "retry": Retry(NoBackoff(), 0),
}

# --- Celery.
CELERY_TASK_IGNORE_RESULT = True
CELERY_WORKER_PREFETCH_MULTIPLIER = 1  # a task fetched ahead would wait behind one that drains for 30 s
CELERY_TASK_TIME_LIMIT = 90  # seconds; ends what hangs on a frozen server, the next tick adopts its batch
CELERY_BROKER_CONNECTION_RETRY_ON_STARTUP = True
CELERY_BROKER_TRANSPORT_OPTIONS = {"socket_timeout": 5.0, "socket_connect_timeout": 2.0}  # seconds
CELERY_WORKER_HIJACK_ROOT_LOGGER = False
CELERY_BEAT_SCHEDULE = {
    "tick": {
        "task": "likes.tick",
        "schedule": LIKES_FLUSH_SECONDS,
        "options": {"expires": 30},  # seconds; well above the clock skew of two machines
    },
    "retain": {"task": "likes.retain", "schedule": 3600.0, "options": {"expires": 600}},
}


LOGGING = {
    "version": 1,
    "disable_existing_loggers": False,
    "formatters": {"line": {"format": "%(asctime)s %(levelname)s %(name)s %(message)s"}},
    "handlers": {"stderr": {"class": "logging.StreamHandler", "formatter": "line"}},
    "loggers": {
        # Two lines for each of our ticks would bury the one line for each flush.
        "celery.worker.strategy": {"level": "WARNING"},
        "celery.app.trace": {"level": "WARNING"},
        "django.request": {"filters": ["faults"]},
    },
    "filters": {"faults": {"()": "django.utils.log.CallbackFilter", "callback": is_fault}},
    "root": {"handlers": ["stderr"], "level": env.str("LOG_LEVEL", "INFO")},
}
