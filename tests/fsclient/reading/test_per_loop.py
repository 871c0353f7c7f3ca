"""One item per event loop, ended with the loop or by ``close``, whichever comes first."""

from __future__ import annotations

import asyncio
import threading

import pytest

from fsclient.reading.per_loop import PerLoop


class Resource:
    """Counts how often it was ended, and on which loop."""

    def __init__(self) -> None:
        self.loop = asyncio.get_running_loop()
        self.ended = 0

    async def end(self) -> None:
        assert asyncio.get_running_loop() is self.loop
        self.ended += 1


@pytest.fixture
def per_loop() -> PerLoop[Resource]:
    return PerLoop(Resource, Resource.end)


def test_each_loop_has_its_own_and_it_ends_with_the_loop(per_loop: PerLoop[Resource]) -> None:
    async def use() -> Resource:
        mine = per_loop[asyncio.get_running_loop()]
        await asyncio.sleep(0)
        assert per_loop[asyncio.get_running_loop()] is mine
        assert mine.ended == 0
        return mine

    first, second = asyncio.run(use()), asyncio.run(use())
    assert first is not second
    assert (first.ended, second.ended) == (1, 1)


async def test_close_ends_the_running_loops_even_before_its_task_began(per_loop: PerLoop[Resource]) -> None:
    mine = per_loop[asyncio.get_running_loop()]
    await per_loop.close()
    assert mine.ended == 1
    assert per_loop == {}
    assert [task for task in asyncio.all_tasks() if task is not asyncio.current_task()] == []
    await per_loop.close()


async def test_close_ends_that_of_a_loop_in_another_thread(per_loop: PerLoop[Resource]) -> None:
    begun, over = threading.Event(), threading.Event()
    resources: list[Resource] = []

    async def elsewhere() -> None:
        resources.append(per_loop[asyncio.get_running_loop()])
        await asyncio.sleep(0)
        begun.set()
        while not resources[0].ended:
            await asyncio.sleep(0.001)
        over.set()

    thread = threading.Thread(target=asyncio.run, args=(elsewhere(),))
    thread.start()
    await asyncio.to_thread(begun.wait, 10)
    await per_loop.close()
    assert await asyncio.to_thread(over.wait, 10)
    thread.join(10)
    assert resources[0].ended == 1


async def test_what_ended_with_all_tasks_of_a_loop_is_made_again(per_loop: PerLoop[Resource]) -> None:
    """A program may cancel every task that it finds, and go on."""
    first = per_loop[asyncio.get_running_loop()]
    await asyncio.sleep(0)
    others = [task for task in asyncio.all_tasks() if task is not asyncio.current_task()]
    for task in others:
        task.cancel()
    await asyncio.gather(*others, return_exceptions=True)
    assert first.ended == 1
    second = per_loop[asyncio.get_running_loop()]
    assert second is not first
    await per_loop.close()
    assert second.ended >= 1
