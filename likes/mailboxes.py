"""What one stream has yet to tell: never a queue, only the latest, so that a slow reader costs nothing and ends right.

Must not know where totals come from, nor how an event reaches its reader.
"""

from __future__ import annotations

import asyncio
from abc import ABC, abstractmethod
from collections import deque
from collections.abc import Mapping

from likes.latest import Announced, Latest

STEPS_KEPT = 32  # of the pipeline, for a slow reader; their texts are shared by all
NO_BATCH = 'data: {"stage":"snapshot","posts":0,"likes":0,"milliseconds":0,"persisted":{}}\n\n'


class Mailbox(ABC):
    """One stream's end of the hub. All its methods belong to the event loop."""

    def __init__(self) -> None:
        self.closed = False
        self._news = asyncio.Event()
        self._news.set()  # the first event is owed to every stream

    def wake(self) -> None:
        """Let the stream look whether there is something to tell."""
        self._news.set()

    def close(self) -> None:
        """End the stream."""
        self.closed = True
        self._news.set()

    async def next(self, patience: float) -> str:
        """Return the next event; "" when there is none within `patience` seconds, or ever again."""
        try:
            async with asyncio.timeout(patience):
                while not self.closed:
                    await self._news.wait()
                    self._news.clear()
                    if not self.closed and (event := self._take()):
                        return event
        except TimeoutError:
            pass  # nothing to tell, which is an answer
        return ""

    def answered(self, post: int) -> None:  # noqa: B027 - most streams wait for no snapshot
        """Hear that the snapshot this stream asked for has been read for `post`."""

    @abstractmethod
    def _take(self) -> str:
        """Return one event of all that is new, "" where nothing is."""


class PostsMailbox(Mailbox):
    """The stream of some posts: a snapshot of all of them, then whatever differs from what it was told last."""

    def __init__(self, posts: Mapping[int, Latest]) -> None:
        super().__init__()
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

    def _take(self) -> str:
        if self._unread:
            return ""  # what changed since is in the snapshot, too
        if not self._greeted:
            self._greeted = True
            self._tell(self._posts)
            return _event(0, ",".join(latest.text for latest in self._posts.values() if latest.text))
        changed, self._changed = self._changed, set()
        news = {post: self._posts[post] for post in changed if self._posts[post].total != self._told.get(post)}
        before = sum(self._told.get(post, 0) for post in news)
        self._tell(news)
        after = sum(self._told[post] for post in news)
        return _event(after - before, ",".join(latest.text for latest in news.values())) if news else ""

    def _tell(self, news: Mapping[int, Latest]) -> None:
        self._told |= {post: latest.total for post, latest in news.items() if latest.total is not None}


class EverythingMailbox(Mailbox):
    """The stream of all posts: an empty snapshot, then whatever was announced since its last event."""

    def __init__(self, announced: Announced) -> None:
        super().__init__()
        self._announced = announced
        self._at = announced.now
        self._grown = announced.grown
        self._greeted = False

    def _take(self) -> str:
        if not self._greeted:
            self._greeted = True
            self.wake()  # for what was announced before the reader took this
            return _event(0, "")
        if self._at == self._announced.now:
            return ""
        if self._at < self._announced.forgotten:
            self.close()  # so far behind that totals are gone: it starts anew rather than end stale
            return ""
        count, members = self._announced.grown - self._grown, self._announced.since(self._at)
        self._at, self._grown = self._announced.now, self._announced.grown
        return _event(count, members)


class PipelineMailbox(Mailbox):
    """The stream of batches: an empty one, then the steps of each; a reader far behind misses the oldest."""

    def __init__(self) -> None:
        super().__init__()
        self._steps = deque([NO_BATCH], STEPS_KEPT)

    def step(self, event: str) -> None:
        """Hear of a batch's next step."""
        self._steps.append(event)
        self.wake()

    def _take(self) -> str:
        event = "".join(self._steps)
        self._steps.clear()
        return event


def _event(count: int, members: str) -> str:
    return f'data: {{"count":{count},"likes":{{{members}}}}}\n\n'
