"""Every TA-Lib function over bars that are unknown, without volume, or all the same."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import pytest
from talib import abstract

from feature_repo.catalog import BAR_FIELDS
from feature_repo.kernels import FloatArray
from fsclient.computed.computable import Computable
from fsclient.computed.find import computable
from fsclient.computed.talib_functions import talib_names

TALIB = sorted(talib_names())
FUNCTION: Any = vars(abstract)["Function"]
EVERY = pytest.mark.parametrize("name", TALIB)
Bars = Mapping[str, FloatArray]
MEANS = {"VWMA": "close", "VWAP": "typical"}
"""Means of prices, weighted by volume."""
NOISE = {
    "FOSC",
    "LINEARREG_ANGLE",
    "LINEARREG_SLOPE",
    "CORREL",
    "BETA",
    "VAR",
    "STDDEV",
    "APO",
    "MACD",
    "MACDEXT",
    "MACDFIX",
}
"""In a constant run these are a rounding of prices, which TA-Lib's running sums make."""


def market(n: int, seed: int = 3) -> dict[str, FloatArray]:
    """Bars of a random walk; prices with five digits, volumes whole."""
    rng = np.random.default_rng(seed)
    close = np.round(1.1 * np.exp(np.cumsum(rng.normal(0, 3e-4, n))), 5)
    before = np.concatenate([close[:1], close[:-1]])
    wick = np.round(rng.uniform(0, 4e-4, (2, n)), 5)
    return {"open": before, "high": np.maximum(before, close) + wick[0], "low": np.minimum(before, close) - wick[1],
            "close": close, "volume": np.round(rng.lognormal(4, 2, n) + 1)}  # fmt: skip


def cut(bars: Bars, rows: slice) -> Bars:
    return {name: values[rows] for name, values in bars.items()}


def run(function: Computable, bars: Bars) -> Mapping[str, FloatArray]:
    with np.errstate(all="ignore"):
        return function.run(bars, function.with_parameters(None))


def lookback_of(name: str) -> int:
    return int(FUNCTION(name).lookback)


def inputs_of(name: str) -> set[str]:
    names = FUNCTION(name).input_names.values()
    return {column for input_ in names for column in ([input_] if isinstance(input_, str) else input_)}


BARS = market(600)


@EVERY
def test_a_value_begins_after_the_lookback(name: str) -> None:
    """TA-Lib's integers (patterns, trend modes, places of extremes) are 0 before it: no pattern, no trend, bar 0."""
    for output, values in run(computable(name), BARS).items():
        assert np.isnan(values[: lookback_of(name)]).all(), output
        if name not in ("ACOS", "ASIN"):  # of prices above 1
            assert not np.isnan(values[lookback_of(name) :]).any(), output


@EVERY
@pytest.mark.parametrize("column", BAR_FIELDS)
def test_an_unknown_bar_has_no_value_and_the_function_begins_again_after_it(name: str, column: str) -> None:
    at = 300
    broken = {key: values.copy() for key, values in BARS.items()}
    broken[column][at] = np.nan
    function = computable(name)
    computed = run(function, broken)
    if column not in inputs_of(name):
        expected = run(function, BARS)
    else:
        before, after = run(function, cut(broken, slice(at))), run(function, cut(broken, slice(at + 1, None)))
        expected = {key: np.concatenate([before[key], [np.nan], after[key]]) for key in before}
    for output, values in expected.items():
        np.testing.assert_array_equal(computed[output], values, err_msg=output)


@EVERY
def test_without_any_known_volume_only_what_reads_it_is_unknown(name: str) -> None:
    bars = {**BARS, "volume": np.full(600, np.nan)}
    for output, values in run(computable(name), bars).items():
        if "volume" in inputs_of(name):
            assert np.isnan(values).all(), output
        else:
            np.testing.assert_array_equal(values, run(computable(name), BARS)[output], err_msg=output)


@EVERY
def test_when_volume_dries_up_no_residue_is_served(name: str) -> None:
    """Zero volume for 200 bars after volumes of up to 1e12: a mean is of its window, or there is none."""
    bars = {key: values.copy() for key, values in BARS.items()}
    bars["volume"][200:300] *= 1e9 / 3
    bars["volume"][300:500] = 0.0
    function = computable(name)
    for output, values in run(function, bars).items():
        if "volume" not in inputs_of(name):
            np.testing.assert_array_equal(values, run(function, BARS)[output])
            continue
        assert not np.isinf(values).any(), output
        if name in MEANS:
            prices = bars["close"] if name == "VWMA" else (bars["high"] + bars["low"] + bars["close"]) / 3
            known = values[~np.isnan(values)]
            assert ((known >= prices.min()) & (known <= prices.max())).all()
        if name in ("VWMA", "CMF"):
            assert np.isnan(values[300 + lookback_of(name) : 500]).all(), "without volume there is no mean"
            assert not np.isnan(values[500:]).any()
            fresh = run(function, cut(bars, slice(500, None)))[output]
            since = lookback_of(name)
            np.testing.assert_allclose(values[500 + since :], fresh[since:], rtol=1e-12)
        if name == "MFI":
            assert (values[320:500] == 0.0).all()


@EVERY
def test_a_dead_market_has_the_values_of_all_of_history(name: str) -> None:
    """As the client reads it: the warm-up, or four times as many bars, or all of them."""
    bars = {key: values.copy() for key, values in market(9000, 5).items()}
    for column in ("open", "high", "low", "close"):
        bars[column][4000:] = bars["close"][3999]
    bars["volume"][4000:] = 0.0
    function = computable(name)
    parameters = function.with_parameters(None)
    warm_up, whole = function.warm_up(parameters), run(function, bars)
    for start in (4100, 5000, 8900):
        reaches = [] if warm_up is None else [warm_up, 4 * warm_up]
        enough = [b for b in reaches if b <= start and function.forgets(cut(bars, slice(start - b, start)), parameters)]
        begin = start - enough[0] if enough else 0
        tail = run(function, cut(bars, slice(begin, None)))
        for output, values in whole.items():
            size = np.fmax.reduce(np.abs(values), initial=0.0)
            floor = 1e-9 if name in NOISE else 1e-11
            np.testing.assert_allclose(
                tail[output][start - begin :], values[start:], rtol=1e-9, atol=floor * size, err_msg=f"{output} {start}"
            )
