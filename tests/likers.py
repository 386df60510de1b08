"""Threads that like posts until they are told to stop, and the outcome of every like; knows no server."""

from __future__ import annotations

import http.client
import threading
from collections import Counter
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor

from django.db import connection

from likes.buffer import Unavailable
from likesite.loadtest.outcome import Outcome, judge
from tests.doors import Door

Like = Callable[[int], Outcome]


class Likers:
    """`threads` likers of `posts` through `like`. `told`: how many likes had which outcome, so far."""

    def __init__(self, like: Like, posts: list[int], threads: int) -> None:
        self.like, self.posts = like, posts
        self.told: Counter[Outcome] = Counter()
        self._done, self._lock = threading.Event(), threading.Lock()
        self._pool = ThreadPoolExecutor(threads)
        self._running = [self._pool.submit(self._run, seed) for seed in range(threads)]

    @property
    def acknowledged(self) -> int:
        return self.told[Outcome.ACKNOWLEDGED]

    @property
    def turned_away(self) -> int:
        return self.told[Outcome.NOT_APPLIED] + self.told[Outcome.UNKNOWN]

    def _run(self, seed: int) -> None:
        turn = seed
        while not self._done.is_set():
            turn += 1
            outcome = self.like(self.posts[turn % len(self.posts)])
            with self._lock:
                self.told[outcome] += 1
            if outcome is not Outcome.ACKNOWLEDGED:
                self._done.wait(0.02)  # as a client that was told to come back later
        connection.close()

    def end(self) -> None:
        """Let every liker end with an outcome."""
        self._done.set()
        for one in self._running:
            one.result(60)
        self._pool.shutdown()

    def hold(self, counted: int) -> None:
        """Hold what was counted against what was told: nothing that was acknowledged lost, nothing counted twice."""
        assert set(self.told) <= {Outcome.ACKNOWLEDGED, Outcome.NOT_APPLIED, Outcome.UNKNOWN}
        assert self.acknowledged <= counted <= self.acknowledged + self.told[Outcome.UNKNOWN], self.told


def through(door: Door) -> Like:
    """Like through a door of this process."""

    def like(post: int) -> Outcome:
        try:
            door.like(post)
        except Unavailable as error:
            return Outcome.UNKNOWN if error.outcome == "unknown" else Outcome.NOT_APPLIED
        return Outcome.ACKNOWLEDGED

    return like


def over_http(port: int) -> Like:
    """Like over one connection a thread, kept open for as long as it lasts."""
    mine = threading.local()

    def like(post: int) -> Outcome:
        if not hasattr(mine, "connection"):
            mine.connection = http.client.HTTPConnection("127.0.0.1", port, timeout=20)
        try:
            mine.connection.request("POST", f"/api/v1/posts/{post}/like")
            answer = mine.connection.getresponse()
            return judge(answer.status, answer.read(), None)
        except (OSError, http.client.HTTPException) as error:
            mine.connection.close()
            return judge(0, None, error)

    return like
