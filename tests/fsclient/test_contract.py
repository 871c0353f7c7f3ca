"""The usage that the public contract prints, as printed, on a home with nothing set but its place."""

from __future__ import annotations

import ast
import inspect
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pandas as pd
import pytest

import fsclient
from feature_repo.stores.redis.embedded import stop_server
from tests.fsclient.stack import fill_home

PRINTED = """
from fsclient import FeatureStoreClient, FeatureCache, feature_store_metrics, feature, provenance

async with FeatureStoreClient(use_cache=True) as client:          # or client = ...; await client.close()
    bars = await client.get_ohlcv(symbol="EUR/USD", start_date="2018-01-01", end_date="2018-01-31", timeframe="1h")
    ind = await client.get_indicators(symbol="EUR/USD", start_date="2018-01-01", end_date="2018-01-31",
                                      timeframe="1h", indicators=["sma_50", "sma_200", "rsi_14"])
    vol = await client.compute_feature(feature_name="volatility", symbol="EUR/USD", start_date="2018-01-01",
                                       end_date="2018-01-31", timeframe="1h", parameters={"window": 14})
    now = await client.get_latest(["EUR/USD", "GBP/USD"], ["close", "rsi_14", "4h:sma_200"], timeframe="1h")
"""


@pytest.fixture(scope="module")
def filled_home(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """Two symbols from August 2017 to January 2018, in both stores of a home."""
    home = tmp_path_factory.mktemp("contract")
    fill_home(home, datetime(2017, 8, 1, tzinfo=UTC), datetime(2018, 1, 31, 23, tzinfo=UTC))
    yield home
    stop_server(home)


@pytest.fixture
def home(filled_home: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("FSTORE_HOME", str(filled_home))
    monkeypatch.delenv("FSTORE_REDIS_URL", raising=False)
    return filled_home


async def test_the_usage_as_printed(home: Path) -> None:
    names: dict[str, Any] = {}
    code = compile(PRINTED, "CONTRACT", "exec", flags=ast.PyCF_ALLOW_TOP_LEVEL_AWAIT)
    await eval(code, names)  # noqa: S307  # printed above
    bars, ind, vol, now = (names[name] for name in ("bars", "ind", "vol", "now"))

    assert list(bars.columns) == ["open", "high", "low", "close", "volume"]
    assert list(ind.columns) == ["sma_50", "sma_200", "rsi_14"]
    assert isinstance(vol, pd.Series)
    for frame in (bars, ind, vol):
        assert frame.index.name == "open_time"
        assert str(frame.index.tz) == "UTC"
        assert frame.index.is_monotonic_increasing
        assert frame.index.is_unique
        assert frame.index[-1] == pd.Timestamp("2018-01-31 23:00", tz="UTC")
        assert not frame.isna().to_numpy().any()
    assert len(bars) == len(ind) == len(vol)
    assert list(now.index) == ["EUR/USD", "GBP/USD"]
    assert list(now.columns) == ["close", "rsi_14", "4h:sma_200", "event_timestamp", "age_bars"]
    assert now["close"].iloc[0] == bars["close"].iloc[-1]
    assert now["event_timestamp"].iloc[0] == pd.Timestamp("2018-02-01", tz="UTC")

    record = names["provenance"](bars)
    assert (record.source, record.complete, record.missing, record.stale) in (
        ("online", True, (), False),
        ("offline", True, (), False),
    )
    assert set(bars.attrs["provenance"]) >= {"source", "as_of", "age_bars", "complete", "missing", "stale"}


async def test_the_other_way_to_end_it(home: Path) -> None:
    client = fsclient.FeatureStoreClient()
    frame = await client.get_latest(["EUR/USD"], ["close"])
    await client.close()
    assert frame["age_bars"].iloc[0] > 1000


async def test_the_cache_and_the_metrics_are_as_printed(home: Path) -> None:
    cache = fsclient.FeatureCache(max_size=1000, default_ttl=300)
    cache.set("key", "value", ttl=5)
    assert cache.get("key") == "value"
    async with fsclient.FeatureStoreClient(cache=cache) as client:
        await client.get_latest("EUR/USD", ["close"])
    cache.invalidate("key")
    cache.invalidate_prefix("k")
    cache.clear()
    assert cache.get_stats()["size"] == 0
    assert isinstance(fsclient.feature_store_metrics.get_metrics(), dict)


def test_the_errors_are_one_tree() -> None:
    tree = {
        "FeatureStoreUnavailable": "FeatureStoreError",
        "CircuitOpenError": "FeatureStoreUnavailable",
        "RequestTimeout": "FeatureStoreUnavailable",
        **dict.fromkeys(
            (
                "AuthenticationError",
                "UnknownSymbolError",
                "UnknownFeatureError",
                "InvalidRequestError",
                "StaleDataError",
            ),
            "FeatureStoreError",
        ),
    }
    for name, parent in tree.items():
        assert issubclass(getattr(fsclient, name), getattr(fsclient, parent)), name


def test_the_arguments_have_the_printed_names() -> None:
    printed = {"use_cache", "cache", "timeout_s", "retries", "on_unavailable", "max_age_bars"}
    assert printed <= set(inspect.signature(fsclient.FeatureStoreClient).parameters)
