"""Draws up a run's certificate from what the service says, and waits for it to say so. Knows no Locust."""

import time
from collections.abc import Callable, Mapping
from typing import TypeVar

from likesite.loadtest.certificate import Certificate, Told
from likesite.loadtest.service import Away, Refused, Service, patiently

QUIET_SECONDS = 2.0
"""Before the first read when outcomes are unknown: the service decides a like within 1.5 s, client or no client."""
READ_SECONDS = 60.0
"""How long a service that is away may take to come back before its totals count as unreadable."""
PERSIST_SECONDS = 120.0
"""How long likes may stay pending before the run counts as undecided."""
POLL_SECONDS = 0.25

T = TypeVar("T")


class Notary:
    """Reads one run's totals. `say` is told of the progress, in words."""

    def __init__(self, service: Service, say: Callable[[str], None]) -> None:
        self._service = service
        self._say = say
        self._ended = time.monotonic()

    def certify(self, certificate: Certificate, told: Mapping[int, Told], posts: list[int], whole: bool) -> None:
        """Fill in what is counted and persisted. Takes at most QUIET + READ + PERSIST seconds and some requests."""
        if certificate.unknown:
            time.sleep(QUIET_SECONDS)
        try:
            first = self._patiently(lambda: self._service.live(posts))
            last = self._await_persisted(certificate, list(first))
        except (Away, Refused) as error:
            certificate.doubts.append(f"the totals could not be read: {error}")
            return
        certificate.counted = sum((first | last).values())
        certificate.doubts += [f"post {post} is gone" for post in posts if post not in first]
        certificate.weigh(told, first, {post: last.get(post, first[post]) for post in first}, whole)

    def _await_persisted(self, certificate: Certificate, posts: list[int]) -> dict[int, int]:
        """The totals of all posts of which nothing is pending any more; a doubt when some stay behind."""
        settled: dict[int, int] = {}
        pending = 0
        while self._elapsed() < PERSIST_SECONDS:
            pending = self._look(settled, posts)
            if not pending:
                certificate.persisted, certificate.persisted_after = sum(settled.values()), self._elapsed()
                return settled
            self._say(f"{pending} likes not persisted yet, {self._elapsed():.0f} s after the load ended")
            time.sleep(POLL_SECONDS)
        certificate.doubts.append(f"{pending} likes were not persisted within {PERSIST_SECONDS:.0f} s")
        return settled

    def _look(self, settled: dict[int, int], posts: list[int]) -> int:
        """One look at every post that is not settled; answers how many likes are pending."""
        pending = 0
        for post in posts:
            if post in settled:
                continue
            total = self._patiently(lambda: self._service.total(post))  # noqa: B023 (called before `post` moves on)
            pending += total.pending
            if not total.pending:
                settled[post] = total.likes
        return pending

    def _patiently(self, read: Callable[[], T]) -> T:
        return patiently(read, READ_SECONDS, self._say)

    def _elapsed(self) -> float:
        return time.monotonic() - self._ended
