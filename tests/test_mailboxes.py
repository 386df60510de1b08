"""What a stream has yet to tell, at the edges that a network only meets by chance."""

from __future__ import annotations

import asyncio

from likes.latest import Announced, Latest
from likes.mailboxes import EverythingMailbox, Mailbox, PipelineMailbox, PostsMailbox
from likes.snapshots import still_wanted

MOMENT = 0.01  # seconds for what is there already


async def taken(mailbox: Mailbox, number: int) -> list[str]:
    return [await mailbox.next(MOMENT) for _ in range(number)]


def event(count: int, members: str) -> str:
    return f'data: {{"count":{count},"likes":{{{members}}}}}\n\n'


def test_what_is_announced_before_the_first_event_is_taken_is_told_next() -> None:
    async def scene() -> list[str]:
        announced = Announced(limit=10)
        mailbox = EverythingMailbox(announced)
        announced.offer(1, total=5, version=1, added=2)
        mailbox.wake()
        return await taken(mailbox, 3)

    assert asyncio.run(scene()) == [event(0, ""), event(2, '"1":5'), ""]


def test_a_reader_further_behind_than_is_known_starts_anew() -> None:
    async def scene() -> tuple[list[str], bool, list[str]]:
        announced = Announced(limit=2)
        behind, there = EverythingMailbox(announced), EverythingMailbox(announced)
        assert await taken(behind, 1) == await taken(there, 1)
        announced.offer(1, total=1, version=1, added=1)
        assert await taken(there, 1) == [event(1, '"1":1')]
        for post in (2, 3):
            announced.offer(post, total=1, version=1, added=1)
        there.wake()
        behind.wake()
        return await taken(behind, 1), behind.closed, await taken(there, 1)

    assert asyncio.run(scene()) == ([""], True, [event(2, '"3":1,"2":1')])


def test_a_post_that_was_forgotten_counts_what_its_batch_added() -> None:
    announced = Announced(limit=1)
    announced.offer(1, total=100, version=1, added=1)
    announced.offer(2, total=50, version=1, added=2)
    announced.offer(1, total=103, version=2, added=3)
    assert announced.grown == 1 + 2 + 3


def test_a_total_that_was_read_of_a_post_nobody_announced_counts_nothing() -> None:
    announced = Announced(limit=10)
    announced.correct(1, total=100, version=5)
    announced.offer(1, total=103, version=4, added=3)
    assert (announced.grown, announced.since(0)) == (3, '"1":103')


def test_a_total_that_went_and_came_back_between_two_events_is_no_event() -> None:
    async def scene() -> list[str]:
        latest = Latest(1)
        mailbox = PostsMailbox({1: latest})
        latest.offer(5, version=1)
        mailbox.answered(1)
        told = await taken(mailbox, 1)
        for total, version in ((6, 2), (5, 3)):
            latest.offer(total, version)
            mailbox.changed(1)
        return told + await taken(mailbox, 1)

    assert asyncio.run(scene()) == [event(0, '"1":5'), ""]


def test_a_reader_far_behind_the_pipeline_has_its_latest_steps() -> None:
    async def scene() -> str:
        mailbox = PipelineMailbox()
        for number in range(100):
            mailbox.step(f"data: {number}\n\n")
        return await mailbox.next(MOMENT)

    assert asyncio.run(scene()) == "".join(f"data: {number}\n\n" for number in range(68, 100))


def test_nothing_is_read_for_streams_that_have_gone() -> None:
    async def scene() -> bool:
        here, gone = PipelineMailbox(), PipelineMailbox()
        gone.close()
        return still_wanted({1: {here, gone}, 2: {gone}, 3: {here}}) == {1: {here}, 3: {here}}

    assert asyncio.run(scene())
