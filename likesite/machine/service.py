"""Asking the service that runs here, over HTTP, and waiting until it is ready. Starts and stops nothing."""

import http.client
import json
import time
import urllib.error
import urllib.request
from pathlib import Path

from likesite.machine.plan import Machine
from likesite.machine.supervision import Failed

READY_SECONDS = 60.0  # web is up in 2 s; a database that recovers from a power cut may take a minute
LOG_LINES = 15


def ask(machine: Machine, path: str, method: str = "GET", timeout: float = 3.0) -> tuple[int, str]:
    """Status and body of one request to the running service; Failed when nothing answers within `timeout` seconds."""
    request = urllib.request.Request(machine.base_url + path, method=method)
    opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))  # the service is here, whatever the proxy
    try:
        with opener.open(request, timeout=timeout) as response:
            return response.status, response.read().decode()
    except urllib.error.HTTPError as error:
        return error.code, error.read().decode()
    except (OSError, http.client.HTTPException) as error:
        raise Failed(f"nothing answers at {machine.base_url}: {error}") from error


def complaint(machine: Machine) -> str:
    """Why the service is not ready, "" when it is."""
    try:
        status, body = ask(machine, "/ready")
    except Failed as failure:
        return str(failure)
    return "" if status == 200 else _why(body)


def _why(body: str) -> str:
    """What a problem document of /ready complains of, or the body itself when it is none."""
    try:
        parts = json.loads(body)["parts"]
        return "; ".join(problem for part in parts.values() for problem in part.get("problems", []))
    except (ValueError, KeyError, TypeError, AttributeError):
        return body


def wait_ready(machine: Machine) -> None:
    deadline = time.monotonic() + READY_SECONDS
    while reason := complaint(machine):
        if time.monotonic() > deadline:
            raise Failed(f"not ready after {READY_SECONDS:g} s: {reason}\n{tail(machine.run / 'logs' / 'web.log')}")
        time.sleep(0.1)


def tail(path: Path) -> str:
    """The end of a log, under its name."""
    return f"--- {path}\n{last_lines(path.read_text(errors='replace')) if path.exists() else ''}"


def last_lines(text: str) -> str:
    return "\n".join(text.strip().splitlines()[-LOG_LINES:])
