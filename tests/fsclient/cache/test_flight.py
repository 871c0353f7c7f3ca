from __future__ import annotations

import asyncio
import gc
import threading
import traceback
import weakref
from typing import Any

import pytest

from fsclient.cache.flight import LoadCancelledError, SingleFlight


class Store:
    """A backend that counts its loads and answers when asked to."""

    def __init__(self) -> None:
        self.loads = 0
        self.cancelled = 0
        self.answer = asyncio.Event()

    async def __call__(self) -> str:
        self.loads += 1
        number = self.loads
        try:
            await self.answer.wait()
        except asyncio.CancelledError:
            self.cancelled += 1
            raise
        return f"answer {number}"


async def settle() -> None:
    """Let every task run as far as it can."""
    for _ in range(10):
        await asyncio.sleep(0)


def is_empty(flight: SingleFlight) -> bool:
    return not flight._flights and not flight._tasks


async def test_two_hundred_misses_are_one_load() -> None:
    flight, store = SingleFlight(), Store()
    callers = [asyncio.create_task(flight.load("key", store)) for _ in range(200)]
    await settle()
    store.answer.set()
    assert await asyncio.gather(*callers) == ["answer 1"] * 200
    assert store.loads == 1
    assert is_empty(flight)


async def test_two_keys_are_two_loads() -> None:
    flight, store = SingleFlight(), Store()
    store.answer.set()
    assert await asyncio.gather(flight.load("a", store), flight.load("b", store)) == ["answer 1", "answer 2"]


async def test_the_next_miss_loads_again() -> None:
    flight, store = SingleFlight(), Store()
    store.answer.set()
    assert await flight.load("key", store) == "answer 1"
    assert await flight.load("key", store) == "answer 2"


async def test_the_leaders_cancellation_leaves_the_other_199_their_answer() -> None:
    """Fault: the request that happened to come first is aborted."""
    flight, store = SingleFlight(), Store()
    leader, *followers = [asyncio.create_task(flight.load("key", store)) for _ in range(200)]
    await settle()
    leader.cancel()
    await settle()
    assert leader.cancelled()
    store.answer.set()
    assert await asyncio.gather(*followers) == ["answer 1"] * 199
    assert (store.loads, store.cancelled) == (1, 0)


async def test_a_followers_timeout_is_its_own() -> None:
    flight, store = SingleFlight(), Store()
    patient = asyncio.create_task(flight.load("key", store))
    await settle()
    with pytest.raises(TimeoutError):
        async with asyncio.timeout(0):
            await flight.load("key", store)
    store.answer.set()
    assert await patient == "answer 1"


async def test_a_load_for_which_nobody_waits_is_cancelled() -> None:
    flight, store = SingleFlight(), Store()
    callers = [asyncio.create_task(flight.load("key", store)) for _ in range(3)]
    await settle()
    for caller in callers:
        caller.cancel()
    await settle()
    assert (store.loads, store.cancelled) == (1, 1)
    assert is_empty(flight)


async def test_nobody_joins_a_load_that_is_being_cancelled() -> None:
    """Fault: the load takes its time to clean up after its cancellation."""
    flight, store, cleaned_up = SingleFlight(), Store(), asyncio.Event()

    async def stubborn() -> str:
        try:
            return await store()
        except asyncio.CancelledError:
            await cleaned_up.wait()
            raise

    first = asyncio.create_task(flight.load("key", stubborn))
    await settle()
    first.cancel()
    await settle()
    assert first.done()  # and did not wait for the clean-up
    second = asyncio.create_task(flight.load("key", stubborn))
    await settle()
    cleaned_up.set()  # the first load ends while the second is under way, and does not take it along
    await settle()
    third = asyncio.create_task(flight.load("key", stubborn))
    await settle()
    store.answer.set()
    assert await asyncio.gather(second, third) == ["answer 2", "answer 2"]
    await settle()
    assert is_empty(flight)


async def test_an_error_reaches_every_waiter_and_is_not_kept() -> None:
    flight, calls = SingleFlight(), 0

    async def failing() -> str:
        nonlocal calls
        calls += 1
        await asyncio.sleep(0)
        if calls == 1:
            raise ConnectionError("the store is down")
        return "answer"

    callers = [asyncio.create_task(flight.load("key", failing)) for _ in range(50)]
    results = await asyncio.gather(*callers, return_exceptions=True)
    assert calls == 1
    assert all(isinstance(r, ConnectionError) for r in results)
    assert await flight.load("key", failing) == "answer"


async def test_an_errors_traceback_shows_the_loader_and_does_not_grow_by_its_waiters() -> None:
    async def failing() -> None:
        await asyncio.sleep(0)
        raise ConnectionError("the store is down")

    async def depth(waiters: int) -> int:
        flight = SingleFlight()
        results: list[Any] = await asyncio.gather(
            *(flight.load("key", failing) for _ in range(waiters)), return_exceptions=True
        )
        frames = traceback.extract_tb(results[-1].__traceback__)
        assert frames[-1].name == "failing"
        return len(frames)

    assert await depth(1) == await depth(50)


async def test_an_error_nobody_waited_for_is_not_reported_as_lost() -> None:
    reported: list[Any] = []
    asyncio.get_running_loop().set_exception_handler(lambda _, context: reported.append(context))
    flight = SingleFlight()

    async def failing_when_cancelled() -> None:
        try:
            await asyncio.Event().wait()
        except asyncio.CancelledError:
            raise ConnectionError("closed") from None

    caller = asyncio.create_task(flight.load("key", failing_when_cancelled))
    await settle()
    caller.cancel()
    await settle()
    del caller
    gc.collect()
    assert reported == []


async def test_a_load_cancelled_from_outside_is_an_error_not_the_waiters_cancellation() -> None:
    flight = SingleFlight()

    async def loader() -> None:
        task = asyncio.current_task()
        assert task is not None
        task.cancel()
        await asyncio.sleep(0)

    with pytest.raises(LoadCancelledError, match="'key'"):
        await flight.load("key", loader)


async def test_a_load_cancelled_from_outside_before_it_began_leaves_nobody_waiting() -> None:
    """Fault: something cancels every task of the loop that it did not start itself."""
    flight, store = SingleFlight(), Store()
    caller = asyncio.create_task(flight.load("key", store))
    before = asyncio.all_tasks()
    await asyncio.sleep(0)
    (load,) = asyncio.all_tasks() - before
    load.cancel()
    with pytest.raises(LoadCancelledError, match="'key'"):
        await caller
    assert store.loads == 0
    assert is_empty(flight)


async def test_a_caller_just_after_the_load_has_ended_gets_a_new_one() -> None:
    """Between a task's end and its callbacks lies a turn of the loop: its error must not reach a call made in it."""
    flight, store, ending = SingleFlight(), Store(), asyncio.Event()
    store.answer.set()

    async def failing() -> str:
        ending.set()
        raise ConnectionError("the store is down")

    async def comes_late() -> str:
        await ending.wait()
        return await flight.load("key", store)

    late = asyncio.create_task(comes_late())
    await settle()
    with pytest.raises(ConnectionError):
        await flight.load("key", failing)
    assert await late == "answer 1"


def test_one_object_serves_event_loops_in_turn() -> None:
    flight = SingleFlight()

    async def main() -> str:
        store = Store()
        callers = [asyncio.create_task(flight.load("key", store)) for _ in range(5)]
        await settle()
        store.answer.set()
        return (await asyncio.gather(*callers))[0]

    assert [asyncio.run(main()) for _ in range(3)] == ["answer 1"] * 3
    assert is_empty(flight)


def test_a_loop_that_ends_amid_a_load_leaves_nothing_behind() -> None:
    flight = SingleFlight()

    async def abandon() -> None:
        task = asyncio.create_task(flight.load("key", asyncio.Event().wait))
        await settle()
        assert not task.done()

    asyncio.run(abandon())
    assert is_empty(flight)


@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")
def test_a_loop_that_was_closed_over_its_loads_is_let_go() -> None:
    """Fault: the loop is stopped and closed without cancelling what still ran on it."""
    flight = SingleFlight()
    loop = asyncio.new_event_loop()
    loop.set_exception_handler(lambda *_: None)  # "Task was destroyed but it is pending", as is to be expected
    caller = loop.create_task(flight.load("key", asyncio.Event().wait))
    loop.run_until_complete(settle())
    loop.close()

    async def answer() -> str:
        return "answer"

    assert asyncio.run(flight.load("key", answer)) == "answer"
    assert is_empty(flight)
    reference = weakref.ref(loop)
    del loop, caller
    gc.collect()
    assert reference() is None


def test_loops_in_several_threads_do_not_mix() -> None:
    flight, results = SingleFlight(), []

    async def main(name: str) -> None:
        async def loader() -> str:
            await asyncio.sleep(0)
            return name

        for _ in range(200):
            answers = await asyncio.gather(flight.load("key", loader), flight.load("key", loader))
            results.append((name, *answers))

    threads = [threading.Thread(target=lambda n=n: asyncio.run(main(n))) for n in ("a", "b", "c")]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(results) == 600
    assert all(own == first == second for own, first, second in results)
    assert is_empty(flight)
