"""The clients of the state machine: what they ask through either door, alone or all at once, and what they may be told.

Knows the doors and the model, and neither flushes nor adjustments.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Sequence
from typing import Any

from likes import counts
from likes.counts import BulkLiked, KeyReused, Liked, UnknownPost
from likes.models import Post
from tests import doors
from tests.doors import Door
from tests.model import Model

Asked = tuple[str, Any]  # "like": (post, key) · "many": (likes, key) · "read": (posts,)
CALLS: dict[str, Callable[..., doors.Call]] = {"like": doors.like, "many": doors.many, "read": doors.read}


def read(posts: Iterable[int]) -> dict[int, int]:
    return {post: total.likes for post, total in counts.totals(posts).items()}


def by_counts(asked: Sequence[Asked]) -> list[Any]:
    """Ask what the views ask, one after another."""
    functions: dict[str, Callable[..., Any]] = {"like": counts.like, "many": counts.like_many, "read": read}
    return [attempt(functions[kind], *arguments) for kind, arguments in asked]


def attempt(function: Callable[..., Any], *arguments: Any) -> Any:
    try:
        return function(*arguments)
    except (UnknownPost, KeyReused) as error:
        return error


class Clients:
    """A model, and two doors to the service that it is the model of."""

    def __init__(self) -> None:
        super().__init__()
        self.model = Model()
        self.lane: Door | None = None

    def create(self, likes: int) -> None:
        self.model.create(Post.objects.create(title="a post", likes=likes).pk, likes)

    def crowd(self, calls: list[dict[str, Any]], through_lane: bool) -> None:
        """Make calls at once: the lane takes them together, and some order of them must explain what each is told."""
        asked = [one for call in calls for one in self.asked(**call)]
        asked = [one for place, one in enumerate(asked) if not self.races(one, asked[:place])]
        before = {post: truth.shown for post, truth in self.model.posts.items()}
        if through_lane:
            assert self.lane is not None
            told = self.lane.at_once(*(CALLS[kind](*arguments) for kind, arguments in asked))
        else:
            told = by_counts(asked)
        Said(self.model, before).hold(asked, told)

    def asked(self, kind: str, numbers: list[int], count: int, key: str | None) -> list[Asked]:
        """Return a call; before the retry of a bulk call under its key, one with another body under it."""
        posts = self.ids(numbers)
        if kind == "like":
            return [("like", (posts[0], key))]
        if kind == "read":
            return [("read", (posts,))]
        likes = [(post, count) for post in posts]
        known = self.model.bulk_keys.get(key or "")
        return [("many", (likes, key))] + ([("many", (known[0], key))] if known and known[0] != likes else [])

    def races(self, one: Asked, others: list[Asked]) -> bool:
        """Tell whether a bulk call would take a key together with another, which may leave an unknown outcome."""
        kind, arguments = one
        return kind == "many" and arguments[1] not in {None, *self.model.bulk_keys} and any(
            other == "many" and theirs[1] == arguments[1] for other, theirs in others
        )  # fmt: skip

    def ids(self, numbers: Iterable[int]) -> list[int]:
        """Return the posts that small numbers stand for."""
        posts = list(self.model.posts)
        return list(dict.fromkeys(posts[number % len(posts)] for number in numbers))


class Said:
    """What a crowd was told, held against the model. `before`: what a reader could be shown when it came."""

    def __init__(self, model: Model, before: dict[int, set[int | None]]) -> None:
        self.model, self.before = model, before
        self.taken: Counter[int] = Counter()
        self.totals: defaultdict[int, list[int]] = defaultdict(list)

    def hold(self, asked: Sequence[Asked], told: Sequence[Any]) -> None:
        """Take what was counted before what was answered from it."""
        answered = sorted(zip(asked, told, strict=True), key=lambda one: getattr(one[1], "replayed", False))
        for (kind, arguments), answer in answered:
            if kind != "read":
                getattr(self, kind)(*arguments, answer)
        for post, totals in self.totals.items():
            assert len(set(totals)) == len(totals)
            assert any(min(totals) > start and max(totals) <= start + self.taken[post] for start in self.starts(post))
        for (kind, arguments), answer in answered:
            if kind == "read":
                self.read(*arguments, answer)

    def like(self, post: int, key: str | None, answer: Any) -> None:
        if isinstance(answer, UnknownPost):
            assert self.model.posts[post].gone
            return
        known = self.model.keys.get((post, key or ""))
        if known is not None:
            assert answer == Liked(known, replayed=True)
            return
        assert not answer.replayed
        self.take([(post, 1)])
        self.totals[post].append(answer.likes)
        if key is not None:
            self.model.keys[post, key] = answer.likes

    def many(self, likes: list[tuple[int, int]], key: str | None, answer: Any) -> None:
        known = self.model.bulk_keys.get(key or "")
        if known is not None:
            assert isinstance(answer, KeyReused) if known[0] != likes else answer == BulkLiked(*known[1:], True)
            return
        for post, _ in likes:
            truth = self.model.posts[post]
            assert truth.gone or post not in answer.unknown
            assert not truth.forgotten or post in answer.unknown
        assert answer == BulkLiked(self.take(likes, answer.unknown), answer.unknown, replayed=False)
        if key is not None:
            self.model.bulk_keys[key] = (likes, answer.accepted, answer.unknown)

    def take(self, likes: list[tuple[int, int]], unknown: Iterable[int] = ()) -> int:
        self.taken.update({post: count for post, count in likes if post not in unknown})
        return self.model.accept(likes, unknown)

    def read(self, posts: list[int], answer: dict[int, int]) -> None:
        for post in posts:
            if post not in answer:
                assert None in self.before[post]
            else:
                assert any(0 <= answer[post] - start <= self.taken[post] for start in self.starts(post))

    def starts(self, post: int) -> list[int]:
        return [start for start in self.before[post] if start is not None]
