"""The trial of a definition before it is registered: does its kernel do what its row says?

The bars are made here and are the same each time, so a trial takes milliseconds and needs no data.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

import numpy as np

from feature_repo.agreement import BoolArray, FloatArray, agree, equal
from feature_repo.catalog import Indicator
from feature_repo.indicators import compute

Bars = Mapping[str, FloatArray]

_FEWEST, _MOST = 240, 6000
_DAY_BARS = 24
_ROUNDING = 1e-9


def trial_problem(indicator: Indicator) -> str:
    """What is wrong with a definition, with the first bar at which it shows; empty when nothing is.

    Tried are determinism, that no value knows a later bar (these are cut off, and replaced), that values begin after
    the lookback, that they keep the bounds, and that the warm-up suffices.
    """
    bars = _bars(min(max(_FEWEST, 2 * indicator.lookback + 60, (indicator.warm_up or 0) + 60), _MOST), seed=0)
    n = len(bars["close"])
    try:
        values = compute(indicator, bars)
        for problem in (
            _repeated(indicator, bars, values),
            _ahead(indicator, bars, values),
            _begins(indicator, values),
            *(_bounded(indicator, _bars(n, seed=seed, sigma=sigma)) for seed, sigma in ((1, 1e-5), (2, 0.1))),
            _settles(indicator, bars, values),
        ):
            if problem:
                return problem
    except Exception as error:  # a kernel is anybody's code
        return f"its kernel fails: {type(error).__name__}: {error}"
    return ""


def _bars(n: int, *, seed: int, sigma: float = 1e-3) -> Bars:
    """Bars of a random walk with volume, which a kernel can't write to."""
    rng = np.random.default_rng(seed)
    close = 1.1 * np.exp(np.cumsum(rng.normal(0, sigma, n)))
    before = np.concatenate([close[:1], close[:-1]])
    wick = 1 + sigma * rng.random((2, n))
    bars = {
        "open": before,
        "high": np.maximum(before, close) * wick[0],
        "low": np.minimum(before, close) / wick[1],
        "close": close,
        "volume": rng.integers(1, 1000, n).astype(np.float64),
        "session_day": (np.arange(n) // _DAY_BARS).astype(np.float64),
    }
    for column in bars.values():
        column.flags.writeable = False
    return bars


def _first(wrong: BoolArray) -> int:
    return int(np.flatnonzero(wrong)[0])


def _repeated(indicator: Indicator, bars: Bars, values: Bars) -> str:
    for name, again in compute(indicator, bars).items():
        if (wrong := ~equal(values[name], again)).any():
            return f"{name} is not the same when it is computed twice, first at bar {_first(wrong)}"
    return ""


def _ahead(indicator: Indicator, bars: Bars, values: Bars) -> str:
    n, other = len(bars["close"]), _bars(len(bars["close"]), seed=9, sigma=0.05)
    for cut in sorted({indicator.lookback + 1, n // 3, n // 2 + 1, n - 7, n - 1}):
        cut_off = {name: column[:cut] for name, column in bars.items()}
        replaced = {name: np.concatenate([column[:cut], other[name][cut:]]) for name, column in bars.items()}
        replaced["session_day"] = bars["session_day"]
        for how, changed in (("cut off", cut_off), ("replaced", replaced)):
            for name, again in compute(indicator, changed).items():
                if (wrong := ~equal(values[name][:cut], again[:cut])).any():
                    at = _first(wrong)
                    return f"{name} looks ahead: its value at bar {at} changes when the bars from {cut} on are {how}"
    return ""


def _begins(indicator: Indicator, values: Bars) -> str:
    lookback, unknown = indicator.lookback, {name: np.isnan(column) for name, column in values.items()}
    for name, column in unknown.items():
        if column[lookback:].any():
            return f"{name} has no value at bar {lookback + _first(column[lookback:])}; its lookback is {lookback}"
    early = ~np.logical_or.reduce([*unknown.values()])[:lookback]
    if early.any():
        return f"it has values from bar {_first(early)} on; its lookback is {lookback}"
    return ""


def _bounded(indicator: Indicator, bars: Bars) -> str:
    low, high = indicator.low, indicator.high
    unclipped = replace(indicator, low=None, high=None)
    for name, column in compute(unclipped, bars).items():
        for bound, wrong in (
            (low, column < (low or 0.0) - _ROUNDING),
            (high, column > (high or 0.0) + _ROUNDING),
        ):
            if bound is not None and wrong.any():
                at = _first(wrong)
                return f"{name} is {column[at]:g} at bar {at}, beyond its bound of {bound:g}"
        if (endless := np.isinf(column)).any():
            return f"{name} is infinite at bar {_first(endless)}"
    return ""


def _settles(indicator: Indicator, bars: Bars, values: Bars) -> str:
    """A computation that begins ``warm_up`` bars before a bar returns its value."""
    n, warm_up = len(bars["close"]), indicator.warm_up
    if warm_up is None or n - warm_up < 2:
        return ""
    start = n - warm_up - 1
    if indicator.kind.memory == "day":  # its warm-up is a whole day
        start = start // _DAY_BARS * _DAY_BARS
    tail = compute(indicator, {name: column[start:] for name, column in bars.items()})
    for name, column in values.items():
        settled = np.append(column[:-1], tail[name][-1])
        if not agree(column, settled)[-1]:
            return (
                f"{name} is {column[-1]!r} at bar {n - 1}, and {settled[-1]!r} when it is computed from its warm-up of "
                f"{warm_up} bars"
            )
    return ""
