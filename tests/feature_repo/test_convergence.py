"""Whether a past is forgotten: by an average always, by a quotient of averages only while the market moves."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import pytest
import talib

from feature_repo.catalog import INDICATORS, Indicator
from feature_repo.convergence import is_settled
from feature_repo.indicators import compute, forgets

QUOTIENTS = pytest.mark.parametrize(
    "indicator", [i for i in INDICATORS.values() if i.kind.is_quotient], ids=lambda i: i.name
)


def bars(moving: int, dead: int, *, sigma: float = 1e-4, close: float = 1.1) -> dict[str, Any]:
    """Bars of a random walk, then of a market that stands still."""
    rng = np.random.default_rng(4)
    steps = np.append(rng.normal(0, sigma, moving), np.zeros(dead))
    prices = close * np.exp(np.cumsum(steps))
    wick = np.append(rng.uniform(0, sigma, moving), np.zeros(dead))
    return {"open": prices, "high": prices * (1 + wick), "low": prices * (1 - wick), "close": prices,
            "volume": np.ones(moving + dead)}  # fmt: skip


def warm_up(indicator: Indicator) -> int:
    return indicator.warm_up or 0


@QUOTIENTS
@pytest.mark.parametrize("sigma", [1e-5, 1e-3, 1e-1])
def test_in_a_market_that_moves_twice_the_warm_up_is_enough(indicator: Indicator, sigma: float) -> None:
    assert forgets(indicator, bars(2 * warm_up(indicator), 0, sigma=sigma))


@QUOTIENTS
@pytest.mark.parametrize("moving", [0, 50])
def test_a_market_that_stands_still_forgets_nothing(indicator: Indicator, moving: int) -> None:
    assert not forgets(indicator, bars(moving, 2 * warm_up(indicator)))


@QUOTIENTS
def test_what_moved_enough_before_it_stood_still_is_proof(indicator: Indicator) -> None:
    assert forgets(indicator, bars(2 * warm_up(indicator), 2 * warm_up(indicator)))


@QUOTIENTS
def test_an_unknown_bar_is_where_it_begins_again(indicator: Indicator) -> None:
    columns = bars(0, 2 * warm_up(indicator))
    columns["close"][40] = np.nan
    assert forgets(indicator, columns)


@pytest.mark.parametrize("sigma", [1e-7, 1e-4, 1e-1])
@QUOTIENTS
def test_what_is_forgotten_is_not_in_the_value(indicator: Indicator, sigma: float) -> None:
    """A past of moves a thousand times as large changes no value by more than 1e-9."""
    tail = bars(3 * warm_up(indicator), 200, sigma=sigma)
    known = {name: values[: 3 * warm_up(indicator)] for name, values in tail.items()}
    assert forgets(indicator, known)
    past = bars(500, 0, sigma=min(1e3 * sigma, 0.3))
    whole = compute(indicator, {name: np.append(past[name], tail[name]) for name in tail})
    for name, values in compute(indicator, tail).items():
        np.testing.assert_allclose(values[-200:], whole[name][-200:], rtol=1e-9, err_msg=name)


def test_a_past_of_nothing_is_one_of_the_pasts() -> None:
    """Every past with moves ends in the same ratio of decays; without any, it is 0/0."""

    def change(columns: Mapping[str, Any]) -> dict[str, Any]:
        mean = talib.EMA(columns["high"] - columns["low"], 10)
        ratio = np.divide(mean[10:], mean[:-10], out=np.zeros(len(mean) - 10), where=mean[:-10] != 0)
        return {"change": np.append(np.full(10, np.nan), ratio)}

    assert not is_settled(change, bars(0, 600), 19)
    assert is_settled(change, bars(600, 0), 19)


@pytest.mark.parametrize("kind", ["ema", "macd", "atr", "keltner"])
def test_an_average_forgets_in_a_dead_market_too(kind: str) -> None:
    """So its row need not say that it is a quotient."""
    for indicator in [i for i in INDICATORS.values() if i.kind.name == kind]:
        columns = bars(0, 2 * warm_up(indicator))

        def run(past: Mapping[str, Any], indicator: Indicator = indicator) -> dict[str, Any]:
            return compute(indicator, past)

        assert is_settled(run, columns, indicator.lookback), indicator.name


def test_fewer_rows_than_a_past_needs_are_no_proof() -> None:
    assert not is_settled(lambda columns: {"rsi": talib.RSI(columns["close"], 14)}, bars(15, 0), 14)
