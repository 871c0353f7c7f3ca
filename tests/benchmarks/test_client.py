"""What a lookup costs, beside the least it could cost. Ratios within one run; nothing here asserts a time."""

from __future__ import annotations

import asyncio
import statistics
import time
from collections.abc import Awaitable, Callable
from datetime import UTC, datetime, timedelta
from typing import Any

import numpy as np
import pandas as pd
import pytest
import redis.asyncio

from feature_repo import catalog
from feature_repo.repo import Repo
from feature_repo.stores.redis.codec import decode_array, entity_key, field_key, timestamp_key
from feature_repo.stores.redis.connection import online_url
from fsclient import FeatureStoreClient
from fsclient.metrics.registry import CallRecord, Metrics

from .conftest import YEAR_BARS, Report

pytestmark = pytest.mark.benchmark

FEATURES = ("close", *catalog.INDICATOR_FIELDS[:23])
VIEWS = {name: catalog.view("ohlcv" if name in catalog.BAR_FIELDS else "indicators", "1h") for name in FEATURES}
SYMBOLS = list(catalog.SYMBOLS)[:100]
WINDOW = ("open", "high", "low", "close", "volume", *catalog.INDICATOR_FIELDS[:20])


async def paired(a: Callable[[], Awaitable[Any]], b: Callable[[], Awaitable[Any]], rounds: int) -> tuple[float, float]:
    """Medians of two calls in turn, so that the machine's drift is in both."""
    times: tuple[list[float], list[float]] = ([], [])
    for _ in range(rounds):
        for call, durations in zip((a, b), times, strict=True):
            started = time.perf_counter()
            await call()
            durations.append(time.perf_counter() - started)
    return statistics.median(times[0]), statistics.median(times[1])


def fields_of_latest() -> list[bytes]:
    fields = [field_key(view.name, name) for name, view in VIEWS.items()]
    return fields + [timestamp_key(name) for name in {v.name for v in VIEWS.values()}]


def feast_references() -> list[str]:
    return [f"{view.name}:{name}" for name, view in VIEWS.items()]


@pytest.fixture(scope="session")
def feast_store(repo: Repo) -> Any:
    from flows.apply import apply_definitions

    store = repo.feature_store()
    apply_definitions(store)
    store.refresh_registry()
    return store


@pytest.mark.parametrize("count", [1, 100])
async def test_latest_without_cache(repo: Repo, report: Report, feast_store: Any, count: int) -> None:
    symbols, fields = SYMBOLS[:count], fields_of_latest()
    keys = [entity_key(s, repo.project) for s in symbols]
    floor_client = redis.asyncio.Redis.from_url(online_url(repo))

    async def floor() -> Any:
        if count == 1:
            return await floor_client.hmget(keys[0], fields)
        async with floor_client.pipeline(transaction=False) as pipe:
            for key in keys:
                pipe.hmget(key, fields)
            return await pipe.execute()

    references = feast_references()

    async def feast() -> Any:
        return await feast_store.get_online_features_async(
            features=references, entity_rows=[{"symbol": s} for s in symbols]
        )

    async with FeatureStoreClient(repo=repo, use_cache=False) as client:
        ours, bare = await paired(lambda: client.get_latest(symbols, FEATURES), floor, 400 if count == 1 else 60)
        theirs, bare2 = await paired(feast, floor, 40 if count == 1 else 10)
    await floor_client.aclose()
    what = f"get_latest, {count} x 24, no cache"
    report.ratio(what, ours, bare, "redis.asyncio", "1.5x")
    report.ratio(f"Feast async, {count} x 24", theirs, bare2, "redis.asyncio", "-")


async def test_window_as_frame(repo: Repo, report: Report) -> None:
    spec = catalog.view("window", "1h")
    fields = [field_key(spec.name, n) for n in (catalog.WINDOW_TIME, *WINDOW)] + [timestamp_key(spec.name)]
    key = entity_key("EUR/USD", repo.project)
    floor_client = redis.asyncio.Redis.from_url(online_url(repo))
    reply = await floor_client.hmget(key, fields)
    opens = decode_array(reply[0])
    start = datetime.fromtimestamp(float(opens[-500]), UTC)
    end = datetime.fromtimestamp(float(opens[-1]), UTC)
    async with FeatureStoreClient(repo=repo, use_cache=False) as client:
        frame = await client.get_indicators("EUR/USD", start, end, "1h", WINDOW)
        assert frame.shape == (500, 25)
        assert frame.attrs["provenance"]["source"] == "online"
        ours, bare = await paired(
            lambda: client.get_indicators("EUR/USD", start, end, "1h", WINDOW),
            lambda: floor_client.hmget(key, fields),
            200,
        )
    await floor_client.aclose()
    report.ratio("window 500 x 25 (+ time) as a frame", ours, bare, "redis.asyncio", "3x")


async def test_cached(repo: Repo, report: Report) -> None:
    end = datetime.now(UTC)
    start = end - timedelta(hours=500)
    async with FeatureStoreClient(repo=repo) as client:
        calls = {
            "cached get_latest, 1 x 24": (lambda: client.get_latest(["EUR/USD"], FEATURES), "20 us"),
            "cached frame, 500 x 3": (
                lambda: client.get_indicators("EUR/USD", start, end, "1h", ("sma_50", "sma_200", "rsi_14")),
                "30 us",
            ),
        }
        await client.get_latest("EUR/USD", ["close"])
        while not client.hears_publishes:
            await asyncio.sleep(0.001)
        for name, (call, goal) in calls.items():
            await call()
            frame = await call()
            assert frame.attrs["provenance"]["source"] == "cache"
            frame.attrs = {}  # which pandas would copy too

            async def copy(frame: pd.DataFrame = frame) -> pd.DataFrame:
                return frame.copy()

            ours, pandas = await paired(call, copy, 3000)
            report.ratio(name, ours, pandas, "pandas' copy()", goal)


async def test_metrics_of_a_cache_hit(repo: Repo, report: Report) -> None:
    """One call's record: made and counted in this process, and what reporting it to the dashboard adds."""
    calls, rounds = 5_000, 20
    alone, reported = Metrics(), Metrics()

    def a_call_s(metrics: Metrics) -> float:
        started = time.perf_counter()
        for _ in range(calls):
            metrics.record(CallRecord("get_latest", "EUR/USD", "1h", "cache", 2e-5, None, True, False, 0, 1))
        return (time.perf_counter() - started) / calls

    async with FeatureStoreClient(repo=repo, metrics=reported) as client:
        await client.get_latest("EUR/USD", ["close"])  # from the first answer on, calls are reported to the dashboard
        times = np.array([[a_call_s(alone), a_call_s(reported)] for _ in range(rounds)])
        assert reported.get_metrics()["calls"]["by_symbol"]["EUR/USD"] == rounds * calls + 1
    report.time("counting a cache hit", float(np.median(times[:, 0])), "2 us")
    report.time("telling the dashboard of it", float(np.median(times[:, 1] - times[:, 0])), "2 us")


async def test_year_from_the_offline_store(repo: Repo, report: Report) -> None:
    import pyarrow.dataset as ds

    end = datetime.now(UTC)
    start = end - timedelta(days=364)
    names = ("sma_50", "sma_200", "rsi_14")

    async def bare() -> Any:
        def read() -> Any:
            files = ds.dataset(f"{repo.offline}/indicators", format="parquet", exclude_invalid_files=True)
            return files.to_table(columns=["open_time", *names])

        return await asyncio.to_thread(read)

    async with FeatureStoreClient(repo=repo, use_cache=False, timeout_s=30) as client:
        frame = await client.get_indicators("EUR/USD", start, end, "1h", names)
        assert len(frame) >= YEAR_BARS - 48
        ours, floor = await paired(lambda: client.get_indicators("EUR/USD", start, end, "1h", names), bare, 15)
    report.ratio("a year of 1h x 3 from the offline store", ours, floor, "pyarrow", "2x")


async def test_64_calls_in_flight(repo: Repo, report: Report, feast_store: Any) -> None:
    references, rounds = feast_references(), 40

    async def burst(call: Callable[[str], Awaitable[Any]]) -> float:
        started = time.perf_counter()
        await asyncio.gather(*(call(SYMBOLS[i % 64]) for i in range(64)))
        return time.perf_counter() - started

    async def feast(symbol: str) -> Any:
        return await feast_store.get_online_features_async(features=references, entity_rows=[{"symbol": symbol}])

    async with FeatureStoreClient(repo=repo, use_cache=False) as client:
        times = np.array(
            [[await burst(lambda s: client.get_latest(s, FEATURES)), await burst(feast)] for _ in range(rounds)]
        )
    ours, theirs = np.median(times, axis=0) / 64
    report.rows.append(
        (
            "64 calls in flight, per call",
            f"{ours * 1e6:,.0f} us",
            f"Feast async {theirs * 1e6:,.0f} us",
            f"{theirs / ours:.1f}x the calls/s",
            "5x",
        )
    )
