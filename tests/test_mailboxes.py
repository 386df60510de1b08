"""What a stream has yet to tell, at the edges that a network only meets by chance."""

from __future__ import annotations

import asyncio
import json
from itertools import permutations

import pytest

from likes.latest import Announced, Latest
from likes.mailboxes import WOKEN_A_TURN, Bell, EverythingMailbox, PipelineMailbox, PostsMailbox
from likes.snapshots import still_wanted


def event(count: int, members: str) -> bytes:
    return f'data: {{"count":{count},"likes":{{{members}}}}}\n\n'.encode()


def test_what_is_announced_before_the_first_event_is_taken_is_told_next() -> None:
    announced = Announced(limit=10)
    mailbox = EverythingMailbox(Bell(), announced)
    announced.offer(1, total=5, version=1, added=2)
    assert [mailbox.take() for _ in range(3)] == [event(0, ""), event(2, '"1":5'), b""]


def test_a_reader_further_behind_than_is_known_starts_anew() -> None:
    announced = Announced(limit=2)
    behind, there = EverythingMailbox(Bell(), announced), EverythingMailbox(Bell(), announced)
    assert behind.take() == there.take() == event(0, "")
    announced.offer(1, total=1, version=1, added=1)
    assert there.take() == event(1, '"1":1')
    for post in (2, 3):
        announced.offer(post, total=1, version=1, added=1)
    assert there.take() == event(2, '"3":1,"2":1')
    assert (behind.take(), behind.closed) == (b"", True)


def test_a_post_that_was_forgotten_counts_what_its_likes_added() -> None:
    announced = Announced(limit=1)
    announced.offer(1, total=100, version=1, added=1)
    announced.offer(2, total=50, version=1, added=2)
    announced.offer(1, total=103, version=2, added=3)
    assert announced.grown == 1 + 2 + 3


def test_a_total_that_was_read_of_a_post_nobody_announced_counts_nothing() -> None:
    announced = Announced(limit=10)
    announced.correct(1, total=100, version=5)
    announced.offer(1, total=103, version=4, added=3)
    assert announced.since(at=0, grown=0) == event(3, '"1":103')


def told_of_one_post(*told: tuple[int, int, int]) -> tuple[int, bytes]:
    """Return what a stream of all posts was told after these totals, versions and growths of a post."""
    announced = Announced(limit=10)
    for total, version, added in told:
        announced.offer(1, total, version, added)
    return announced.grown, announced.since(at=0, grown=0)


LIKES_OF_A, LIKES_OF_B = (103, 13, 3), (108, 18, 5)  # A's process took 100 → 103, then B's 103 → 108
FLUSHED = (108, 20, 0)


@pytest.mark.parametrize("order", list(permutations([LIKES_OF_A, LIKES_OF_B, FLUSHED])))
def test_growth_is_told_once_in_whatever_order_processes_and_the_flush_tell(order: list[tuple[int, int, int]]) -> None:
    assert told_of_one_post(*order) == (8, event(8, '"1":108'))


def test_a_reset_takes_off_what_it_took_and_likes_after_it_count_once() -> None:
    from_100_to_3 = (3 - 100, event(3 - 100, '"1":3'))
    assert told_of_one_post((105, 10, 5), (0, 20, 0), (3, 30, 3)) == from_100_to_3
    assert told_of_one_post((105, 10, 5), (3, 30, 3), (0, 20, 0)) == from_100_to_3


def greeted(*posts: Latest) -> PostsMailbox:
    """Return the mailbox of a stream that has taken its snapshot."""
    mailbox = PostsMailbox(Bell(), dict(enumerate(posts, 1)))
    for post in mailbox.posts:
        mailbox.answered(post)
    assert mailbox.take()
    return mailbox


def test_streams_at_one_place_are_told_the_same_bytes() -> None:
    latest, announced = Latest(1), Announced(limit=10)
    latest.offer(5, version=1)
    filtered = greeted(latest), greeted(latest, Latest(2))
    every = EverythingMailbox(Bell(), announced), EverythingMailbox(Bell(), announced)
    assert every[0].take() == every[1].take() == event(0, "")
    latest.offer(6, version=2)
    announced.offer(1, total=6, version=2, added=1)
    for mailbox in filtered:
        mailbox.changed(1)
    one, same = (mailbox.take() for mailbox in filtered)
    other, as_other = (mailbox.take() for mailbox in every)
    assert one == other == event(1, '"1":6')
    assert one is same
    assert other is as_other


def test_several_posts_that_changed_are_one_event() -> None:
    posts = [Latest(1), Latest(2), Latest(3)]
    for latest in posts[:2]:
        latest.offer(5, version=1)
    mailbox = greeted(*posts)
    for post, (latest, total) in enumerate(zip(posts, (7, 5, 0), strict=True), 1):
        latest.offer(total, version=2)
        mailbox.changed(post)
    told = json.loads(mailbox.take().decode().removeprefix("data: "))
    assert told == {"count": 2, "likes": {"1": 7, "3": 0}}
    assert mailbox.take() == b""


def test_a_total_that_went_and_came_back_between_two_events_is_no_event() -> None:
    latest = Latest(1)
    latest.offer(5, version=1)
    mailbox = greeted(latest)
    for total, version in ((6, 2), (5, 3)):
        latest.offer(total, version)
        mailbox.changed(1)
    assert mailbox.take() == b""


def test_a_reader_far_behind_the_pipeline_has_its_latest_steps() -> None:
    mailbox = PipelineMailbox(Bell())
    for number in range(100):
        mailbox.step(b"data: %d\n\n" % number)
    assert mailbox.take() == b"".join(b"data: %d\n\n" % number for number in range(68, 100))


def test_nothing_is_read_for_streams_that_have_gone() -> None:
    here, gone = PipelineMailbox(Bell()), PipelineMailbox(Bell())
    gone.close()
    assert still_wanted({1: {here, gone}, 2: {gone}, 3: {here}}) == {1: {here}, 3: {here}}


def test_streams_are_woken_in_turn_and_others_have_theirs_between() -> None:
    async def scene() -> list[int]:
        bell = Bell()
        mailboxes = [PipelineMailbox(bell) for _ in range(2 * WOKEN_A_TURN + 1)]
        waiting = [mailbox.news() for mailbox in mailboxes]
        for mailbox in (*mailboxes, mailboxes[0]):  # one that is rung for twice is woken once
            mailbox.wake()
        woken = []
        while not all(news.done() for news in waiting):
            await asyncio.sleep(0)  # what else the loop has to do
            woken.append(sum(news.done() for news in waiting))
        assert [news.done() for news in waiting] == [True] * len(waiting)
        return woken

    assert asyncio.run(scene()) == [WOKEN_A_TURN, 2 * WOKEN_A_TURN, 2 * WOKEN_A_TURN + 1]
