"""Charts, gaps and revisions, as they are stored."""

from __future__ import annotations

from datetime import timedelta

import numpy as np
import pytest

from fsclient.dashboard.market import MAX_BARS, Market
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


def test_gaps_and_rewritten_bars_are_shown(market: Market, stack: Stack) -> None:
    chart = market.chart("BTC/USD", "1h", bars=MAX_BARS)
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
