"""Explanations: each says where its value came from, and what it says is so."""

from __future__ import annotations

from collections.abc import Callable
from datetime import date, datetime, timedelta
from typing import Any

import numpy as np
import pandas as pd
import pytest

from feature_repo.catalog import CatalogError, view
from feature_repo.stores.delta.tables import DeltaTables
from feature_repo.stores.redis.codec import doubt_key, encode_array, entity_key, field_key
from flows.inspect.explain import Explanation, NoSuchBarError, explain
from flows.ledger import Ledger, Run
from flows.materialize import materialize_symbols
from flows.settings import Settings
from fsclient.errors import InvalidRequestError

Make = Callable[..., pd.DataFrame]
Take = Callable[..., Any]
Explain = Callable[..., Explanation]


@pytest.fixture
def explain_feature(settings: Settings, ledger: Ledger, redis: Any, now: datetime, tables: DeltaTables) -> Explain:
    def run(feature: str, timeframe: str = "1h", *, at: datetime | None = None, symbol: str = "EUR/USD") -> Explanation:
        return explain(
            symbol, feature, timeframe, at=at, tables=tables, ledger=ledger, client=redis,
            project=settings.repo().project, now=now + timedelta(hours=3),
        )  # fmt: skip

    return run


@pytest.fixture
def stored(make_bars: Make, take: Take, settings: Settings, ledger: Ledger, now: datetime) -> pd.DataFrame:
    bars = make_bars(120)
    take(bars)
    run = ledger.begin("materialize", parameters={})
    materialize_symbols(
        Run(ledger=ledger, tables=settings.tables(), now=now, id=run), ["EUR/USD"], ["1h", "4h"], settings
    )
    return bars


def test_an_indicator_is_told_by_its_bars(stored: pd.DataFrame, explain_feature: Explain, tables: DeltaTables) -> None:
    explanation = explain_feature("sma_5")
    assert (explanation.kind, explanation.indicator, dict(explanation.parameters), explanation.inputs) == (
        "indicator", "sma_5", {"window": 5}, ("close",),
    )  # fmt: skip
    used = stored.tail(5)
    assert (explanation.from_bars, explanation.from_first, explanation.from_last) == (
        5,
        *used["open_time"].iloc[[0, -1]],
    )
    assert [row["close"] for row in explanation.from_shown] == used["close"].tolist()
    assert (
        explanation.stored
        == explanation.recomputed
        == explanation.online
        == pytest.approx(np.mean(used["close"]), rel=1e-12)
    )
    assert explanation.agree
    assert explanation.in_window
    assert (explanation.lookback, explanation.warm_up, explanation.preceding) == (4, 4, 119)
    assert explanation.written_by.startswith("materialize ")
    assert explanation.event_timestamp == explanation.open_time + timedelta(hours=1)
    assert (explanation.trading_day, explanation.session, explanation.expected) == (date(2024, 1, 15), "fx", True)


@pytest.mark.parametrize(
    ("feature", "bars"), [("rsi_14", 120), ("obv", 120), ("donchian_upper", 20), ("vwap", None), ("returns", 2)]
)
def test_how_many_bars_a_value_depends_on(
    stored: pd.DataFrame, explain_feature: Explain, feature: str, bars: int | None
) -> None:
    explanation = explain_feature(feature)
    same_day = (stored["open_time"] >= "2024-01-14T22:00Z").sum()  # 17:00 New York
    assert explanation.from_bars == (same_day if bars is None else bars)
    assert explanation.stored == explanation.recomputed


def test_a_value_in_its_warm_up(stored: pd.DataFrame, explain_feature: Explain) -> None:
    explanation = explain_feature("sma_50", at=stored["open_time"].iloc[10].to_pydatetime())
    assert (explanation.stored, explanation.recomputed, explanation.online) == (None, None, None)
    assert explanation.agree
    assert explanation.preceding < explanation.lookback


def test_a_derived_bar_is_told_by_its_source_bars(stored: pd.DataFrame, explain_feature: Explain) -> None:
    explanation = explain_feature("high", "4h")
    assert (explanation.kind, explanation.from_timeframe, explanation.from_bars, explanation.expected_bars) == (
        "derived",
        "1h",
        4,
        4,
    )
    assert explanation.stored == explanation.recomputed == max(row["high"] for row in explanation.from_shown)


def test_an_ingested_bar_came_as_it_is(stored: pd.DataFrame, explain_feature: Explain) -> None:
    explanation = explain_feature("close")
    assert (explanation.kind, explanation.from_bars, explanation.recomputed) == ("ingested", 0, None)
    assert explanation.stored == explanation.online == stored["close"].iloc[-1]


def test_the_moment_chooses_the_bar_that_had_closed(stored: pd.DataFrame, explain_feature: Explain) -> None:
    opened = stored["open_time"].iloc[60].to_pydatetime()
    assert explain_feature("close", at=opened + timedelta(minutes=59)).open_time == opened - timedelta(hours=1)
    assert explain_feature("close", at=opened + timedelta(minutes=60)).open_time == opened


def test_a_corrected_bar_tells_what_was_known_when(
    stored: pd.DataFrame, explain_feature: Explain, take: Take, settings: Settings, ledger: Ledger, now: datetime
) -> None:
    was = stored.loc[119, "close"]
    stored.loc[119, "close"] = stored.loc[119, "low"]
    take(stored, now=now + timedelta(hours=1))
    explanation = explain_feature("sma_5")
    assert not explanation.agree  # corrected, and not computed yet
    materialize_symbols(
        Run(ledger=ledger, tables=settings.tables(), now=now + timedelta(hours=2)), ["EUR/USD"], ["1h"], settings
    )
    explanation = explain_feature("close")
    assert [revision.value for revision in explanation.revisions] == [was, stored.loc[119, "low"]]
    assert explanation.revisions[0].created < now + timedelta(hours=1) <= explanation.revisions[1].created
    assert explain_feature("sma_5").agree


def test_a_difference_a_doubt_and_a_rejected_row_show(
    stored: pd.DataFrame,
    explain_feature: Explain,
    redis: Any,
    settings: Settings,
    make_bars: Make,
    take: Take,
    now: datetime,
) -> None:
    key = entity_key("EUR/USD", settings.repo().project)
    redis.hset(key, field_key(view("window", "1h").name, "close"), encode_array(np.arange(120.0)))
    redis.hset(key, doubt_key("1h"), "broken on purpose")
    stored.loc[119, "high"] = 1e-3
    take(stored, now=now + timedelta(hours=1))
    explanation = explain_feature("close")
    assert (explanation.online, explanation.agree, explanation.doubt) == (119.0, False, "broken on purpose")
    assert explanation.quarantined[0].rule == "high_out_of_bounds"


def test_nothing_online(stored: pd.DataFrame, explain_feature: Explain, redis: Any) -> None:
    redis.flushall()
    explanation = explain_feature("close")
    assert (explanation.online, explanation.in_window, explanation.online_as_of, explanation.agree) == (
        None,
        False,
        None,
        True,
    )


def test_what_can_not_be_explained(stored: pd.DataFrame, explain_feature: Explain) -> None:
    with pytest.raises(NoSuchBarError, match="the first one opened at 2024-01-08 00:00 UTC"):
        explain_feature("close", at=stored["open_time"].iloc[0].to_pydatetime())
    with pytest.raises(NoSuchBarError, match="none is stored"):
        explain_feature("close", symbol="GBP/USD")
    with pytest.raises(InvalidRequestError, match="ask for one of macd, macd_signal, macd_hist"):
        explain_feature("macd_12_26_9")
    with pytest.raises(CatalogError, match="unknown feature 'rsi_41'"):
        explain_feature("rsi_41")
