"""One behaviour, whichever way: what a client gets through HTTP is what it gets from the stores, bit by bit."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Iterator
from datetime import UTC, date, datetime
from typing import Any

import numpy as np
import pandas as pd
import pytest

from fsclient import FeatureStoreClient, FeatureStoreError, SyncFeatureStoreClient, feature, provenance
from fsclient.computed.registered import registered
from tests.fsclient.serving import Serving
from tests.fsclient.stack import (
    EVERY_FIELD,
    KNOWN_WITHOUT_DATA,
    MINUTES,
    NOW,
    PUBLISHED,
    Clock,
    Market,
    hearing,
    reasons,
    source,
    until,
)

Make = Callable[..., FeatureStoreClient]
Answer = pd.DataFrame | pd.Series
Ask = Callable[[FeatureStoreClient], Awaitable[Answer]]

LOOKUPS: dict[str, Ask] = {
    "latest of one": lambda c: c.get_latest("EUR/USD", ["close"]),
    "latest of all fields": lambda c: c.get_latest(PUBLISHED, EVERY_FIELD),
    "latest of several timeframes": lambda c: c.get_latest(PUBLISHED[::-1], ["4h:sma_200", "close", "1h:rsi_14"]),
    "latest at 4h": lambda c: c.get_latest("GBP/USD", "rsi_14", timeframe="4h"),
    "latest of a symbol without data": lambda c: c.get_latest([KNOWN_WITHOUT_DATA, "EUR/USD"], ["close", "atr_14"]),
    "latest of nothing at all": lambda c: c.get_latest(KNOWN_WITHOUT_DATA, ["close"]),
    "bars online": lambda c: c.get_ohlcv("EUR/USD", "2024-06-24", "2024-06-26"),
    "bars offline": lambda c: c.get_ohlcv("EUR/USD", "2024-03-01", date(2024, 3, 31)),
    "bars of both stores": lambda c: c.get_ohlcv("EUR/USD", datetime(2024, 3, 1, tzinfo=UTC), NOW),
    "bars to the microsecond": lambda c: c.get_ohlcv(
        "EUR/USD", "2024-03-04T01:00:00.000001", "2024-03-04T05:00:00+02:00"
    ),
    "bars of minutes": lambda c: c.get_ohlcv(MINUTES, "2024-05-01", "2024-05-03", "1m"),
    "bars that are not there": lambda c: c.get_ohlcv("EUR/USD", "2020-01-06", "2020-01-07"),
    "bars to come": lambda c: c.get_ohlcv("EUR/USD", "2024-07-01", "2024-07-02"),
    "bars as known before there were any": lambda c: c.get_ohlcv(
        "EUR/USD", "2024-03-04", "2024-03-05", as_known_at="2024-03-05"
    ),
    "bars as known now": lambda c: c.get_ohlcv("EUR/USD", "2024-03-04", "2024-03-05", as_known_at=NOW),
    "indicators": lambda c: c.get_indicators("EUR/USD", "2024-03-04", "2024-03-08", "4h", ["rsi_14", "close"]),
    "indicators that warm up": lambda c: c.get_indicators("EUR/USD", "2024-02-01", "2024-02-09", "1h", ["sma_200"]),
    "whole indicators": lambda c: c.get_indicators("GBP/USD", "2024-06-24", "2024-06-26", "1h", ["bollinger_20_2"]),
    "kind": lambda c: c.compute_feature("volatility", "EUR/USD", "2024-03-04", "2024-03-05", parameters={"window": 9}),
    "a kind with its defaults": lambda c: c.compute_feature("macd", "EUR/USD", "2024-03-01", "2024-03-29", "4h"),
    "a kind and a function of the same name": lambda c: c.compute_feature("rsi", "EUR/USD", "2024-03-01", "2024-03-02"),
    "a function of the name of a kind": lambda c: c.compute_feature("RSI", "EUR/USD", "2024-03-01", "2024-03-02"),
    "a function of all history": lambda c: c.compute_feature("OBV", "EUR/USD", "2024-03-01", "2024-03-02"),
    "a field": lambda c: c.compute_feature("ema_200", "EUR/USD", "2024-03-01", "2024-03-02"),
    "a function of the caller's own": lambda c: c.compute_feature(
        "own_gap", "EUR/USD", "2024-03-01", "2024-03-29", parameters={"scale": 10.0}
    ),
    "a function of the caller's own, of all history": lambda c: c.compute_feature(
        "own_total", "EUR/USD", "2024-03-01", "2024-03-29"
    ),
}  # fmt: skip

MISTAKES: dict[str, Ask] = {
    "an unknown symbol": lambda c: c.get_latest("EURUSD", ["close"]),
    "an unknown feature": lambda c: c.get_latest("EUR/USD", ["rsi_15"]),
    "an unknown timeframe": lambda c: c.get_latest("EUR/USD", ["close"], timeframe="7m"),
    "nothing asked for": lambda c: c.get_latest([], ["close"]),
    "asked for twice": lambda c: c.get_latest("EUR/USD", ["close", "close"]),
    "start after end": lambda c: c.get_ohlcv("EUR/USD", "2024-03-02", "2024-03-01"),
    "no date": lambda c: c.get_ohlcv("EUR/USD", "yesterday", "2024-03-01"),
    "an unknown indicator": lambda c: c.get_indicators("EUR/USD", "2024-03-01", "2024-03-02", "1h", ["sma_51"]),
    "an unknown kind": lambda c: c.compute_feature("volatilty", "EUR/USD", "2024-03-01", "2024-03-02"),
    "an unknown parameter": lambda c: c.compute_feature(
        "volatility", "EUR/USD", "2024-03-01", "2024-03-02", parameters={"windows": 3}
    ),
    "a parameter out of its range": lambda c: c.compute_feature(
        "RSI", "EUR/USD", "2024-03-01", "2024-03-02", parameters={"timeperiod": 1}
    ),
    "a kind's parameter out of its range": lambda c: c.compute_feature(
        "volatility", "EUR/USD", "2024-03-01", "2024-03-02", parameters={"window": -3}
    ),
    "a parameter beyond all numbers": lambda c: c.compute_feature(
        "RSI", "EUR/USD", "2024-03-01", "2024-03-02", parameters={"timeperiod": 10**30}
    ),
    "a computation that takes too long": lambda c: c.compute_feature(
        "zscore", MINUTES, "2023-06-01", "2024-05-31", "1m", parameters={"window": 5000}
    ),
    "an own function that fails": lambda c: c.compute_feature("own_failing", "EUR/USD", "2024-03-01", "2024-03-02"),
}  # fmt: skip


@pytest.fixture(autouse=True)
def own() -> Iterator[None]:
    """Functions that this process alone knows."""

    @feature("own_gap", inputs=("open", "close"), lookback=1, scale=1.0)
    def gap(open_: Any, close: Any, *, scale: float) -> Any:
        return scale * (open_ - np.concatenate([[np.nan], close[:-1]]))

    @feature("own_total", inputs=("volume",))
    def total(volume: Any) -> Any:
        return np.cumsum(volume)

    @feature("own_failing")
    def failing(_close: Any) -> Any:
        raise ZeroDivisionError("mine")

    yield
    for name in ("own_gap", "own_total", "own_failing"):
        del registered[name]


def reported(answer: Answer) -> dict[str, Any]:
    """The provenance without the moment at which the store was read."""
    record = provenance(answer).as_dict()
    assert record.pop("read_at").endswith("Z")
    return record


def assert_same(here: Answer, there: Answer) -> None:
    """Values to the bit, dtypes, labels, names, types."""
    assert type(here) is type(there)
    equal = pd.testing.assert_series_equal if isinstance(here, pd.Series) else pd.testing.assert_frame_equal
    equal(here, there, check_exact=True, check_freq=True)  # type: ignore[operator]
    assert here.index.dtype == there.index.dtype
    assert here.index.name == there.index.name
    for mine, its in zip(here.reset_index().items(), there.reset_index().items(), strict=True):
        assert mine[1].dtype == its[1].dtype
        if mine[1].dtype == np.float64:
            assert mine[1].to_numpy().tobytes() == its[1].to_numpy().tobytes()


# ------------------------------------------------------------------------------------------------------ the same


@pytest.fixture
def ways(make_client: Make, make_remote: Make) -> tuple[FeatureStoreClient, FeatureStoreClient]:
    """Clients of both ways; with time enough for a busy machine."""
    options = {"use_cache": False, "on_unavailable": "fail", "timeout_s": 20.0}
    return make_client(**options), make_remote(**options)


async def test_every_answer_is_the_same(
    ways: tuple[FeatureStoreClient, FeatureStoreClient], subtests: pytest.Subtests
) -> None:
    for name, ask in LOOKUPS.items():
        with subtests.test(name):
            here, there = await ask(ways[0]), await ask(ways[1])
            assert_same(here, there)
            assert reported(here) == reported(there)


async def test_every_mistake_is_shown_in_the_same_words(
    ways: tuple[FeatureStoreClient, FeatureStoreClient], subtests: pytest.Subtests
) -> None:
    for name, ask in MISTAKES.items():
        with subtests.test(name):
            errors = []
            for client in ways:
                with pytest.raises(FeatureStoreError) as mistake:
                    await ask(client)
                errors.append((type(mistake.value), str(mistake.value)))
            assert errors[0] == errors[1]
    for client in ways:
        assert client._reader.guard.breaker.snapshot().failed == 0


async def test_an_answer_is_the_callers_own(make_remote: Make) -> None:
    client = make_remote()
    await hearing(client)
    first = await client.get_latest(PUBLISHED, ["close", "rsi_14"])
    original = first.copy()
    first.loc[:, "close"] = -1.0
    first.attrs["provenance"]["missing"].append("mine")
    again = await client.get_latest(PUBLISHED, ["close", "rsi_14"])
    assert source(again) == "cache"
    pd.testing.assert_frame_equal(again, original)
    assert again.attrs["provenance"]["missing"] == []


async def test_an_answer_that_the_service_repeats_says_so(make_remote: Make, service: Serving, clock: Clock) -> None:
    first, second = make_remote(use_cache=False), make_remote(use_cache=False)
    await until(lambda: service.hears, "the service to hear publishes")
    online = await first.get_ohlcv("EUR/USD", "2024-03-04", "2024-03-08")
    cached = await second.get_ohlcv("EUR/USD", "2024-03-04", "2024-03-08")
    assert (source(online), source(cached)) == ("offline", "cache")
    assert provenance(cached).origin == "offline"
    assert provenance(cached).read_at == provenance(online).read_at


# ---------------------------------------------------------------------------------------------------- publishes


async def test_a_publish_reaches_the_clients_cache_through_the_service(make_remote: Make, market: Market) -> None:
    client = make_remote()
    await hearing(client)
    before = await client.get_latest("EUR/USD", ["close"])
    assert source(await client.get_latest("EUR/USD", ["close"])) == "cache"
    other = await client.get_latest("GBP/USD", ["close"])
    changes = client._invalidator.changes  # type: ignore[union-attr]
    market.publish("EUR/USD", "1h", market.corrected(close=1.75))
    await until(lambda: client._invalidator.changes > changes, "the publish to be heard")  # type: ignore[union-attr]
    after = await client.get_latest("EUR/USD", ["close"])
    assert before["close"].iloc[0] != after["close"].iloc[0] == 1.75
    assert source(await client.get_latest("GBP/USD", ["close"])) == "cache"
    assert source(other) != "cache" or provenance(other).origin == "online"


async def test_while_the_service_hears_nothing_answers_are_repeated_briefly(
    make_remote: Make, proxy: Any, market: Market
) -> None:
    client = make_remote()
    await hearing(client)
    proxy.refuse()
    await until(lambda: not client.hears_publishes, "the loss to be noticed")
    proxy.forward()
    await until(lambda: client.hears_publishes, "publishes to be heard again")


async def test_a_service_that_falls_silent_is_noticed(make_remote: Make, way: Any) -> None:
    """Fault: the connection dies silently. What was cached before can no longer be trusted."""
    client = make_remote()
    await hearing(client)
    way.black_hole()
    await until(lambda: not client.hears_publishes, "the silence to be noticed")
    way.forward()
    await until(lambda: client.hears_publishes, "publishes to be heard again")


# ------------------------------------------------------------------------------------------------- other callers


def test_the_client_without_an_event_loop_asks_a_service_too(service: Serving, clock: Clock) -> None:
    with SyncFeatureStoreClient(url=service.url, now=clock.now, clock=clock.monotonic, timeout_s=20.0) as client:
        frame = client.get_latest(PUBLISHED, ["close"])
        series = client.compute_feature("own_gap", "EUR/USD", "2024-03-01", "2024-03-29")
    assert source(frame) == "online"
    assert source(series) == "recomputed"


def test_one_client_serves_several_event_loops_in_turn(service: Serving, clock: Clock) -> None:
    client = FeatureStoreClient(url=service.url, now=clock.now, clock=clock.monotonic, timeout_s=20.0, use_cache=False)

    async def ask() -> str:
        return source(await client.get_latest("EUR/USD", ["close"]))

    assert [asyncio.run(ask()) for _ in range(3)] == ["online", "cache", "cache"] or asyncio.run(ask()) == "cache"
    asyncio.run(client.close())


async def test_warm_up_is_shown(make_remote: Make) -> None:
    frame = await make_remote().get_indicators("EUR/USD", "2024-02-01", "2024-02-02", "1h", ["sma_200"])
    assert frame["sma_200"].isna().all()
    assert reasons(frame) == {"warm_up"}
