"""One item per event loop, ended with the loop or by ``close``, whichever comes first."""

from __future__ import annotations

import asyncio
import threading

import pytest

from fsclient.reading.per_loop import PerLoop


class Thing:
    """Counts how often it was ended, and on which loop."""

    def __init__(self) -> None:
        self.loop = asyncio.get_running_loop()
        self.ended = 0

    async def end(self) -> None:
        assert asyncio.get_running_loop() is self.loop
        self.ended += 1


@pytest.fixture
def things() -> PerLoop[Thing]:
    return PerLoop(Thing, Thing.end)


def test_each_loop_has_its_own_and_it_ends_with_the_loop(things: PerLoop[Thing]) -> None:
    async def use() -> Thing:
        mine = things[asyncio.get_running_loop()]
        await asyncio.sleep(0)
        assert things[asyncio.get_running_loop()] is mine
        assert mine.ended == 0
        return mine

    first, second = asyncio.run(use()), asyncio.run(use())
    assert first is not second
    assert (first.ended, second.ended) == (1, 1)


async def test_close_ends_the_running_loops_even_before_its_task_began(things: PerLoop[Thing]) -> None:
    mine = things[asyncio.get_running_loop()]
    await things.close()
    assert mine.ended == 1
    assert things == {}
    assert [task for task in asyncio.all_tasks() if task is not asyncio.current_task()] == []
    await things.close()


async def test_close_ends_that_of_a_loop_in_another_thread(things: PerLoop[Thing]) -> None:
    begun, over = threading.Event(), threading.Event()
    found: list[Thing] = []

    async def elsewhere() -> None:
        found.append(things[asyncio.get_running_loop()])
        await asyncio.sleep(0)
        begun.set()
        while not found[0].ended:
            await asyncio.sleep(0.001)
        over.set()

    thread = threading.Thread(target=asyncio.run, args=(elsewhere(),))
    thread.start()
    await asyncio.to_thread(begun.wait, 10)
    await things.close()
    assert await asyncio.to_thread(over.wait, 10)
    thread.join(10)
    assert found[0].ended == 1


async def test_what_ended_with_all_tasks_of_a_loop_is_made_again(things: PerLoop[Thing]) -> None:
    """A program may cancel every task that it finds, and go on."""
    first = things[asyncio.get_running_loop()]
    await asyncio.sleep(0)
    others = [task for task in asyncio.all_tasks() if task is not asyncio.current_task()]
    for task in others:
        task.cancel()
    await asyncio.gather(*others, return_exceptions=True)
    assert first.ended == 1
    second = things[asyncio.get_running_loop()]
    assert second is not first
    await things.close()
    assert second.ended >= 1
