"""What the likes of this process made of totals, told to the streams some times a second and not once for each like.

A web process opens it; elsewhere telling does nothing, and the next flush tells. Knows posts, totals and versions, and
must not know HTTP, how likes are counted, or who listens.
"""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from itertools import islice

from likes import events
from likes.events import Told
from likes.values import Counted, Like

log = logging.getLogger(__name__)

PAUSE_SECONDS = 0.05  # between two messages: at most 20 a second; the first after a silence goes at once
AWAY_SECONDS = 0.25  # between two attempts while Redis is away
CLOSE_SECONDS = 3.0  # for what waits at the end; one attempt takes up to 1.5 s (EVENTSTREAM_REDIS)
MOST_WAITING = 20 * events.POSTS_A_MESSAGE  # a second's worth; of more posts the next flush tells


class Announcer:
    """The latest total of each post that is yet to be told, and a thread that tells. Any thread may call it."""

    def __init__(self, announce: Callable[[Mapping[int, Told]], None] = events.announce) -> None:
        self._announce = announce
        self._open = False
        self._lock = threading.Lock()
        self._waiting: dict[int, Told] = {}
        self._work = threading.Event()
        self._thread: threading.Thread | None = None
        self._away = False

    def open(self) -> None:
        """Tell from now on; the thread starts with the first total."""
        self._work.clear()
        self._open = True

    def tell(self, post: int, total: int, version: int, added: int) -> None:
        """Have the streams told that likes `added` so much to a post, to a live `total` at `version`."""
        self.tell_all([(post, (total, version, added))])

    def tell_all(self, news: Iterable[tuple[int, Told]]) -> None:
        """The same for many posts, each with its total, version and growth.

        Costs about a microsecond each, waits for nobody and never fails; of a post's totals only the latest is kept.
        """
        if not self._open:
            return
        with self._lock:
            waiting = self._waiting
            for post, told in news:
                known = waiting.get(post)
                if known is not None:
                    waiting[post] = joined(known, told)
                elif len(waiting) < MOST_WAITING:
                    waiting[post] = told
        if not self._work.is_set():
            self._wake()

    def tell_likes(self, likes: Sequence[Like], answers: Sequence[object]) -> None:
        """The same for likes and what each was answered; those that were not counted now say nothing."""
        if not self._open:
            return
        self.tell_all(
            (like.post, (counted.total.likes, counted.total.version, like.count))
            for like, counted in zip(likes, answers, strict=False)  # no answers to a call that was one before
            if isinstance(counted, Counted) and not counted.replayed
        )

    def close(self) -> None:
        """Tell what waits, within CLOSE_SECONDS, and nothing from then on."""
        self._open = False
        self._work.set()
        if self._thread is not None:
            self._thread.join(CLOSE_SECONDS)

    def _wake(self) -> None:
        with self._lock:
            self._work.set()
            if self._thread is None or not self._thread.is_alive():  # none yet, or none in a process that was forked
                thread = threading.Thread(target=self._run, name="announcer", daemon=True)
                try:
                    thread.start()
                except RuntimeError as error:  # the system has no more threads, or the process is ending
                    log.warning("live updates have to wait: %s", error)
                    self._work.clear()
                else:
                    self._thread = thread

    def _run(self) -> None:
        while self._open or self._waiting:
            self._work.wait()
            self._work.clear()  # before the look: a total that comes after it sets the event again
            if posts := self._take():
                self._send(posts)
                if self._away and not self._open:
                    break
                time.sleep(AWAY_SECONDS if self._away else PAUSE_SECONDS)
                if self._waiting:
                    self._work.set()

    def _send(self, posts: Mapping[int, Told]) -> None:
        try:
            self._announce(posts)
        except events.Unheard as error:
            level = logging.DEBUG if self._away else logging.WARNING  # one line an outage
            log.log(level, "live updates have to wait: %s", error)
            self._away = True
            self._put_back(posts)
        except Exception:  # a fault of ours must not silence all that comes after; these are told by the next flush
            log.exception("live updates of %d posts failed", len(posts))
        else:
            self._away = False

    def _take(self) -> dict[int, Told]:
        """Return one message's worth of the posts that waited longest."""
        with self._lock:
            taken = dict(islice(self._waiting.items(), events.POSTS_A_MESSAGE))
            for post in taken:
                del self._waiting[post]
        return taken

    def _put_back(self, posts: Mapping[int, Told]) -> None:
        with self._lock:
            for post, told in posts.items():
                later = self._waiting.get(post)
                self._waiting[post] = told if later is None else joined(told, later)


def joined(one: Told, other: Told) -> Told:
    """Return two totals of a post as one: the newer, with the growth since the earlier of their beginnings."""
    total, version, _ = other if other[1] >= one[1] else one
    return total, version, total - min(one[0] - one[2], other[0] - other[2])


announcer = Announcer()
