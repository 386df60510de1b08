"""All streams of one process: one listener hears every update, and each stream's mailbox is told what it may want.

Belongs to one event loop, in which all of it runs; only snapshots are read in a thread. Must not know HTTP.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Iterable, Iterator, Mapping
from contextlib import aclosing, contextmanager
from typing import TypeVar

from likes import events
from likes.latest import UNKNOWN, Announced, Latest
from likes.mailboxes import Bell, EverythingMailbox, Mailbox, PipelineMailbox, PostsMailbox
from likes.snapshots import Asked, Read, Snapshots, Total

logger = logging.getLogger(__name__)

POSTS_KNOWN = 50_000  # about 18 MB; and how many distinct posts a reader of everything may be behind
POSTS_READ_AGAIN = 1_000  # of those that streams without a filter heard of last, after Redis was away
SHORTEST_PAUSE = 0.1  # seconds before the listener subscribes again
LONGEST_PAUSE = 1.0  # seconds
READ_AGAIN_SECONDS = 30.0  # an announcement that was lost (a worker killed right before it) is made good by then

M = TypeVar("M", bound=Mailbox)


class Hub:
    """Who listens to what in this process."""

    def __init__(self, read: Read, *, read_again_seconds: float = READ_AGAIN_SECONDS) -> None:
        self._read_again_seconds = read_again_seconds
        self._latest: dict[int, Latest] = {}  # of the posts that are filtered by, and of no others
        self._watching: dict[int, set[PostsMailbox]] = {}  # the same posts
        self._announced = Announced(POSTS_KNOWN)
        self._bell = Bell()
        self._filtered: set[PostsMailbox] = set()
        self._everything: set[EverythingMailbox] = set()
        self._pipeline: set[PipelineMailbox] = set()
        self._snapshots = Snapshots(read, self._arrived)
        self._tasks: list[asyncio.Task[None]] = []
        self._closed = False
        self._pause = SHORTEST_PAUSE

    def start(self) -> None:
        """Begin to listen and to read snapshots, in tasks of the running event loop."""
        work = (self._listen(), self._snapshots.run(), self._keep_reading())
        self._tasks = [asyncio.create_task(task) for task in work]

    @property
    def streams(self) -> int:
        """How many are open."""
        return len(self._filtered) + len(self._everything) + len(self._pipeline)

    def close(self) -> None:
        """End every stream, those opened from now on included."""
        self._closed = True
        for mailbox in (*self._filtered, *self._everything, *self._pipeline):
            mailbox.close()

    async def stop(self) -> None:
        """Close, and end the tasks."""
        self.close()
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    @contextmanager
    def posts(self, posts: Iterable[int]) -> Iterator[Mailbox]:
        """Open a stream of `posts`: it is told of changes from now on, and its snapshot is read after now."""
        mailbox = PostsMailbox(self._bell, {post: self._latest.setdefault(post, Latest(post)) for post in posts})
        for post in mailbox.posts:
            self._watching.setdefault(post, set()).add(mailbox)
        self._snapshots.ask(mailbox.posts, [mailbox])
        try:
            with self._open(mailbox, self._filtered):
                yield mailbox
        finally:
            self._unwatch(mailbox)

    @contextmanager
    def everything(self) -> Iterator[Mailbox]:
        """Open a stream of all posts."""
        if not self._everything:
            self._announced = Announced(POSTS_KNOWN)  # nobody kept it up to date
        with self._open(EverythingMailbox(self._bell, self._announced), self._everything) as mailbox:
            yield mailbox

    @contextmanager
    def pipeline(self) -> Iterator[Mailbox]:
        """Open a stream of the steps of batches."""
        with self._open(PipelineMailbox(self._bell), self._pipeline) as mailbox:
            yield mailbox

    def hear(self, update: events.Update | events.PipelineUpdate) -> None:
        """Tell every stream that wants it."""
        if isinstance(update, events.PipelineUpdate):
            event = f"data: {update.text}\n\n".encode()
            for mailbox in self._pipeline:
                mailbox.step(event)
            return
        for post, (total, version, _) in update.posts.items():
            self._offer(post, total, version)
        if self._everything:
            for post, (total, version, added) in update.posts.items():
                self._announced.offer(post, total, version, added)
            self._wake_everything()

    @contextmanager
    def _open(self, mailbox: M, among: set[M]) -> Iterator[M]:
        among.add(mailbox)
        if self._closed:
            mailbox.close()
        try:
            yield mailbox
        finally:
            mailbox.close()
            among.discard(mailbox)

    def _unwatch(self, mailbox: PostsMailbox) -> None:
        for post in mailbox.posts:
            self._watching[post].discard(mailbox)
            if not self._watching[post]:
                del self._watching[post], self._latest[post]

    def _offer(self, post: int, total: int, version: int) -> None:
        latest = self._latest.get(post)
        if latest is not None and latest.offer(total, version):
            for mailbox in self._watching[post]:
                mailbox.changed(post)

    def _wake_everything(self) -> None:
        for mailbox in self._everything:
            mailbox.wake()

    def _arrived(self, asked: Asked, found: Mapping[int, Total]) -> None:
        for post, total in found.items():
            self._offer(post, total.likes, total.version)
            self._announced.correct(post, total.likes, total.version)
        self._wake_everything()
        for post, mailboxes in asked.items():
            for mailbox in mailboxes:
                mailbox.answered(post)

    async def _listen(self) -> None:
        """Stay subscribed for good: whatever ends a subscription, another one begins within LONGEST_PAUSE."""
        while True:
            try:
                await self._listen_once()
            except events.Disconnected as error:
                level = logging.WARNING if self._pause == SHORTEST_PAUSE else logging.DEBUG  # one line an outage
                logger.log(level, "live updates are interrupted: %s", error)
            except Exception:  # a fault of ours must not silence every stream until the next start
                logger.exception("the listener failed and begins anew")
            self._doubt()
            await asyncio.sleep(self._pause)
            self._pause = min(LONGEST_PAUSE, self._pause * 2)

    async def _listen_once(self) -> None:
        async with aclosing(events.subscription()) as messages:
            async for message in messages:
                if message is None:
                    self._subscribed()
                elif self.streams and (update := events.parse(message)) is not None:
                    self.hear(update)

    def _subscribed(self) -> None:
        """Make good what was missed while there was no subscription: every post that is listened to is read again."""
        logger.info("live updates: subscribed")
        self._pause = SHORTEST_PAUSE
        self._doubt()
        self._read_again()

    async def _keep_reading(self) -> None:
        """Read what is listened to again and again, slowly: announcing is at most once."""
        while True:
            await asyncio.sleep(self._read_again_seconds)
            self._read_again()

    def _read_again(self) -> None:
        for post, mailboxes in self._watching.items():
            self._snapshots.ask([post], mailboxes)
        self._snapshots.ask(self._announced.last(POSTS_READ_AGAIN), self._everything)

    def _doubt(self) -> None:
        """Take whatever is read or told next: a Redis that was wiped may say a lower version, and is right."""
        self._announced.doubt()
        for latest in self._latest.values():
            latest.version = UNKNOWN
