"""What every indicator must hold, whatever its formula; then each formula, written out without TA-Lib."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping
from dataclasses import replace
from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from feature_repo.catalog import INDICATOR_FIELDS, INDICATORS, Indicator
from feature_repo.indicators import compute
from feature_repo.kernels import FloatArray
from feature_repo.kinds import KINDS
from tests.indicator_rows import compute_all

Bars = dict[str, FloatArray]

ALL = (  # the catalog's, and of a kind that has none there, one with the kind's defaults
    *INDICATORS.values(),
    *(
        Indicator(name=kind.name, kind=kind, parameters=kind.defaults, outputs=kind.outputs)
        for kind in KINDS.values()
        if kind not in [i.kind for i in INDICATORS.values()]
    ),
)
EVERY = pytest.mark.parametrize("indicator", ALL, ids=lambda i: i.name)
WITH_WARM_UP = pytest.mark.parametrize("indicator", [i for i in ALL if i.warm_up is not None], ids=lambda i: i.name)
DAY_BARS = 24
PRICES = ("open", "high", "low", "close")


# ------------------------------------------------------------------------------------------------------- bars


def bars_of(close: FloatArray, rng: np.random.Generator, wick: float = 0.0) -> Bars:
    before = np.concatenate([close[:1], close[:-1]])
    return {
        "open": before,
        "high": np.maximum(before, close) * (1 + wick * rng.random(close.size)),
        "low": np.minimum(before, close) * (1 - wick * rng.random(close.size)),
        "close": close,
        "volume": rng.integers(0, 1000, close.size).astype(np.float64) + 1,
        "session_day": (np.arange(close.size) // DAY_BARS).astype(np.float64),
    }


def walk(n: int, *, seed: int = 0, sigma: float = 1e-3, start: float = 1.1) -> Bars:
    """Bars of a random walk, as of an hourly currency pair."""
    rng = np.random.default_rng(seed)
    return bars_of(start * np.exp(np.cumsum(rng.normal(0, sigma, n))), rng, wick=sigma)


def cut(bars: Bars, which: slice) -> Bars:
    return {name: values[which] for name, values in bars.items()}


def degenerate() -> dict[str, Bars]:
    rng = np.random.default_rng(1)
    n = 1500
    steps = rng.normal(0, 1, n)
    in_turn = np.arange(n) // 60 % 2
    price = {
        "flat": np.full(n, 1.1),
        "one step": np.where(np.arange(n) < n // 2, 1.1, 1.1001),
        "rising": np.linspace(1, 2, n),
        "falling": np.linspace(2, 1, n),
        "flat between moves": 150.123 * np.exp(np.cumsum(steps * in_turn * 1e-3)),
        "quiet, in ticks": np.round(1.1 * np.exp(np.cumsum(steps * 1e-6)), 5),
        "bursts": np.round(1.1 * np.exp(np.cumsum(steps * np.where(rng.random(n) < 0.01, 1e-3, 3e-6))), 5),
        "jumps": 1.1 * np.exp(steps * 1e-3) * 10.0 ** rng.choice([-4, 0, 0, 0, 0, 0, 0, 4], n),
        "tiny": 1e-9 * np.exp(np.cumsum(steps * 1e-3)),
        "huge": 1e9 * np.exp(np.cumsum(steps * 1e-2)),
    }
    return {name: bars_of(close, rng) for name, close in price.items()}


DEGENERATE = degenerate()
WALK = walk(400)


# --------------------------------------------------------------------------------- what every indicator holds


@EVERY
@given(end=st.integers(0, 400), seed=st.integers(0, 100), sigma=st.sampled_from([0.0, 1e-3, 1.0]))
@settings(max_examples=15, deadline=None)
def test_no_value_knows_the_future(indicator: Indicator, end: int, seed: int, sigma: float) -> None:
    whole = compute(indicator, WALK)
    future = walk(400, seed=seed, sigma=sigma, start=7.0)
    other = {name: np.concatenate([WALK[name][:end], future[name][end:]]) for name in WALK}
    ended, replaced = compute(indicator, cut(WALK, slice(end))), compute(indicator, other)
    for name, values in whole.items():
        np.testing.assert_array_equal(ended[name], values[:end], strict=True)
        np.testing.assert_array_equal(replaced[name][:end], values[:end], strict=True)


@EVERY
def test_values_begin_after_the_lookback(indicator: Indicator) -> None:
    columns = compute(indicator, WALK)
    unknown = np.isnan(np.stack(list(columns.values())))
    assert tuple(columns) == indicator.outputs
    assert unknown[:, : indicator.lookback].all(axis=1).any()
    assert not unknown[:, indicator.lookback :].any()


@EVERY
def test_too_few_bars_give_no_value(indicator: Indicator) -> None:
    for n in {0, 1, 2, indicator.lookback // 2, indicator.lookback - 1, indicator.lookback} - {-1}:
        for values in compute(indicator, cut(WALK, slice(n))).values():
            assert values.shape == (n,)
            assert values.dtype == np.float64
    last = indicator.outputs[0]
    assert np.isnan(compute(indicator, cut(WALK, slice(indicator.lookback)))[last]).all()


@EVERY
def test_inputs_are_not_changed(indicator: Indicator) -> None:
    bars = {name: values.copy() for name, values in WALK.items()}
    for values in bars.values():
        values.flags.writeable = False
    columns = compute(indicator, bars)
    for name, values in bars.items():
        np.testing.assert_array_equal(values, WALK[name], strict=True)
        assert not any(np.shares_memory(values, output) for output in columns.values())


@EVERY
def test_strided_and_integer_columns_are_taken(indicator: Indicator) -> None:
    bars = {name: np.repeat(values, 2)[::2] for name, values in WALK.items()}
    bars["session_day"] = bars["session_day"].astype(np.int64)
    for name, values in compute(indicator, bars).items():
        np.testing.assert_array_equal(values, compute(indicator, WALK)[name])


@EVERY
@pytest.mark.parametrize("case", DEGENERATE)
def test_values_keep_their_bounds(indicator: Indicator, case: str) -> None:
    low = -math.inf if indicator.low is None else indicator.low
    high = math.inf if indicator.high is None else indicator.high
    for values in compute(indicator, DEGENERATE[case]).values():
        known = values[indicator.lookback :]
        assert np.isfinite(known).all()
        assert ((known >= low) & (known <= high)).all()


@EVERY
@given(power=st.integers(-30, 30))
@settings(max_examples=10, deadline=None)
def test_the_unit_of_the_price_does_not_matter(indicator: Indicator, power: int) -> None:
    """Cents for dollars scale what is a price and leave the rest; by powers of two, to the bit."""
    assert_the_unit_does_not_matter(indicator, PRICES, 2.0**power)


@EVERY
@given(power=st.integers(-30, 30))
@settings(max_examples=5, deadline=None)
def test_the_unit_of_the_volume_does_not_matter(indicator: Indicator, power: int) -> None:
    assert_the_unit_does_not_matter(indicator, ("volume",), 2.0**power)


def assert_the_unit_does_not_matter(indicator: Indicator, columns: Iterable[str], unit: float) -> None:
    """Columns in another unit scale each output as they scale its formula: a price by the unit, a ratio not at all."""

    def in_unit(bars: Bars, unit: float) -> Bars:
        return bars | {name: bars[name] * unit for name in columns}

    few = cut(WALK, slice(indicator.lookback + 60))
    usual, doubled = ([np.nanmax(np.abs(v)) for v in by_formula(indicator, in_unit(few, by))] for by in (1.0, 2.0))
    degrees = np.log2(np.divide(doubled, usual)).round()
    scaled = compute(indicator, in_unit(WALK, unit))
    for (name, values), degree in zip(compute(indicator, WALK).items(), degrees, strict=True):
        np.testing.assert_array_equal(scaled[name], values * unit**degree)


@pytest.fixture(scope="module", params=[1e-4, 1e-3, 1e-2], ids="sigma {}".format)
def history(request: pytest.FixtureRequest) -> Bars:
    return walk(8000, seed=5, sigma=request.param)


@WITH_WARM_UP
def test_the_warm_up_suffices(indicator: Indicator, history: Bars) -> None:
    """A tail that begins ``warm_up`` bars before a bar has its value to 1e-9, as all of history does.

    Relative to the value; near a zero crossing, where a relative error has no meaning, to a thousandth of its usual
    size.
    """
    assert indicator.warm_up is not None
    whole = compute(indicator, history)
    for bar in np.linspace(4500, 7999, 25).astype(int):
        tail = compute(indicator, cut(history, slice(bar - indicator.warm_up, bar + 1)))
        for name, values in whole.items():
            size = max(abs(values[bar]), 1e-3 * float(np.nanmedian(np.abs(values))))
            assert abs(tail[name][-1] - values[bar]) <= 1e-9 * size, f"{name} at bar {bar}"


@pytest.mark.parametrize(
    ("indicator", "column"),
    [(i, column) for i in ALL for column in i.inputs if column != "session_day"],
    ids=lambda value: getattr(value, "name", value),
)
def test_an_unknown_bar_has_no_value_and_history_begins_anew_after_it(indicator: Indicator, column: str) -> None:
    """TA-Lib's RSI, ADX, STOCH, CCI, OBV and SUPERTREND answer a NaN with numbers, its SMA with NaN for ever."""
    at = 200 // DAY_BARS * DAY_BARS - 1  # the last bar of a day, so that the VWAP restarts as well
    broken = {name: values.copy() for name, values in WALK.items()}
    broken[column][at] = np.nan
    before, after = compute(indicator, cut(WALK, slice(at))), compute(indicator, cut(WALK, slice(at + 1, None)))
    for name, values in compute(indicator, broken).items():
        np.testing.assert_array_equal(values, np.concatenate([before[name], [np.nan], after[name]]))


@EVERY
def test_without_any_volume_only_what_reads_it_is_unknown(indicator: Indicator) -> None:
    bars = {**WALK, "volume": np.full(400, np.nan)}
    for name, values in compute(indicator, bars).items():
        if "volume" in indicator.inputs:
            assert np.isnan(values).all()
        else:
            np.testing.assert_array_equal(values, compute(indicator, WALK)[name])


def test_all_indicators_come_in_the_catalogs_order() -> None:
    columns = compute_all(WALK)
    assert tuple(columns) == INDICATOR_FIELDS
    assert {values.shape for values in columns.values()} == {(400,)}
    assert {values.size for values in compute_all(cut(WALK, slice(0))).values()} == {0}


# ----------------------------------------------------------------------------------------- refusals and faults


def test_a_missing_column_is_named() -> None:
    with pytest.raises(ValueError, match="atr_14 takes the columns high, low, close: add high, close"):
        compute(INDICATORS["atr_14"], {"low": WALK["low"]})


def test_columns_of_different_lengths_are_named() -> None:
    with pytest.raises(ValueError, match=r"atr_14 takes columns of one length, was given \{'high': 9, 'low': 400"):
        compute(INDICATORS["atr_14"], {**WALK, "high": WALK["high"][:9]})


@pytest.mark.parametrize("name", ["sma_20", "rsi_14", "zscore_20", "bollinger_20_2", "supertrend_10_3"])
@pytest.mark.parametrize("window", [0, -5, "x"])
def test_a_window_that_is_none_is_refused(name: str, window: object) -> None:
    parameters = {**INDICATORS[name].parameters, "window": window}
    with pytest.raises(ValueError, match=f"{name} with parameters"):
        compute(replace(INDICATORS[name], parameters=parameters), WALK)  # type: ignore[arg-type]


def test_rounding_is_corrected_and_a_bug_is_not() -> None:
    given_values = np.array([-1e-12, 100 + 1e-12, -1e-6, 100 + 1e-6, 50.0, np.nan])

    def kernel(close: FloatArray, *, window: int) -> tuple[FloatArray, ...]:
        return (given_values,)

    faulty = replace(INDICATORS["rsi_14"], kind=replace(KINDS["rsi"], kernel=kernel))
    values = compute(faulty, {"close": np.ones(6)})["rsi_14"]
    np.testing.assert_array_equal(values, [0.0, 100.0, -1e-6, 100 + 1e-6, 50.0, np.nan])


def test_a_quiet_markets_deviations_have_no_past() -> None:
    """One tick in twenty bars, after 50,000 others: TA-Lib's running sums lift such a z-score over its bound."""
    rng = np.random.default_rng(1)
    bars = {"close": np.round(1.1 * np.exp(np.cumsum(rng.normal(0, 1e-6, 50_000))), 5)}
    for name in ("zscore_20", "bollinger_20_2"):
        tail = compute(INDICATORS[name], cut(bars, slice(-1000, None)))
        for output, values in compute(INDICATORS[name], bars).items():
            np.testing.assert_array_equal(tail[output][19:], values[-981:])
    score = compute(INDICATORS["zscore_20"], bars)["zscore_20"]
    assert np.nanmax(np.abs(score)) == pytest.approx(math.sqrt(19), abs=1e-12)


# -------------------------------------------------------------------------------------------------------- vwap


@given(
    day_bars=st.lists(st.integers(1, 30), min_size=1, max_size=8),
    unknown=st.sets(st.integers(0, 240), max_size=3),
    silent=st.sets(st.integers(0, 240), max_size=60),
    seed=st.integers(0, 1000),
)
@settings(max_examples=60, deadline=None)
def test_vwap_is_its_days_own(day_bars: list[int], unknown: set[int], silent: set[int], seed: int) -> None:
    bars = dict(walk(sum(day_bars), seed=seed))
    bars["session_day"] = np.repeat(np.arange(len(day_bars)) * 3 + 17_000.0, day_bars)
    bars["volume"][[i for i in silent if i < sum(day_bars)]] = 0.0
    bars["volume"][[i for i in unknown if i < sum(day_bars)]] = np.nan
    values = compute(INDICATORS["vwap"], bars)["vwap"]

    turnover = volume = 0.0
    for i, price in enumerate((bars["high"] + bars["low"] + bars["close"]) / 3):
        if i == 0 or bars["session_day"][i] != bars["session_day"][i - 1]:
            turnover = volume = 0.0
        turnover, volume = turnover + price * bars["volume"][i], volume + bars["volume"][i]
        expected = turnover / volume if volume else math.nan
        assert values[i] == expected or (math.isnan(values[i]) and math.isnan(expected))

    for first in np.cumsum([0, *day_bars[:-1]]):
        tail = compute(INDICATORS["vwap"], cut(bars, slice(first, None)))["vwap"]
        np.testing.assert_array_equal(tail, values[first:])


# ---------------------------------------------------------------------------------- the formulas, written out

Series = list[float]
NAN = math.nan


def mean(values: Series) -> float:
    return math.fsum(values) / len(values)


def deviation(values: Series) -> float:
    return math.sqrt(mean([(v - mean(values)) ** 2 for v in values]))


def rolling(values: Series, n: int, f: Callable[[Series], float]) -> Series:
    return [NAN] * min(n - 1, len(values)) + [f(values[i - n + 1 : i + 1]) for i in range(n - 1, len(values))]


def smoothed(values: Series, n: int, alpha: float) -> Series:
    """Exponential average, seeded by the mean of the first n."""
    out = [NAN] * (n - 1) + [mean(values[:n])]
    for v in values[n:]:
        out.append(out[-1] + alpha * (v - out[-1]))
    return out


def ema_formula(c: Series, window: int) -> Series:
    return smoothed(c, window, 2 / (window + 1))


def wilder(values: Series, n: int) -> Series:
    return smoothed(values, n, 1 / n)


def changes(c: Series) -> Series:
    return [b - a for a, b in pairwise(c)]


def share(a: float, b: float) -> float:
    return a / b if b else 0.0


def typical(h: Series, low: Series, c: Series) -> Series:
    return [sum(t) / 3 for t in zip(h, low, c, strict=True)]


def true_range(h: Series, low: Series, c: Series) -> Series:
    return [max(h[i], c[i - 1]) - min(low[i], c[i - 1]) for i in range(1, len(c))]


def rsi_formula(c: Series, window: int) -> Series:
    up = wilder([max(d, 0) for d in changes(c)], window)
    down = wilder([max(-d, 0) for d in changes(c)], window)
    return [NAN] + [100 * share(u, u + d) for u, d in zip(up, down, strict=True)]


def macd_formula(c: Series, fast: int, slow: int, signal: int) -> list[Series]:
    quick = [NAN] * (slow - fast) + ema_formula(c[slow - fast :], fast)
    line = [a - b for a, b in zip(quick, ema_formula(c, slow), strict=True)]
    trigger = [NAN] * (slow - 1) + ema_formula(line[slow - 1 :], signal)
    first = slow + signal - 2
    return [
        [NAN] * first + line[first:],
        trigger,
        [a - b for a, b in zip(line, trigger, strict=True)],
    ]


def bollinger_formula(c: Series, window: int, deviations: float) -> list[Series]:
    middle, sd = rolling(c, window, mean), rolling(c, window, deviation)
    upper = [m + deviations * s for m, s in zip(middle, sd, strict=True)]
    lower = [m - deviations * s for m, s in zip(middle, sd, strict=True)]
    width = [(u - w) / m for u, w, m in zip(upper, lower, middle, strict=True)]
    return [upper, middle, lower, width, [share(p - w, u - w) for p, u, w in zip(c, upper, lower, strict=True)]]


def atr_formula(h: Series, low: Series, c: Series, window: int) -> Series:
    return [NAN, *wilder(true_range(h, low, c), window)]


def dmi_formula(h: Series, low: Series, c: Series, window: int) -> list[Series]:
    ups, downs = changes(h), [-d for d in changes(low)]
    plus = [u if u > d and u > 0 else 0.0 for u, d in zip(ups, downs, strict=True)]
    minus = [d if d > u and d > 0 else 0.0 for u, d in zip(ups, downs, strict=True)]

    def running(values: Series) -> Series:
        total, out = sum(values[: window - 1]), []
        for v in values[window - 1 :]:
            total += v - total / window
            out.append(total)
        return out

    ranges = running(true_range(h, low, c))
    plus_di = [100 * share(p, r) for p, r in zip(running(plus), ranges, strict=True)]
    minus_di = [100 * share(m, r) for m, r in zip(running(minus), ranges, strict=True)]
    dx = [100 * share(abs(p - m), p + m) for p, m in zip(plus_di, minus_di, strict=True)]
    lead = [NAN] * window
    return [lead + wilder(dx, window), lead + plus_di, lead + minus_di]


def stochastic_formula(h: Series, low: Series, c: Series, fast_k: int, slow_k: int, slow_d: int) -> list[Series]:
    top, bottom = rolling(h, fast_k, max), rolling(low, fast_k, min)
    raw = [100 * share(p - b, t - b) for p, t, b in zip(c, top, bottom, strict=True)][fast_k - 1 :]
    k = rolling(raw, slow_k, mean)[slow_k - 1 :]
    d = rolling(k, slow_d, mean)[slow_d - 1 :]
    lead = [NAN] * (fast_k + slow_k + slow_d - 3)
    return [lead + k[slow_d - 1 :], lead + d]


def cci_formula(h: Series, low: Series, c: Series, window: int) -> Series:
    def of(values: Series) -> float:
        return share(values[-1] - mean(values), 0.015 * mean([abs(v - mean(values)) for v in values]))

    return rolling(typical(h, low, c), window, of)


def williams_r_formula(h: Series, low: Series, c: Series, window: int) -> Series:
    top, bottom = rolling(h, window, max), rolling(low, window, min)
    return [-100 * share(t - p, t - b) for p, t, b in zip(c, top, bottom, strict=True)]


def roc_formula(c: Series, window: int) -> Series:
    return [NAN] * window + [100 * (b / a - 1) for a, b in zip(c, c[window:], strict=False)]


def mfi_formula(h: Series, low: Series, c: Series, v: Series, window: int) -> Series:
    price = typical(h, low, c)
    flow = [math.copysign(p * q, d) if d else 0.0 for p, q, d in zip(price[1:], v[1:], changes(price), strict=True)]

    def of(flows: Series) -> float:
        rising, falling = sum(f for f in flows if f > 0), -sum(f for f in flows if f < 0)
        return 100 * share(rising, rising + falling)

    return [NAN, *rolling(flow, window, of)]


def obv_formula(c: Series, v: Series) -> Series:
    out = [v[0]]
    for d, q in zip(changes(c), v[1:], strict=True):
        out.append(out[-1] + (q if d > 0 else -q if d < 0 else 0.0))
    return out


def donchian_formula(h: Series, low: Series, window: int) -> list[Series]:
    top, bottom = rolling(h, window, max), rolling(low, window, min)
    return [top, [(t + b) / 2 for t, b in zip(top, bottom, strict=True)], bottom]


def keltner_formula(h: Series, low: Series, c: Series, window: int, atr_window: int, multiplier: float) -> list[Series]:
    middle, spread = ema_formula(c, window), atr_formula(h, low, c, atr_window)
    return [
        [m + multiplier * s for m, s in zip(middle, spread, strict=True)],
        middle,
        [m - multiplier * s for m, s in zip(middle, spread, strict=True)],
    ]


def supertrend_formula(h: Series, low: Series, c: Series, window: int, multiplier: float) -> list[Series]:
    spread = atr_formula(h, low, c, window)
    line, direction = [NAN] * window, [NAN] * window
    upper, lower, long = math.inf, -math.inf, True
    for i in range(window, len(c)):
        basic_upper = (h[i] + low[i]) / 2 + multiplier * spread[i]
        basic_lower = (h[i] + low[i]) / 2 - multiplier * spread[i]
        upper = basic_upper if basic_upper < upper or c[i - 1] > upper else upper
        lower = basic_lower if basic_lower > lower or c[i - 1] < lower else lower
        if i > window:
            long = c[i] >= lower if long else c[i] > upper
        line.append(lower if long else upper)
        direction.append(1.0 if long else -1.0)
    return [line, direction]


def returns_formula(c: Series) -> Series:
    return [NAN] + [b / a - 1 for a, b in pairwise(c)]


def log_returns_formula(c: Series) -> Series:
    return [NAN] + [math.log(b / a) for a, b in pairwise(c)]


def vwap_formula(h: Series, low: Series, c: Series, v: Series, day: Series) -> Series:
    def of(i: int) -> float:
        same = [j for j in range(i + 1) if day[j] == day[i]]
        return math.fsum(typical(h, low, c)[j] * v[j] for j in same) / math.fsum(v[j] for j in same)

    return [of(i) for i in range(len(c))]


FORMULAS: Mapping[str, Callable[..., Series | list[Series]]] = {
    "sma": lambda c, window: rolling(c, window, mean),
    "ema": ema_formula,
    "rsi": rsi_formula,
    "macd": macd_formula,
    "bollinger": bollinger_formula,
    "atr": atr_formula,
    "dmi": dmi_formula,
    "stochastic": stochastic_formula,
    "cci": cci_formula,
    "williams_r": williams_r_formula,
    "roc": roc_formula,
    "mfi": mfi_formula,
    "obv": obv_formula,
    "donchian": donchian_formula,
    "keltner": keltner_formula,
    "supertrend": supertrend_formula,
    "returns": returns_formula,
    "log_returns": log_returns_formula,
    "volatility": lambda c, window: [NAN, *rolling(log_returns_formula(c)[1:], window, deviation)],
    "zscore": lambda c, window: [
        share(p - m, s) for p, m, s in zip(c, rolling(c, window, mean), rolling(c, window, deviation), strict=True)
    ],
    "vwap": vwap_formula,
}


def by_formula(indicator: Indicator, bars: Bars) -> list[Series]:
    """The indicator's outputs."""
    outputs = FORMULAS[indicator.kind.name](*(bars[name].tolist() for name in indicator.inputs), **indicator.parameters)
    return outputs if isinstance(outputs[0], list) else [outputs]


@EVERY
@pytest.mark.parametrize("seed", [11, 12])
def test_values_are_the_formulas(indicator: Indicator, seed: int) -> None:
    bars = walk(300, seed=seed, sigma=3e-3)
    bars["close"][50:55] = bars["close"][50]  # a close that does not move, and bars that do not either
    for name in ("high", "low", "close"):
        bars[name][100:104] = bars["close"][100]
    for values, formula in zip(compute(indicator, bars).values(), by_formula(indicator, bars), strict=True):
        np.testing.assert_allclose(values, formula, rtol=1e-9, atol=1e-12)


def test_values_worked_by_hand() -> None:
    """Five closes, window 3, on paper."""
    close = np.array([1.0, 2.0, 3.0, 5.0, 4.0])

    def of(name: str, **parameters: float) -> list[float]:
        changed = replace(INDICATORS[name], parameters=parameters)
        return [round(float(value), 12) for value in compute(changed, {"close": close})[changed.outputs[0]][-2:]]

    assert of("sma_5", window=3) == [round(10 / 3, 12), 4.0]
    assert of("ema_9", window=3) == [3.5, 3.75]  # seed 2; 2 + (5 - 2) / 2; 3.5 + (4 - 3.5) / 2
    assert of("rsi_7", window=3) == [100.0, round(100 * 8 / 11, 12)]  # up 4/3 then 8/9; down 0 then 1/3
    assert of("roc_10", window=3) == [400.0, 100.0]
    assert of("returns") == [round(2 / 3, 12), -0.2]
    assert of("zscore_20", window=3) == [round((5 / 3) / math.sqrt(14 / 9), 12), 0.0]
