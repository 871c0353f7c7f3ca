"""Charts, gaps, explanations and the quarantine, as they are stored."""

from __future__ import annotations

from dataclasses import replace
from datetime import timedelta

import numpy as np
import pytest

from feature_repo.catalog import INDICATORS
from fsclient.dashboard.market import MOST_BARS, Market, definition_digest, lineage
from tests.fsclient.dashboard.conftest import GAP_BACK, GAP_BARS, REVISED_BACK, Stack


@pytest.fixture
def market(stack: Stack) -> Market:
    return Market(stack.settings.tables())


def us(moment: object) -> int:
    return int(moment.timestamp() * 1e6)  # type: ignore[attr-defined]


def test_a_chart_holds_the_bars_asked_for_and_their_indicators(market: Market, stack: Stack) -> None:
    chart = market.chart("EUR/USD", "1h", bars=200, fields=["sma_50", "rsi_14"])
    assert chart is not None
    assert len(chart.opens_us) == 200
    assert chart.opens_us[-1] <= us(stack.newest)
    rows = stack.settings.tables().read("bars", timeframe="1h", symbols=["EUR/USD"], columns=["close"])
    np.testing.assert_array_equal(chart.bars["close"], rows["close"].to_numpy()[-200:])
    np.testing.assert_allclose(
        chart.indicators["sma_50"][60:],
        np.convolve(chart.bars["close"], np.ones(50) / 50, "valid")[11:],
        rtol=1e-12,
    )
    assert not chart.revisions.any()


def test_an_earlier_end_shows_earlier_bars(market: Market, stack: Stack) -> None:
    end = stack.newest - timedelta(days=10)
    chart = market.chart("BTC/USD", "1h", bars=50, end=end)
    assert chart is not None
    assert chart.opens_us[-1] == us(end)


def test_gaps_and_rewritten_bars_are_told(market: Market, stack: Stack) -> None:
    chart = market.chart("BTC/USD", "1h", bars=MOST_BARS)
    assert chart is not None
    assert chart.gaps.missing_total in (GAP_BARS, GAP_BARS - 1)  # one may have been released meanwhile
    (rewritten,) = chart.opens_us[chart.revisions > 0].tolist()
    assert rewritten == us(stack.newest - timedelta(hours=REVISED_BACK))
    missing = market.missing_by_day("BTC/USD", "1h")
    assert sum(missing.values()) == chart.gaps.missing_total
    assert (stack.newest - timedelta(hours=GAP_BACK + 2)).date() in {day for day, bars in missing.items() if bars}


def test_a_symbol_without_bars_has_no_chart(market: Market) -> None:
    assert market.chart("GOOG", "1d", bars=100) is None
    assert market.missing_by_day("GOOG", "1d") == {}
    assert market.timeframes("GOOG") == ()


@pytest.mark.parametrize("field", ["sma_50", "rsi_14", "macd", "atr_14", "obv"])
def test_an_explanation_computes_what_is_stored(market: Market, stack: Stack, field: str) -> None:
    found = market.explain("EUR/USD", "1h", field, int(market.opens("EUR/USD", "1h")[-5]))
    assert found is not None
    assert found.recomputed == pytest.approx(found.stored, rel=1e-9)
    assert found.is_warm is (INDICATORS_WARM_UP[field] is None or found.bars_used == INDICATORS_WARM_UP[field] + 1)
    assert len(found.revisions) == 1


INDICATORS_WARM_UP = {out: i.warm_up for i in INDICATORS.values() for out in i.outputs}


def test_an_explanation_tells_every_revision_of_a_bar(market: Market, stack: Stack) -> None:
    found = market.explain("BTC/USD", "1h", "close", us(stack.newest - timedelta(hours=REVISED_BACK)))
    assert found is not None
    assert len(found.revisions) == 2
    assert found.stored == found.revisions[1][1] != found.revisions[0][1]
    assert found.recomputed is None
    assert market.explain("BTC/USD", "1h", "close", us(stack.newest) + 1) is None


def test_a_definitions_digest_follows_its_meaning() -> None:
    rsi = INDICATORS["rsi_14"]
    assert definition_digest(rsi) == definition_digest(replace(rsi))
    assert definition_digest(rsi) != definition_digest(replace(rsi, parameters={"window": 15}))
    assert len({definition_digest(i) for i in INDICATORS.values()}) == len(INDICATORS)


def test_lineage_begins_with_its_source_and_ends_with_what_a_strategy_reads() -> None:
    assert lineage("rsi_14") == (
        "bars (close)", "rsi(window=14)", "quality gate", "indicators_*:rsi_14", "latest_* service"
    )  # fmt: skip
    assert lineage("close")[0] == "source file"
