from __future__ import annotations

import asyncio
import logging
import os
import threading
import time
from collections.abc import Iterator

import pytest

from fsclient.resilience.bounded import BoundedCalls
from fsclient.resilience.breaker import BreakerConfig
from tests.fsclient.clock import Clock


class BlackHole:
    """A call that blocks until the test is over, as a name lookup without an answer does."""

    def __init__(self) -> None:
        self.entered = 0
        self.over = threading.Event()

    def __call__(self) -> str:
        self.entered += 1
        self.over.wait(30)
        return "too late"


@pytest.fixture
def clock() -> Clock:
    return Clock()


CONFIG = BreakerConfig(window_calls=10, minimum_calls=6, wait_open_s=5.0, probes=1)


@pytest.fixture
def bounded(clock: Clock) -> Iterator[BoundedCalls]:
    calls = BoundedCalls("shared cache", timeout_s=20.0, config=CONFIG, clock=clock)
    yield calls
    calls.close()


@pytest.fixture
def impatient(clock: Clock) -> Iterator[BoundedCalls]:
    calls = BoundedCalls("shared cache", timeout_s=0.05, config=CONFIG, clock=clock)
    yield calls
    calls.close()


@pytest.fixture
def hole() -> Iterator[BlackHole]:
    hole = BlackHole()
    yield hole
    hole.over.set()


def failing() -> str:
    raise ConnectionError("refused")


async def test_both_ways_give_the_result(bounded: BoundedCalls) -> None:
    assert bounded.call(lambda: "answer") == "answer"
    assert await bounded.acall(lambda: "answer") == "answer"
    assert bounded.failures == 0


async def test_a_failure_is_none_both_ways(bounded: BoundedCalls) -> None:
    assert bounded.call(failing) is None
    assert await bounded.acall(failing) is None
    assert bounded.failures == 2


async def test_a_call_that_blocks_holds_nobody_up(impatient: BoundedCalls, hole: BlackHole) -> None:
    """Fault: a black hole. More calls than threads, so the last ones only queue."""
    began = time.monotonic()
    assert impatient.call(hole) is None
    assert await asyncio.gather(*(impatient.acall(hole) for _ in range(5))) == [None] * 5
    assert time.monotonic() - began < 5
    assert impatient.failures == 6
    hole.over.set()
    impatient._threads.shutdown(wait=True)
    assert hole.entered == 4  # a call that was given up in the queue is never made


async def test_the_event_loop_is_free_meanwhile(bounded: BoundedCalls) -> None:
    answer = threading.Event()

    async def answers() -> None:
        answer.set()

    result, _ = await asyncio.gather(bounded.acall(lambda: answer.wait(30)), answers())
    assert result is True


def test_what_keeps_failing_is_left_alone_and_tried_again_later(
    bounded: BoundedCalls, clock: Clock, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO, "feature_store_client")
    for _ in range(6):
        bounded.call(failing)
    assert bounded.call(lambda: "answer") is None
    assert bounded.failures == 6
    clock.now += 5.0
    assert bounded.call(lambda: "answer") == "answer"
    assert bounded.call(lambda: "answer") == "answer"
    assert [r.getMessage() for r in caplog.records] == [
        "shared cache is left alone: 6 of 6 calls failed",
        "shared cache answers again",
    ]


async def test_a_cancelled_caller_is_cancelled_and_no_failure(bounded: BoundedCalls, hole: BlackHole) -> None:
    tasks = [asyncio.create_task(bounded.acall(hole)) for _ in range(6)]
    await asyncio.sleep(0)
    for task in tasks:
        task.cancel()
    results = await asyncio.gather(*tasks, return_exceptions=True)
    assert all(isinstance(result, asyncio.CancelledError) for result in results)
    assert bounded.failures == 0
    hole.over.set()
    bounded._threads.shutdown(wait=True)
    assert hole.entered <= 4  # nor are the calls in the queue ever made


async def test_closing_returns_none_to_callers_that_still_wait_and_cancels_nobody(
    impatient: BoundedCalls, hole: BlackHole
) -> None:
    waiting = [asyncio.create_task(impatient.acall(hole)) for _ in range(6)]
    await asyncio.sleep(0)
    impatient.close()
    assert await asyncio.gather(*waiting) == [None] * 6
    assert impatient.call(lambda: "answer") is None
    impatient.close()


def test_one_object_serves_event_loops_in_turn(bounded: BoundedCalls) -> None:
    assert [asyncio.run(bounded.acall(lambda: "answer")) for _ in range(3)] == ["answer"] * 3


def test_an_answer_after_its_event_loop_has_closed_troubles_nobody(
    impatient: BoundedCalls, hole: BlackHole, caplog: pytest.LogCaptureFixture
) -> None:
    assert asyncio.run(impatient.acall(hole)) is None
    hole.over.set()
    impatient._threads.shutdown(wait=True)
    assert caplog.records == []


def test_a_forked_process_starts_threads_of_its_own(bounded: BoundedCalls, monkeypatch: pytest.MonkeyPatch) -> None:
    """Fault: after a fork the pool is there, but its threads are not, so that nothing submitted to it ever runs."""
    assert bounded.call(threading.get_ident) is not None
    inherited = bounded._threads
    inherited.submit = lambda _: pytest.fail("given to threads that are not there")  # type: ignore[method-assign]
    monkeypatch.setattr(os, "getpid", lambda: -1)
    assert bounded.call(lambda: "answer") == "answer"
    inherited.shutdown()


@pytest.mark.parametrize("timeout_s", [0.0, -1.0, float("nan"), float("inf")])
def test_an_invalid_bound_is_refused(timeout_s: float) -> None:
    with pytest.raises(ValueError, match="timeout_s"):
        BoundedCalls("shared cache", timeout_s=timeout_s)
