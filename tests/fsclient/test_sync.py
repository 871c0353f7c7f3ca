"""The client for code without an event loop."""

from __future__ import annotations

import asyncio
import inspect
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numpy as np
import pandas as pd
import pytest

from feature_repo.repo import Repo
from fsclient import (
    FeatureStoreClient,
    FeatureStoreUnavailable,
    InvalidRequestError,
    SyncFeatureStoreClient,
    UnknownSymbolError,
)
from tests.fsclient.proxy import Proxy
from tests.fsclient.stack import EVERY_FIELD, PUBLISHED, Clock, Market, source

DAYS = ("2024-03-04", "2024-03-05")


@pytest.fixture
def client(repo: Repo, clock: Clock) -> Iterator[SyncFeatureStoreClient]:
    with SyncFeatureStoreClient(repo=repo, now=clock.now, clock=clock.monotonic) as client:
        yield client


def _threads() -> list[str]:
    return [t.name for t in threading.enumerate() if t.name.startswith("fsclient")]


def _none_left() -> bool:
    ends = time.monotonic() + 5
    while _threads() and time.monotonic() < ends:
        time.sleep(0.005)
    return not _threads()


async def test_it_gives_the_same_answers(client: SyncFeatureStoreClient, repo: Repo, clock: Clock) -> None:
    async with FeatureStoreClient(repo=repo, now=clock.now, clock=clock.monotonic) as other:
        for method, arguments in (
            ("get_latest", (PUBLISHED, ["close", "4h:rsi_14"])),
            ("get_ohlcv", ("EUR/USD", *DAYS)),
            ("get_indicators", ("EUR/USD", *DAYS, "1h", ["rsi_14"])),
            ("compute_feature", ("RSI", "EUR/USD", *DAYS)),
        ):
            ours, theirs = getattr(client, method)(*arguments), await getattr(other, method)(*arguments)
            assert type(ours) is type(theirs)
            pd.testing.assert_frame_equal(pd.DataFrame(ours), pd.DataFrame(theirs), check_exact=True)
            assert source(ours) == source(theirs)


def test_it_has_the_same_methods() -> None:
    for name, method in inspect.getmembers(FeatureStoreClient, inspect.isfunction):
        if name.startswith(("get_", "compute_")):
            ours = inspect.signature(getattr(SyncFeatureStoreClient, name))
            assert ours.parameters == inspect.signature(method).parameters, name


def test_its_errors_are_the_same(client: SyncFeatureStoreClient) -> None:
    with pytest.raises(UnknownSymbolError):
        client.get_latest("EUR/USX", ["close"])
    with pytest.raises(InvalidRequestError):
        client.get_ohlcv("EUR/USD", "2024-03-05", "2024-03-04")


async def test_inside_a_running_event_loop(client: SyncFeatureStoreClient) -> None:
    """As in a notebook."""
    assert asyncio.get_running_loop().is_running()
    assert source(client.get_latest("EUR/USD", ["close"])) == "online"


def test_from_several_threads(client: SyncFeatureStoreClient, market: Market) -> None:
    calls = [(symbol, name) for name in EVERY_FIELD for symbol in PUBLISHED] * 4

    def ask(call: tuple[str, str]) -> float:
        return float(client.get_latest(call[0], [call[1]])[call[1]].iloc[0])

    with ThreadPoolExecutor(8) as pool:
        answers = list(pool.map(ask, calls))
    truth = [market.windows[symbol, "1h"].columns[name][-1] for symbol, name in calls]
    np.testing.assert_array_equal(answers, truth)


def test_close_ends_threads_and_connections(repo: Repo, clock: Clock, proxy: Proxy) -> None:
    client = SyncFeatureStoreClient(repo=repo, now=clock.now, clock=clock.monotonic)
    client.get_latest("EUR/USD", ["close"])
    client.get_ohlcv("EUR/USD", *DAYS)
    assert proxy.connections_now
    client.close()
    client.close()
    assert _none_left()
    ends = time.monotonic() + 5
    while proxy.connections_now and time.monotonic() < ends:
        time.sleep(0.005)
    assert not proxy.connections_now
    with pytest.raises(FeatureStoreUnavailable, match="closed"):
        client.get_latest("EUR/USD", ["close"])


def test_close_does_not_leave_another_thread_waiting(repo: Repo, clock: Clock, proxy: Proxy) -> None:
    """Fault: closed in the middle of a call."""
    client = SyncFeatureStoreClient(repo=repo, now=clock.now, clock=clock.monotonic, timeout_s=30.0)
    proxy.delay(30.0)
    errors: list[BaseException] = []

    def ask() -> None:
        try:
            client.get_latest("EUR/USD", ["close"])
        except FeatureStoreUnavailable as error:
            errors.append(error)

    caller = threading.Thread(target=ask, daemon=True)
    caller.start()
    ends = time.monotonic() + 5
    while not proxy.heard(b"HMGET") and time.monotonic() < ends:
        time.sleep(0.005)
    client.close()
    caller.join(5)
    assert not caller.is_alive()
    assert len(errors) == 1
    assert _none_left()


def test_options_that_can_not_be_meant_leave_no_thread() -> None:
    before = threading.active_count()
    with pytest.raises(InvalidRequestError):
        SyncFeatureStoreClient(timeout_s=-1)
    assert threading.active_count() == before


def test_the_time_limit_holds(repo: Repo, clock: Clock, proxy: Proxy) -> None:
    options: dict[str, Any] = {"repo": repo, "now": clock.now, "clock": clock.monotonic}
    with SyncFeatureStoreClient(**options, timeout_s=0.2, on_unavailable="fail") as client:
        proxy.black_hole()
        started = time.perf_counter()
        with pytest.raises(FeatureStoreUnavailable):
            client.get_latest("EUR/USD", ["close"])
        assert time.perf_counter() - started < 0.2 + 0.05 + 0.1
