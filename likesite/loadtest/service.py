"""The few calls a certificate makes to the service, over HTTP. Not part of the load: Locust never times these."""

import json
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, TypeVar
from urllib.parse import urlencode

REQUEST_SECONDS = 5.0
"""One answer: the service itself gives up on its stores after 1.5 s."""
AGAIN_SECONDS = 0.25
"""Between two attempts while the service is away."""
CHUNK = 100
"""Posts in one read: the bound of the API."""


class Away(Exception):
    """The service did not answer, or not with what was asked; the message says which call and why."""


class Refused(Exception):
    """The service answered, and asking again would change nothing; the message says which call and why."""


T = TypeVar("T")


def patiently(call: Callable[[], T], seconds: float, say: Callable[[str], None]) -> T:
    """Call again while the service is away, for so long. Raises Away with the last reason, Refused at once."""
    deadline = time.monotonic() + seconds
    said = ""
    while True:
        try:
            return call()
        except Away as away:
            if time.monotonic() > deadline:
                raise
            if said != str(away):
                said = str(away)
                say(f"waiting for the service: {away}")
        time.sleep(AGAIN_SECONDS)


@dataclass(frozen=True)
class Total:
    """One post's likes as the service gives them."""

    likes: int
    persisted: int
    pending: int


class Service:
    """A likesite at an address, perhaps with a token for making posts."""

    def __init__(self, address: str, token: str | None = None) -> None:
        self._address = address.rstrip("/")
        self._headers = {"Content-Type": "application/json"} | ({"Authorization": f"Bearer {token}"} if token else {})
        # A proxy from the environment would stand between the certificate and what it certifies.
        self._opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))

    def make_post(self, title: str) -> int:
        """A new post, so that nobody else's likes are among the run's; answers its id. Raises Away, Refused."""
        return int(self._call("/api/v1/posts", {"title": title})["id"])

    def live(self, posts: Sequence[int]) -> dict[int, int]:
        """Live totals; posts that do not exist are left out. Raises Away, Refused."""
        totals: dict[int, int] = {}
        for start in range(0, len(posts), CHUNK):
            query = urlencode({"post": posts[start : start + CHUNK]}, doseq=True)
            totals |= {int(post): n for post, n in self._call(f"/api/v1/likes?{query}")["likes"].items()}
        return totals

    def total(self, post: int) -> Total:
        """One post, persisted and pending told apart. Raises Away, Refused."""
        answer = self._call(f"/api/v1/posts/{post}/likes")
        return Total(answer["likes"], answer["persisted"], answer["pending"])

    def _call(self, path: str, body: dict[str, Any] | None = None) -> Any:
        data = None if body is None else json.dumps(body).encode()
        request = urllib.request.Request(self._address + path, data=data, headers=self._headers)  # noqa: S310 (the address is ours)
        try:
            with self._opener.open(request, timeout=REQUEST_SECONDS) as answer:
                return json.load(answer)
        except urllib.error.HTTPError as error:
            hint = ": give a token in LIKES_API_TOKENS" if error.code in {401, 403} else ""
            words = f"{request.get_method()} {path} was answered {error.code}{hint}"
            raise (Refused if error.code < 500 else Away)(words) from error
        except (OSError, ValueError) as error:
            raise Away(f"{request.get_method()} {path}: {error}") from error
