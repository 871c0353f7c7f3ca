"""Candles from an exchange: a server on this machine that speaks Binance's interface, through the real ccxt."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from feature_repo.catalog import symbol, timeframe
from flows.sources import MissingExtraError, SourceBars, SourceError, SourceOptions, read_bars
from flows.sources.exchange import pages, read_exchange
from tests.flows.sources.exchange_server import MINUTE_MS, Exchange, serving

START = datetime(2024, 1, 8, tzinfo=UTC)
START_MS = int(START.timestamp() * 1000)


def candle(minute: int) -> tuple[int, float, float, float, float, float]:
    price = 42_000 + minute
    return START_MS + minute * MINUTE_MS, price, price + 2.5, price - 1.25, price + 1, 0.125 * minute


@pytest.fixture
def exchange() -> Exchange:
    """Ten minutes of candles; the last one is not closed yet."""
    return Exchange(candles=[candle(m) for m in range(10)], now_ms=START_MS + 9 * MINUTE_MS + 20_000)


@pytest.fixture
def address(exchange: Exchange) -> Iterator[str]:
    with serving(exchange) as url:
        yield url


@pytest.fixture
def read(address: str) -> Callable[..., SourceBars]:
    def read(source: str = "exchange://binance", symbol_name: str = "BTC/USDT", **options: Any) -> SourceBars:
        source_options = SourceOptions(**{"start": START, "exchange_url": address, **options})
        return read_bars(source, symbol=symbol(symbol_name), timeframe=timeframe("1m"), options=source_options)

    return read


def minutes(source: SourceBars) -> list[int]:
    return ((source.frame["open_time"] - START) / timedelta(minutes=1)).astype(int).tolist()


def test_closed_candles_are_read_and_the_open_one_is_held(read: Callable[..., SourceBars]) -> None:
    source = read()
    assert minutes(source) == list(range(9))
    assert source.notes.unfinished == 1
    assert source.notes.files == ("exchange:binance",)
    assert source.written_at is None
    first = source.frame.iloc[1]
    assert first[["open", "high", "low", "close", "volume"]].tolist() == list(candle(1)[1:])
    assert source.digest == read("ccxt://binance").digest != read(end=START + timedelta(minutes=5)).digest


def test_a_long_time_comes_in_pages_that_may_overlap(read: Callable[..., SourceBars], exchange: Exchange) -> None:
    exchange.page, exchange.overlap = 3, 1
    assert minutes(read()) == list(range(9))
    assert sum(path == "/api/v3/klines" for path, _ in exchange.asked) == 5


def test_a_gap_stays_a_gap(read: Callable[..., SourceBars], exchange: Exchange) -> None:
    exchange.page = 2
    del exchange.candles[3:7]
    assert minutes(read()) == [0, 1, 2, 7, 8]


def test_the_end_is_the_first_bar_not_wanted(read: Callable[..., SourceBars]) -> None:
    source = read(end=START + timedelta(minutes=4))
    assert (minutes(source), source.notes.unfinished) == ([0, 1, 2, 3], 0)


def test_an_exchange_that_keeps_less_than_asked_for_says_so(read: Callable[..., SourceBars]) -> None:
    reach = read(start=START - timedelta(days=1)).notes.detected["reach"]
    assert reach == "nothing before 2024-01-08T00:00:00.000Z, later than --start"


@pytest.mark.parametrize(
    ("faults", "waits"),
    [
        ([(429, {"Retry-After": "7"})], [7.0]),  # too many requests
        ([(418, {"Retry-After": "60"})], [60.0]),  # banned for a minute
        ([(503, {}), (502, {}), (500, {})], [0.75, 1.5, 3.0]),
    ],
    ids=["429", "418", "5xx"],
)
def test_faults_are_waited_out(
    exchange: Exchange, address: str, faults: list[tuple[int, dict[str, str]]], waits: list[float]
) -> None:
    exchange.faults = faults
    waited: list[float] = []
    table = read_exchange(
        "binance",
        symbol=symbol("BTC/USDT"),
        timeframe=timeframe("1m"),
        options=SourceOptions(start=START, exchange_url=address),
        sleep=waited.append,
        chance=lambda: 0.5,
    )
    assert len(table.lines) == 9
    assert waited == waits


@pytest.mark.parametrize(
    ("faults", "attempts", "why"),
    [
        ([(500, {})] * 50, 6, "no answer in 6 attempts (ExchangeNotAvailable)"),
        ([(429, {"Retry-After": "86400"})], 1, "no answer in 1 attempt (DDoSProtection; it asks to wait 86400 s)"),
    ],
    ids=["outage", "long ban"],
)
def test_it_gives_up(
    exchange: Exchange, address: str, faults: list[tuple[int, dict[str, str]]], attempts: int, why: str
) -> None:
    exchange.faults = faults
    with pytest.raises(SourceError) as caught:
        read_exchange(
            "binance",
            symbol=symbol("BTC/USDT"),
            timeframe=timeframe("1m"),
            options=SourceOptions(start=START, exchange_url=address),
            sleep=lambda _: None,
        )
    assert why in str(caught.value)
    assert len(exchange.asked) == attempts


def test_an_exchange_that_cannot_be_reached() -> None:
    with pytest.raises(SourceError, match=r"exchange:binance: no answer in 6 attempts"):
        read_exchange(
            "binance",
            symbol=symbol("BTC/USDT"),
            timeframe=timeframe("1m"),
            options=SourceOptions(start=START, exchange_url="http://127.0.0.1:9"),
            sleep=lambda _: None,
        )


@pytest.mark.parametrize(
    ("changes", "why"),
    [
        ({"source": "exchange://binanse"}, "unknown exchange 'binanse'. Did you mean binance"),
        ({"symbol_name": "ETH/USDT"}, "ETH/USDT is not traded there. It has BTC/USDT."),
        ({"start": None}, "Use --start"),
        ({"start": START + timedelta(days=1)}, "no closed candle in that time"),
        ({"tz": "Europe/Berlin"}, "an exchange takes no --tz"),
        ({"format": "csv"}, "an exchange has no format csv"),
    ],
)
def test_what_cannot_be(read: Callable[..., SourceBars], changes: dict[str, Any], why: str) -> None:
    with pytest.raises(SourceError) as caught:
        read(**changes)
    assert why in str(caught.value)


@pytest.mark.parametrize("url", ["127.0.0.1", "ftp://host", "https://user:password@host", "https://host/path?key=1"])
def test_an_address_is_a_scheme_and_a_host(url: str) -> None:
    with pytest.raises(SourceError, match="--exchange-url is no web address") as caught:
        SourceOptions(exchange_url=url)
    assert "password" not in str(caught.value)


def test_without_ccxt_the_extra_is_named(read: Callable[..., SourceBars], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "ccxt", None)
    with pytest.raises(MissingExtraError, match=r'ccxt is not installed. Install the extra "ccxt"'):
        read()


@given(
    known=st.sets(st.integers(0, 60)),
    start=st.integers(0, 30),
    length=st.integers(0, 40),
    limit=st.integers(4, 7),
    overlap=st.integers(0, 3),
    jumps=st.booleans(),
)
def test_every_candle_of_the_span_comes_once(
    known: set[int], start: int, length: int, limit: int, overlap: int, jumps: bool
) -> None:
    """Whether an exchange skips a stretch without candles or answers it with an empty page."""

    def page(since: int) -> list[list[float]]:
        there = sorted(m for m in known if m >= since - overlap)
        return [[m, 1, 1, 1, 1, 1] for m in there if jumps or m < since + limit][:limit]

    candles = pages(page, start_ms=start, end_ms=start + length, step_ms=1, limit=limit)
    assert [c[0] for c in candles] == sorted(m for m in known if start <= m < start + length)
