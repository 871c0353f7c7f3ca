"""Freshness: what the two stores hold of each symbol and timeframe, and how old it is in bars."""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from typing import Any

import pandas as pd
import pytest

from feature_repo import catalog
from flows.materialize import materialize_symbols
from flows.settings import Settings
from flows.status import freshness

Make = Callable[..., pd.DataFrame]


def test_nothing_stored_is_no_row(settings: Settings, now: datetime) -> None:
    assert freshness(settings, now) == []


def test_bars_that_are_not_published_have_no_age(
    make_bars: Make, take: Callable[..., Any], settings: Settings, now: datetime
) -> None:
    bars = make_bars(30)
    take(bars)
    (row,) = freshness(settings, now)
    assert (row["symbol"], row["timeframe"], row["bars"]) == ("EUR/USD", "1h", 30)
    assert row["offline"] == bars["open_time"].iloc[-1] + timedelta(hours=1)
    assert (row["online"], row["age_bars"]) == (None, None)


def test_a_published_symbol_is_as_old_as_the_bars_an_open_market_has_made_since(
    make_bars: Make, take: Callable[..., Any], settings: Settings
) -> None:
    bars = make_bars(120)  # Monday 00:00 to Friday 22:00, when the market closes
    take(bars)
    friday = bars["open_time"].iloc[-1].to_pydatetime() + timedelta(hours=1)
    assert (friday.weekday(), friday.hour) == (4, 0) or friday.weekday() == 4
    materialize_symbols(["EUR/USD"], ["1h", "4h"], settings, friday)
    ages = {(row["timeframe"]): row["age_bars"] for row in freshness(settings, friday + timedelta(hours=3))}
    assert ages["1h"] == 3 if friday.hour <= 19 else ages["1h"] <= 3
    assert {row["online"] for row in freshness(settings, friday) if row["timeframe"] == "1h"} == {friday}


def test_a_symbol_that_the_catalog_has_lost_is_still_shown(
    make_bars: Make, take: Callable[..., Any], settings: Settings, now: datetime, monkeypatch: pytest.MonkeyPatch
) -> None:
    take(make_bars(30))
    take(make_bars(30, symbol="GBP/USD"), symbol="GBP/USD")
    materialize_symbols(["EUR/USD", "GBP/USD"], ["1h"], settings, now)
    left = {name: symbol for name, symbol in catalog.SYMBOLS.items() if name != "GBP/USD"}
    monkeypatch.setattr(catalog, "SYMBOLS", left)
    rows = {row["symbol"]: row for row in freshness(settings, datetime(2024, 6, 3, 12, tzinfo=UTC))}
    assert rows["GBP/USD"]["online"] is not None
    assert rows["GBP/USD"]["age_bars"] is None
    assert rows["EUR/USD"]["age_bars"] > 0
