"""Services keep sessions running: one stands by for another, and garbage collection holds none of them up."""

from __future__ import annotations

import gc
import threading
import time
from typing import Any

import pandas as pd
import pytest

from flows.settings import Settings
from flows.stream import Feed, serve, stream
from tests.flows.stream.streaming import FAST, left_in_streams, live


def test_a_standby_takes_over_when_the_first_ends(
    settings: Settings, redis: Any, feed: Feed, known: pd.DataFrame
) -> None:
    """Two services of one project: one works, and no bar is taken twice."""
    stops, ready = [threading.Event(), threading.Event()], [threading.Event(), threading.Event()]
    stats: list[Any] = [None, None]

    def run(n: int) -> None:
        stats[n] = stream(settings, config=FAST, stop=stops[n], ready=ready[n].set)

    threads = [threading.Thread(target=run, args=(n,)) for n in range(2)]
    threads[0].start()
    assert ready[0].wait(60)
    threads[1].start()
    feed.put(live(known.iloc[1500:1700]))
    stops[0].set()
    threads[0].join(60)
    assert ready[1].wait(60)
    feed.put(live(known.iloc[1700:]))
    until = time.monotonic() + 60
    while left_in_streams(redis, settings.repo().project)[0] and time.monotonic() < until:
        time.sleep(0.02)
    stops[1].set()
    threads[1].join(60)
    assert stats[0].bars + stats[1].bars == 600
    assert stats[1].bars >= 400
    assert settings.tables().read("bars", timeframe="1m", columns=[], all_revisions=True).num_rows == 2100
    assert [run.state for run in settings.ledger().runs(kind="stream")] == ["completed"] * 2


def test_what_a_service_starts_with_is_exempt_from_collection(
    settings: Settings, redis: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    del redis
    monkeypatch.setattr("flows.stream.service.load_settings", lambda: settings)
    made_before: list[None] = []
    stop, until = threading.Event(), time.monotonic() + 60
    thread = threading.Thread(target=serve, kwargs={"config": FAST, "stop": stop})
    thread.start()
    while (is_collected := _is_collected(made_before)) and time.monotonic() < until:
        time.sleep(0.05)
    stop.set()
    thread.join(60)
    assert not is_collected


def _is_collected(target: object) -> bool:
    """Whether Python's collector goes through it."""
    return any(other is target for other in gc.get_objects())
