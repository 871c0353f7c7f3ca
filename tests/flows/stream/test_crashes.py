"""A stream killed at any moment (SIGKILL) and started again: nothing is lost, and not a bit differs."""

from __future__ import annotations

import random
import threading
import time
from collections.abc import Callable, Iterator
from typing import Any

import pandas as pd
import pytest

from flows.settings import Settings
from flows.stream import Feed
from tests.flows.stream.streaming import Process, State, assert_same, by_batch, left_in_streams, live, state_of

SYMBOLS = ("BTC/USD", "EUR/USD")
HISTORY, DAY = 600, 1440
KILLS = 3
_WITHIN_S = 60.0


@pytest.fixture
def start(settings: Settings) -> Iterator[Callable[[], Process]]:
    processes: list[Process] = []

    def begin() -> Process:
        processes.append(Process(settings))
        return processes[-1]

    yield begin
    for process in processes:
        process.end()


def emptied(redis: Any, project: str) -> None:
    """Waits until every bar is stored and acknowledged."""
    until = time.monotonic() + _WITHIN_S
    while left_in_streams(redis, project)[0]:
        assert time.monotonic() < until, "the stream does not finish"
        time.sleep(0.02)


@pytest.mark.parametrize("seed", [1])
def test_a_stream_killed_again_and_again_during_a_day_of_minutes(
    seed: int,
    settings: Settings,
    redis: Any,
    feed: Feed,
    minutes: Callable[..., pd.DataFrame],
    start: Callable[[], Process],
    expected: Callable[..., State],
) -> None:
    bars = {symbol: minutes(HISTORY + DAY, symbol, seed=seed) for symbol in SYMBOLS}
    by_batch(settings, {symbol: frame.head(HISTORY) for symbol, frame in bars.items()})
    days = [live(frame.iloc[HISTORY:], symbol) for symbol, frame in bars.items()]
    day = [bar for pair in zip(*days, strict=True) for bar in pair]

    def replay() -> None:
        for start_at in range(0, len(day), 20):
            feed.put(day[start_at : start_at + 20])
            time.sleep(0.02)  # a day in three seconds

    producer = threading.Thread(target=replay)
    moments = random.Random(seed)
    process = start()
    process.ready()
    producer.start()
    for _ in range(KILLS):
        process.kill_after(moments.uniform(0.1, 0.9))
        process = start()
        process.ready()
    producer.join(_WITHIN_S)
    emptied(redis, settings.repo().project)
    assert process.terminate() == 0
    assert_same(state_of(settings, SYMBOLS), expected(bars))


def test_a_stream_asked_to_end_leaves_nothing_pending(
    settings: Settings, redis: Any, feed: Feed, minutes: Callable[..., pd.DataFrame], start: Callable[[], Process]
) -> None:
    bars = minutes(1200)
    by_batch(settings, {"BTC/USD": bars.head(1000)})
    process = start()
    process.ready()
    feed.put(live(bars.iloc[1000:]))
    until = time.monotonic() + _WITHIN_S
    while left_in_streams(redis, settings.repo().project) == (200, 0):  # nothing taken yet
        assert time.monotonic() < until
    assert process.terminate() == 0
    entries, pending = left_in_streams(redis, settings.repo().project)
    assert pending == 0
    assert settings.tables().read("bars", timeframe="1m", columns=[]).num_rows == 1200 - entries
