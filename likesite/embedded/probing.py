"""Asking a server on a unix socket whether it is ready; knows no protocol."""

import socket
import time
from collections.abc import Callable
from pathlib import Path

ASK_SECONDS = 1.0


class NotReady(Exception):
    """A server did not answer in time; the message names it and says what it answered last."""


def wait_until(complaint: Callable[[], str], name: str, timeout: float) -> None:
    """Ask until there is no `complaint` left (""); NotReady, naming the server, after `timeout` seconds."""
    deadline = time.monotonic() + timeout
    while problem := complaint():
        if time.monotonic() > deadline:
            raise NotReady(f"{name} is not ready after {timeout:g} s: {problem}")
        time.sleep(0.05)


def ask(path: Path, message: bytes, good: Callable[[bytes], bool]) -> str:
    """Send `message` to the socket at `path`; "" when the answer is good, else what is wrong."""
    with socket.socket(socket.AF_UNIX) as connection:
        connection.settimeout(ASK_SECONDS)
        try:
            connection.connect(str(path))
            connection.sendall(message)
            answer = connection.recv(1024)
        except OSError as error:
            return str(error)
    return "" if answer and good(answer) else answer.decode(errors="replace") or "it hung up"
