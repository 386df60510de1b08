"""What one stream has yet to tell: never a queue, only the latest, so that a slow reader costs nothing and ends right.

Must not know where totals come from, nor how an event reaches its reader.
"""

from __future__ import annotations

import asyncio
from abc import ABC, abstractmethod
from collections import deque
from collections.abc import Mapping
from itertools import islice

from likes.latest import Announced, Latest, event

WOKEN_A_TURN = 64  # a delivery is some 25 µs of work: a like waits for two milliseconds of them, not for all streams
STEPS_KEPT = 32  # of the pipeline, for a slow reader; their texts are shared by all
NO_BATCH = b'data: {"stage":"snapshot","posts":0,"likes":0,"milliseconds":0,"persisted":{}}\n\n'


class Bell:
    """Wakes streams in turn, some in each turn of the event loop: the likes that come meanwhile do not wait for all."""

    def __init__(self) -> None:
        self._due: dict[Mailbox, None] = {}  # in the order in which they were rung for, each once

    def ring(self, mailbox: Mailbox) -> None:
        """Wake a stream, when those before it have been."""
        if not self._due:
            asyncio.get_running_loop().call_soon(self._wake_some)
        self._due[mailbox] = None

    def _wake_some(self) -> None:
        for mailbox in list(islice(self._due, WOKEN_A_TURN)):
            del self._due[mailbox]
            mailbox.rouse()
        if self._due:
            asyncio.get_running_loop().call_soon(self._wake_some)


class Mailbox(ABC):
    """One stream's end of the hub. All its methods belong to the event loop."""

    __slots__ = ("_bell", "_waiting", "closed")

    def __init__(self, bell: Bell) -> None:
        self.closed = False
        self._bell = bell
        self._waiting: asyncio.Future[None] | None = None

    @abstractmethod
    def take(self) -> bytes:
        """Return one event of all that is new, b"" where nothing is."""

    def news(self) -> asyncio.Future[None]:
        """Return what is done once there may be something to take; asked for right after a look that found nothing."""
        self._waiting = asyncio.get_running_loop().create_future()
        return self._waiting

    def wake(self) -> None:
        """Let the stream look whether there is something to take; one that is not waiting will look by itself."""
        if self._waiting is not None and not self._waiting.done():
            self._bell.ring(self)

    def rouse(self) -> None:
        """Let it look at once."""
        if self._waiting is not None and not self._waiting.done():
            self._waiting.set_result(None)

    def close(self) -> None:
        """End the stream."""
        self.closed = True
        self.rouse()

    def answered(self, post: int) -> None:  # noqa: B027 - most streams wait for no snapshot
        """Hear that the snapshot this stream asked for has been read for `post`."""


class PostsMailbox(Mailbox):
    """The stream of some posts: a snapshot of all of them, then whatever differs from what it was told last."""

    __slots__ = ("_changed", "_greeted", "_posts", "_told", "_unread")

    def __init__(self, bell: Bell, posts: Mapping[int, Latest]) -> None:
        super().__init__(bell)
        self._posts = posts
        self._told: dict[int, int] = {}
        self._changed: set[int] = set()
        self._unread = set(posts)
        self._greeted = False

    @property
    def posts(self) -> list[int]:
        """The posts that it filters by."""
        return list(self._posts)

    def changed(self, post: int) -> None:
        """Hear that the latest total of `post` changed."""
        self._changed.add(post)
        self.wake()

    def answered(self, post: int) -> None:
        """Hear that the snapshot has been read for `post`, whether it exists or not."""
        self._unread.discard(post)
        if not self._unread:
            self.wake()

    def take(self) -> bytes:
        """Return what changed: for one post, as it mostly is, the bytes that all streams at this place share."""
        if not self._changed and self._greeted:
            return b""
        if self._unread:
            return b""  # what changed since is in the snapshot, too
        if not self._greeted:
            return self._greet()
        if len(self._changed) > 1:
            return self._tell_many()
        latest = self._posts[post := self._changed.pop()]
        told, total = self._told.get(post), latest.total
        if total is None or total == told:
            return b""
        self._told[post] = total
        return latest.event_after(told or 0)

    def _tell_many(self) -> bytes:
        count, members = 0, []
        while self._changed:
            latest = self._posts[post := self._changed.pop()]
            told, total = self._told.get(post), latest.total
            if total is not None and total != told:
                count += total - (told or 0)
                members.append(latest.text)
                self._told[post] = total
        return event(count, members) if members else b""

    def _greet(self) -> bytes:
        self._greeted = True
        self._changed.clear()
        known = {post: latest for post, latest in self._posts.items() if latest.total is not None}
        self._told = {post: latest.total for post, latest in known.items() if latest.total is not None}
        return event(0, [latest.text for latest in known.values()])


class EverythingMailbox(Mailbox):
    """The stream of all posts: an empty snapshot, then whatever was announced since its last event."""

    __slots__ = ("_announced", "_at", "_greeted", "_grown")

    def __init__(self, bell: Bell, announced: Announced) -> None:
        super().__init__(bell)
        self._announced = announced
        self._at = announced.now
        self._grown = announced.grown
        self._greeted = False

    def take(self) -> bytes:
        """Return all that was announced since the last event: the bytes that all streams at this place share."""
        if not self._greeted:
            self._greeted = True
            return event(0, [])
        if self._at == self._announced.now:
            return b""
        if self._at < self._announced.forgotten:
            self.close()  # so far behind that totals are gone: it starts anew rather than end stale
            return b""
        news = self._announced.since(self._at, self._grown)
        self._at, self._grown = self._announced.now, self._announced.grown
        return news


class PipelineMailbox(Mailbox):
    """The stream of batches: an empty one, then the steps of each; a reader far behind misses the oldest."""

    __slots__ = ("_steps",)

    def __init__(self, bell: Bell) -> None:
        super().__init__(bell)
        self._steps = deque([NO_BATCH], STEPS_KEPT)

    def step(self, told: bytes) -> None:
        """Hear of a batch's next step."""
        self._steps.append(told)
        self.wake()

    def take(self) -> bytes:
        """Return the steps that came since the last event, each an event of its own."""
        told = b"".join(self._steps)
        self._steps.clear()
        return told
