"""Freshness: what the two stores hold of each symbol and timeframe, and how old it is in bars."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any

import pandas as pd
import pytest

from feature_repo import catalog
from feature_repo.catalog import Session
from feature_repo.moments import to_us
from feature_repo.sessions import calendar_end
from feature_repo.stores.redis.codec import encode_timestamp, entity_key, timestamp_key
from feature_repo.stores.redis.connection import connect, online_url
from flows.inspect.status import freshness
from flows.ledger import Ledger, Run
from flows.materialize import materialize_symbols
from flows.settings import Settings

Make = Callable[..., pd.DataFrame]


def test_nothing_stored_is_no_row(settings: Settings, now: datetime) -> None:
    assert freshness(settings, now) == []


def test_bars_that_are_not_published_have_no_age(
    make_bars: Make, take: Callable[..., Any], settings: Settings, now: datetime
) -> None:
    bars = make_bars(30)
    take(bars)
    rows = freshness(settings, now)
    assert [(row["symbol"], row["timeframe"], row["source"]) for row in rows] == [
        ("EUR/USD", "1h", "ingested"),
        ("EUR/USD", "4h", "1h"),
        ("EUR/USD", "1d", "1h"),
    ]
    assert [row["offline"] for row in rows] == [bars["open_time"].iloc[-1] + timedelta(hours=1), None, None]
    assert {(row["online"], row["age_bars"]) for row in rows} == {(None, None)}


def test_age_counts_the_bars_that_an_open_market_has_made_since(
    make_bars: Make, take: Callable[..., Any], settings: Settings, ledger: Ledger
) -> None:
    bars = make_bars(118)  # Monday 00:00 UTC to the market's close, Friday 17:00 New York
    take(bars)
    friday = datetime(2024, 1, 12, 22, tzinfo=UTC)
    assert bars["open_time"].iloc[-1] + timedelta(hours=1) == friday
    materialize_symbols(Run(ledger=ledger, tables=settings.tables(), now=friday), ["EUR/USD"], ["1h", "4h"], settings)

    def ages(later: timedelta) -> dict[str, int]:
        rows = freshness(settings, friday + later)
        return {row["timeframe"]: row["age_bars"] for row in rows if row["timeframe"] != "1d"}

    assert ages(timedelta()) == {"1h": 0, "4h": 0}
    assert ages(timedelta(days=2)) == {"1h": 0, "4h": 0}  # over the weekend Friday's last bar is not old
    assert ages(timedelta(days=2, hours=5)) == {"1h": 5, "4h": 1}
    assert {row["online"] for row in freshness(settings, friday)} == {friday, None}


def test_a_symbol_that_the_catalog_has_lost_is_still_shown(
    make_bars: Make,
    take: Callable[..., Any],
    settings: Settings,
    ledger: Ledger,
    now: datetime,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    take(make_bars(30))
    take(make_bars(30, symbol="GBP/USD"), symbol="GBP/USD")
    materialize_symbols(Run(ledger=ledger, tables=settings.tables(), now=now), ["EUR/USD", "GBP/USD"], ["1h"], settings)
    remaining = {name: symbol for name, symbol in catalog.SYMBOLS.items() if name != "GBP/USD"}
    monkeypatch.setattr(catalog, "SYMBOLS", remaining)
    monkeypatch.setattr("feature_repo.catalog.symbols.SYMBOLS", remaining)
    rows = {row["symbol"]: row for row in reversed(freshness(settings, datetime(2024, 6, 3, 12, tzinfo=UTC)))}
    assert rows["GBP/USD"]["online"] is not None
    assert rows["GBP/USD"]["age_bars"] is None
    assert rows["EUR/USD"]["age_bars"] > 0


def test_one_bad_symbol_never_hides_the_others(
    make_bars: Make, take: Callable[..., Any], settings: Settings, ledger: Ledger, now: datetime
) -> None:
    """A foreign key, a garbled timestamp and a date before all calendars, each in a symbol of its own."""
    names = ["EUR/USD", "GBP/USD", "AUD/USD", "USD/CAD"]
    for name in names:
        take(make_bars(30, symbol=name), symbol=name)
    materialize_symbols(Run(ledger=ledger, tables=settings.tables(), now=now), names, ["1h"], settings)
    repo = settings.repo()
    foreign, garbled, beyond = (entity_key(name, repo.project) for name in names[1:])
    stamp = timestamp_key(catalog.view("ohlcv", "1h").name)
    with connect(online_url(repo), repo.redis_type) as client:
        client.delete(foreign)
        client.set(foreign, "somebody else's")
        client.hset(garbled, stamp, b"\xffnot a timestamp")
        client.hset(beyond, stamp, encode_timestamp(to_us(datetime(1600, 1, 1, tzinfo=UTC))))
    rows = {row["symbol"]: row for row in freshness(settings, now) if row["timeframe"] == "1h"}
    assert rows["EUR/USD"]["age_bars"] > 0
    assert rows["EUR/USD"]["problem"] == ""
    assert "ResponseError" in rows["GBP/USD"]["problem"]
    assert "timestamp" in rows["AUD/USD"]["problem"]
    assert "1678 to 2261" in rows["USD/CAD"]["problem"]
    assert {rows[name]["age_bars"] for name in names[1:]} == {None}


def test_after_the_end_of_its_calendar_a_symbol_is_never_fresh(
    make_bars: Make,
    take: Callable[..., Any],
    settings: Settings,
    ledger: Ledger,
    now: datetime,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """No bar is expected then, so its age would stay 0 for ever."""
    take(make_bars(30))
    materialize_symbols(Run(ledger=ledger, tables=settings.tables(), now=now), ["EUR/USD"], ["1h"], settings)
    shanghai = Session(name="shanghai", kind="exchange", timezone="Asia/Shanghai", day_start="00:00", calendar="XSHG")
    symbols = catalog.SYMBOLS | {"EUR/USD": replace(catalog.SYMBOLS["EUR/USD"], session=shanghai)}
    monkeypatch.setattr(catalog, "SYMBOLS", symbols)
    end_us = calendar_end(shanghai)
    assert end_us is not None
    end = datetime.fromtimestamp(end_us / 1e6, UTC)

    def newest(at: datetime) -> tuple[str | None, str]:
        row = next(row for row in freshness(settings, at) if row["timeframe"] == "1h")
        return row["freshness"], row["problem"]

    assert newest(end - timedelta(days=1)) == ("stale", "")
    assert newest(end) == (None, f"calendar XSHG is known to {end:%Y-%m-%d} only: update exchange_calendars")
