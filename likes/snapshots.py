"""Reads the totals that streams begin with: few large reads, however many streams come back at once.

Must not know what it reads from: the reader is passed in, blocks, and may fail for as long as it likes.
"""

from __future__ import annotations

import asyncio
import logging
from collections import deque
from collections.abc import Callable, Iterable, Mapping
from concurrent.futures import ThreadPoolExecutor
from typing import Protocol

from likes.mailboxes import Mailbox

logger = logging.getLogger(__name__)

POSTS_A_READ = 500  # a few milliseconds of Redis; also what one cold post can hold up while PostgreSQL is away
LONGEST_PAUSE = 1.0  # seconds between two reads while none succeeds


class Total(Protocol):
    """What a read says of one post."""

    @property
    def likes(self) -> int:
        """The live total."""

    @property
    def version(self) -> int:
        """The version of its shard at that moment."""


Read = Callable[[list[int]], Mapping[int, Total]]
Asked = dict[int, set[Mailbox]]  # post → the streams that wait for it


class Snapshots:
    """One reader for all streams of a process. No stream awaits another's read: a mailbox is told, never a future."""

    def __init__(self, read: Read, arrived: Callable[[Asked, Mapping[int, Total]], None]) -> None:
        self._read = read
        self._arrived = arrived
        self._fresh: Asked = {}
        self._refused: deque[Asked] = deque()
        self._work = asyncio.Event()
        self._pause = 0.0
        # One thread: a read at a time is what keeps the reads few.
        self._thread = ThreadPoolExecutor(max_workers=1, thread_name_prefix="snapshots")

    def ask(self, posts: Iterable[int], mailboxes: Iterable[Mailbox]) -> None:
        """Have `posts` read, by a read that begins after now, for these streams."""
        waiting = set(mailboxes)
        for post in posts:
            self._fresh.setdefault(post, set()).update(waiting)
        self._work.set()

    async def run(self) -> None:
        """Read what is asked for, until cancelled."""
        try:
            while True:
                asked = still_wanted(await self._next())
                if asked:
                    await self._answer(asked)
        finally:
            self._thread.shutdown(wait=False, cancel_futures=True)

    async def _next(self) -> Asked:
        """Return what was never read before what was refused, which a pause is due to."""
        while not self._fresh:
            self._work.clear()
            try:
                async with asyncio.timeout(self._pause if self._refused else None):
                    await self._work.wait()
            except TimeoutError:
                return self._refused.popleft()
        posts = [post for post, _ in zip(self._fresh, range(POSTS_A_READ), strict=False)]
        return {post: self._fresh.pop(post) for post in posts}

    async def _answer(self, asked: Asked) -> None:
        try:
            found = await asyncio.get_running_loop().run_in_executor(self._thread, self._read, list(asked))
        except Exception as error:  # noqa: BLE001 - whatever a reader raises, the streams wait and it is asked again
            self._refuse(asked, error)
        else:
            self._pause = 0.0
            self._arrived(asked, found)

    def _refuse(self, asked: Asked, error: Exception) -> None:
        """Ask again later, and in halves: with PostgreSQL away, one cold post fails the read of many warm ones."""
        if not self._pause:
            logger.warning("the snapshot of %d posts has to wait: %s", len(asked), error, exc_info=error)
        self._pause = min(LONGEST_PAUSE, max(0.1, self._pause * 2))
        posts = list(asked)
        half = len(posts) // 2
        self._refused.extend({post: asked[post] for post in part} for part in (posts[:half], posts[half:]) if part)


def still_wanted(asked: Asked) -> Asked:
    """Return what streams that are still open wait for."""
    waiting = ((post, {mailbox for mailbox in mailboxes if not mailbox.closed}) for post, mailboxes in asked.items())
    return {post: mailboxes for post, mailboxes in waiting if mailboxes}
