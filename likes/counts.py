"""The warm path (Redis) and the cold one (PostgreSQL) joined: what views, admin, commands and streams ask.

Knows no HTTP. Everything here raises buffer.Unavailable when a server it needs is away.
"""

from __future__ import annotations

import json
import logging
import time
from collections import Counter
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from hashlib import blake2b

from django.db import Error as DatabaseError
from django.db.models import QuerySet

from likes import books, events, ledger
from likes.absent import Absent
from likes.announcer import announcer
from likes.buffer import Buffer, Counted, Like, Look, Total, Unavailable, buffer, flusher
from likes.ids import is_post_id
from likes.models import Post
from likes.values import BulkLiked

log = logging.getLogger(__name__)

COLD_SECONDS = 1.0  # how long a cold post is tried while batches come and go under it


class UnknownPost(Exception):
    """No such post; nothing was counted."""


class KeyReused(Exception):
    """An Idempotency-Key came back with another body; nothing was counted."""


@dataclass(frozen=True, slots=True)
class Liked:
    """A like taken, and the live total it made; `replayed`: taken before, under the same key."""

    likes: int
    replayed: bool


absent = Absent()


def like(post: int, key: str | None = None) -> Liked:
    """Count one like of a post, once under its key. Raises UnknownPost, Unavailable."""
    [counted] = _like_all([Like(post, key=key)])
    if counted is None:
        raise UnknownPost
    return Liked(counted.total.likes, counted.replayed)


def oldest_post() -> int:
    """Return the id of the oldest post, which no new one changes. Raises UnknownPost without any, Unavailable."""
    try:
        post = Post.objects.order_by("pk").values_list("pk", flat=True).first()
    except DatabaseError as error:
        raise Unavailable("not_applied", f"PostgreSQL cannot be asked: {error}") from error
    if post is None:
        raise UnknownPost
    return post


def like_many(counts: Sequence[tuple[int, int]], key: str | None = None) -> BulkLiked:
    """Count `(post, likes)` pairs; unknown posts are named and the rest counted, once under the key.

    Raises KeyReused, Unavailable.
    """
    added: Counter[int] = Counter()
    for post, count in counts:
        added[post] += count
    likes = [Like(post, count) for post, count in added.items()]
    if key is not None:
        return _like_under_key(likes, key)
    unknown = [like.post for like, counted in zip(likes, _like_all(likes), strict=True) if counted is None]
    return BulkLiked(sum(added.values()) - sum(added[post] for post in unknown), unknown, replayed=False)


def _like_all(likes: Sequence[Like]) -> list[Counted | None]:
    """Count likes, warming what is cold; None for posts that do not exist."""
    counted: dict[int, Counted | None] = {}
    waiting = [i for i, like in enumerate(likes) if _may_exist(like.post)]
    deadline = time.monotonic() + COLD_SECONDS
    some_counted = False
    while waiting:
        try:
            sent = [likes[i] for i in waiting]
            answers = buffer.like(sent)
            announcer.tell_likes(sent, answers)
            counted.update(zip(waiting, answers, strict=True))
            cold = [i for i in waiting if counted[i] is None]
            some_counted = some_counted or len(cold) < len(waiting)
            known = totals(likes[i].post for i in cold)
        except Unavailable as error:
            # Part of the call may stand in Redis already: then nobody may be told that nothing was applied.
            if not some_counted:
                raise
            raise Unavailable("unknown", str(error)) from error
        waiting = [i for i in cold if likes[i].post in known]
        if waiting and time.monotonic() > deadline:
            raise Unavailable("unknown" if some_counted else "not_applied", "a post stayed cold")
    return [counted.get(i) for i in range(len(likes))]


def _like_under_key(likes: Sequence[Like], key: str) -> BulkLiked:
    """Count a bulk call shard by shard, each part kept with its answer under the key, until every part is there."""
    digest = blake2b(json.dumps([(like.post, like.count) for like in likes]).encode(), digest_size=12).hexdigest()
    by_post = {like.post: like for like in likes}
    kept = buffer.kept_answers(key)
    _refuse_other_body(digest, kept.values())
    parts = buffer.by_shard(by_post)
    replayed = parts.keys() <= kept.keys()
    known = {post: _may_exist(post) for post in by_post}
    deadline = time.monotonic() + COLD_SECONDS
    while missing := [shard for shard in parts if shard not in kept]:
        try:
            calls = {shard: _part(digest, [by_post[post] for post in parts[shard]], known) for shard in missing}
            answers = buffer.like_under_key(key, calls)
            for shard, (answer, counted) in answers.items():
                announcer.tell_likes(calls[shard][0], counted)
                if answer is not None:
                    kept[shard] = answer
            _refuse_race(digest, kept.values())
            cold = [post for shard in missing if shard not in kept for post in parts[shard] if known[post]]
            found = totals(cold)
        except Unavailable as error:
            if not kept:
                raise
            raise Unavailable("unknown", str(error)) from error
        known.update({post: post in found for post in cold})
        if cold and time.monotonic() > deadline:
            raise Unavailable("unknown" if kept else "not_applied", "a post stayed cold")
    told = [json.loads(kept[shard].partition(" ")[2]) for shard in parts]
    unknown = {post for part in told for post in part["unknown"]}
    return BulkLiked(sum(part["accepted"] for part in told), [post for post in by_post if post in unknown], replayed)


def _refuse_other_body(digest: str, kept: Iterable[str]) -> None:
    if any(not answer.startswith(digest) for answer in kept):
        raise KeyReused


def _refuse_race(digest: str, kept: Collection[str]) -> None:
    """Refuse a call whose key another body took meanwhile; what this call counted by then stays counted."""
    if any(answer.startswith(digest) for answer in kept) and any(not answer.startswith(digest) for answer in kept):
        raise Unavailable("unknown", "another body came under the same key at the same time")
    _refuse_other_body(digest, kept)


def _part(digest: str, likes: Sequence[Like], known: Mapping[int, bool]) -> tuple[list[Like], str]:
    counted = [like for like in likes if known[like.post]]
    unknown = [like.post for like in likes if not known[like.post]]
    answer = {"accepted": sum(like.count for like in counted), "unknown": unknown}
    return counted, f"{digest} {json.dumps(answer)}"


def totals(posts: Iterable[int]) -> dict[int, Total]:
    """Return live totals, unknown posts left out: one round trip when all are warm. Raises Unavailable."""
    wanted = buffer.by_shard({post for post in posts if _may_exist(post)})
    known: dict[int, Total] = {}
    found: dict[int, tuple[Look, dict[int, int]]] = {}
    deadline = time.monotonic() + COLD_SECONDS
    while wanted:
        looks = buffer.look(wanted, found)
        for look in looks.values():
            known.update(look.totals)
        cold = {shard: look for shard, look in looks.items() if look.missing}
        if not cold:
            break
        if time.monotonic() > deadline:
            raise Unavailable("not_applied", "a post stayed cold")
        found = _ask_postgres(cold)
        wanted = {shard: list(bases) for shard, (_, bases) in found.items() if bases}
    return known


def _ask_postgres(cold: Mapping[int, Look]) -> dict[int, tuple[Look, dict[int, int]]]:
    """Return, beside each shard's look, the base of each cold post that exists.

    The base is the persisted total. Where the batch in flight is in the ledger already, its likes are in that total
    and in `inflight`: they are taken off here, and the ack makes the base whole.
    """
    asked = [post for look in cold.values() for post in look.missing]
    try:
        books.check_deployment()  # a process that started while PostgreSQL was away has not been checked yet
        persisted, applied = ledger.totals(asked, [look.batch for look in cold.values() if look.batch])
    except DatabaseError as error:
        raise Unavailable("not_applied", f"PostgreSQL cannot be asked: {error}") from error
    absent.note(asked, persisted)
    found = {}
    for shard, look in cold.items():
        again = 1 if look.batch in applied else 0
        bases = {post: persisted[post] - again * mine for post, mine in look.missing.items() if post in persisted}
        found[shard] = (look, bases)
    return found


def _may_exist(post: int) -> bool:
    return is_post_id(post) and post not in absent


# --- Adjustments.


def reset(posts: QuerySet[Post], by: str) -> Iterable[int]:
    """Set the persisted totals of posts to zero, on record, and yield how many were, chunk by chunk.

    Likes still on their way are kept and count from zero. A crash leaves adjustments that the next tick settles.
    Raises django.db.Error, Unavailable.
    """
    for chunk in books.reset(posts, by):
        settle(chunk)
        yield len(chunk)


def settle(posts: Iterable[int] | None = None, *, door: Buffer = flusher) -> int:
    """Make Redis forget totals that were adjusted, then mark that as done; return how many adjustments were settled.

    Without `posts`: whatever a crash left. Somebody who waits for an answer passes `buffer` as the `door`, which gives
    up soon. Raises Unavailable, django.db.Error; the next tick tries again.
    """
    pending = books.unsettled(posts)
    if not pending or not door.settle(set(pending.values())):
        return 0
    books.settled(pending)
    announce(set(pending.values()))
    return len(pending)


def announce(posts: Iterable[int]) -> None:
    """Tell the streams totals that changed without a like. What goes wrong is logged: streams read again anyway."""
    try:
        events.announce({post: (total.likes, total.version, 0) for post, total in totals(posts).items()})
    except (Unavailable, events.Unheard) as error:
        log.warning("announce of adjusted totals failed: %s", error)
