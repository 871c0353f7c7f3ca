"""One rule, three readers: great-expectations, the masks and the fast path's compiled rules reach one verdict."""

from __future__ import annotations

import math

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from feature_repo.catalog import BAR_FIELDS, INDICATOR_FIELDS, symbol, timeframe
from flows.quality.fast_rules import FastRules
from flows.quality.masks import bad_rows
from flows.quality.rules import (
    CLOSED_FOR_S,
    DERIVED,
    IDLE,
    ON_GRID,
    UNIT_FACTOR,
    Ascending,
    NotEmpty,
    Present,
    Typed,
    Unique,
    Within,
    bar_rules,
    indicator_rules,
    may_be_nan_column,
)
from flows.quality.suite import evaluate

BARS = bar_rules(symbol("EUR/USD"), timeframe("1m"))
INDICATORS = indicator_rules()
ODD = [math.nan, math.inf, -math.inf, 0.0, -1.0, 1e-300, 1e300, 0.3, math.nextafter(0.3, 0), 3.5, 100.0, 1.1]


def good_bars(n: int) -> pd.DataFrame:
    times = pd.date_range("2024-01-01", periods=n, freq="min", tz="UTC").as_unit("us")
    frame = pd.DataFrame({"open_time": times, "open": 1.1, "high": 1.2, "low": 1.0, "close": 1.15, "volume": np.nan})
    return frame.assign(**{ON_GRID: True, CLOSED_FOR_S: 60.0, IDLE: False, UNIT_FACTOR: 1.0})


def good_rows(n: int) -> pd.DataFrame:
    times = pd.date_range("2024-01-01 00:01", periods=n, freq="min", tz="UTC").as_unit("us")
    middle = dict.fromkeys(INDICATOR_FIELDS, 1.0) | {"williams_r_14": -50.0}
    flags = {may_be_nan_column(name): np.zeros(n, dtype=bool) for name in INDICATOR_FIELDS}
    return pd.DataFrame({"event_timestamp": times, **middle, **flags})


def fast_bars(table: pd.DataFrame) -> np.ndarray:
    columns = (*BAR_FIELDS, *DERIVED)
    return FastRules(BARS, columns, time="open_time").bad_rows(table[list(columns)].to_numpy(dtype=float).T)


def fast_rows(table: pd.DataFrame) -> np.ndarray:
    rules = FastRules(INDICATORS, INDICATOR_FIELDS, time="event_timestamp")
    allowed = np.stack([table[may_be_nan_column(name)].to_numpy() for name in rules.optional])
    return rules.bad_rows(table[list(INDICATOR_FIELDS)].to_numpy().T, allowed)


def assert_one_verdict(rules, table, fast) -> None:
    by_masks = np.logical_or.reduce([bad_rows(rule, table) for rule in rules])
    np.testing.assert_array_equal(fast, by_masks)
    assert evaluate(rules, table).success is not bool(fast.any())


@given(data=st.data(), n=st.integers(1, 5), broken=st.integers(0, 3))
@settings(max_examples=40, deadline=None)
def test_random_bars(data: st.DataObject, n: int, broken: int) -> None:
    table = good_bars(n)
    for _ in range(broken):
        row, name = data.draw(st.integers(0, n - 1)), data.draw(st.sampled_from([*BAR_FIELDS, *DERIVED]))
        table.loc[row, name] = data.draw(st.booleans() if name in (ON_GRID, IDLE) else st.sampled_from(ODD))
    assert_one_verdict(BARS, table, fast_bars(table))


@given(data=st.data(), n=st.integers(1, 5), broken=st.integers(0, 3))
@settings(max_examples=40, deadline=None)
def test_random_indicators(data: st.DataObject, n: int, broken: int) -> None:
    table = good_rows(n)
    for _ in range(broken):
        row, name = data.draw(st.integers(0, n - 1)), data.draw(st.sampled_from(INDICATOR_FIELDS))
        table.loc[row, name] = data.draw(st.sampled_from(ODD))
        table.loc[row, may_be_nan_column(name)] = data.draw(st.booleans())
    assert_one_verdict(INDICATORS, table, fast_rows(table))


def breakers(rule) -> dict[str, float]:
    """Values that break a rule."""
    first = rule.columns[0]
    match rule.demand:
        case Present():
            return {first: math.nan}
        case Within(low=bool(allowed)):
            return {first: not allowed}
        case Within(low=low, high=high):
            beyond = math.nextafter(low, -math.inf) if low > -math.inf else math.nextafter(high, math.inf)
            return {first: beyond}
        case _:
            return {first: 2.0, rule.columns[1]: 1.0}


def about_rows(rules, time: str):
    """The rules that the hot path compiles; those about the batch and its time column hold by construction."""
    whole = NotEmpty | Typed | Unique | Ascending
    return [rule for rule in rules if not isinstance(rule.demand, whole) and rule.columns[0] != time]


@pytest.mark.parametrize("rule", about_rows(BARS, "open_time"), ids=lambda rule: rule.name)
def test_every_bar_rule_broken(rule) -> None:
    table = good_bars(3)
    for name, value in breakers(rule).items():
        table.loc[1, name] = value
    assert bad_rows(rule, table).tolist() == [False, True, False]
    assert fast_bars(table)[1]
    assert_one_verdict(BARS, table, fast_bars(table))


def test_every_indicator_rule_broken() -> None:
    rules = about_rows(INDICATORS, "event_timestamp")
    table = good_rows(len(rules) + 1)  # one row per rule, and a good one
    for row, rule in enumerate(rules):
        for name, value in breakers(rule).items():
            table.loc[row, name] = value
        assert bad_rows(rule, table)[row], rule.name
    assert fast_rows(table).tolist() == [True] * len(rules) + [False]
    assert_one_verdict(INDICATORS, table, fast_rows(table))


def test_below_zero_only_what_is_drawn_over_the_prices_has_no_lowest_value() -> None:
    bounded = {r.columns[0]: r.demand.low for r in INDICATORS if isinstance(r.demand, Within) and "bounds" in r.name}
    below = {
        r.columns[0]: r.demand.low
        for r in indicator_rules(below_zero=True)
        if isinstance(r.demand, Within) and "bounds" in r.name
    }
    free = {name for name in bounded if name not in below}
    assert {"sma_20", "ema_12", "donchian_lower", "vwap"} <= free
    assert {name: bounded[name] for name in below} == below
    assert {"atr_14", "rsi_14", "volatility_20"} <= below.keys()


def test_good_tables_pass() -> None:
    assert_one_verdict(BARS, good_bars(3), fast_bars(good_bars(3)))
    assert_one_verdict(INDICATORS, good_rows(3), fast_rows(good_rows(3)))
