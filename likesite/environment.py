"""How settings are read: typed, strict, and refused by name. Knows no setting.

django-environ alone reads 1e3 as 13, 1m as 1, and any word that is not on its list as off.
"""

from __future__ import annotations

import logging
from typing import Any

import environ
from django.core.exceptions import ImproperlyConfigured
from redis.connection import SSLConnection, parse_url

env = environ.Env()


def number(name: str, default: float, *, low: float, high: float) -> float:
    """Return the number in the variable `name`; raise ImproperlyConfigured, by name, outside `low` to `high`."""
    text = env.str(name, "") or str(default)
    try:
        value = float(text)  # env.float would take 1e3 for 13 and 1m for 1
    except ValueError as error:
        raise ImproperlyConfigured(f"{name} must be a number, not {text!r}") from error
    if not low <= value <= high:
        raise ImproperlyConfigured(f"{name} must be between {low:g} and {high:g}, not {value:g}")
    return value


def whole(name: str, default: int, *, low: int, high: int) -> int:
    """Return the whole number in the variable `name`; raise ImproperlyConfigured, by name, where it is none."""
    value = number(name, default, low=low, high=high)
    if value != int(value):
        raise ImproperlyConfigured(f"{name} must be a whole number, not {value:g}")
    return int(value)


def switch(name: str, default: bool) -> bool:
    """Return whether the variable `name` says on; raise ImproperlyConfigured, by name, for what is neither."""
    text = env.str(name, "") or ("on" if default else "off")
    known = {"on": True, "true": True, "yes": True, "1": True, "off": False, "false": False, "no": False, "0": False}
    if text.lower() not in known:
        raise ImproperlyConfigured(f"{name} must be on or off, not {text!r}")
    return known[text.lower()]


def redis_arguments(url: str) -> dict[str, Any]:
    """Return what `redis.Redis(**…)` takes for `url`: django-eventstream takes arguments, not a URL."""
    try:
        arguments = dict(parse_url(url))
    except ValueError as error:
        raise ImproperlyConfigured(f"REDIS_URL: {error}") from error
    fixed = {"socket_timeout", "socket_connect_timeout", "protocol", "decode_responses", "max_connections"}
    if clash := sorted(fixed & arguments.keys()):  # in a URL they would win over what counting relies on
        raise ImproperlyConfigured(f"REDIS_URL must not set {', '.join(clash)}: likesite sets that itself")
    if arguments.pop("connection_class", None) is SSLConnection:
        arguments["ssl"] = True
    if "path" in arguments:
        arguments["unix_socket_path"] = arguments.pop("path")
    return arguments


def is_fault(record: logging.LogRecord) -> bool:
    """Tell whether what Django logs of an answer is a fault of ours: in an outage every 503 would be a line."""
    return getattr(record, "status_code", 500) == 500
