"""Prices in another unit or basis than their neighbours': a hundredfold day, pence for pounds, a split half applied.

A real market moves through prices: a bar opens near where the last one closed, and a day on which much happens has a
wide range. An error of unit leaps: all four prices of a bar, ordinary among themselves, are off by a factor from the
bars beside them. So a bar is judged by its distance from its neighbours, measured by the symbol's own volatility.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import pandas as pd

FloatArray = npt.NDArray[np.float64]
IntArray = npt.NDArray[np.int64]
BoolArray = npt.NDArray[np.bool_]

_PRICES = ("open", "high", "low", "close")
_COLUMNS = ("open_time", *_PRICES, "volume")
CONTEXT_BARS = 64
"""How many stored bars on either side of a batch its first and last bars are compared with."""

_LEAP = np.log(1.3)
"""The shortest leap between the ranges of two bars, in logarithms: no unit or split lies nearer to another."""
_LEAP_SIGMAS = 8.0
"""The same, as a multiple of the symbol's volatility: what a wild symbol does between two bars is no leap."""
_TORN = np.log(5.0)
"""The shortest distance inside a bar between the prices of one unit and those of another."""
_DETOUR = np.log(1.5)
"""The smallest factor that counts when prices come back to where they were, whatever number it is."""
_DETOUR_BARS = 20
"""The longest stretch that may come back from a factor that is not round."""
_QUIET = 4.0
"""How many times its usual range the bar after a lasting leap may have; on the day of a real collapse it has more."""
_SETTLED_BARS = 5
"""How many bars a unit must have lasted to count as the series' own because it is the newest."""


def unit_factors(bars: pd.DataFrame, around: pd.DataFrame | None = None) -> FloatArray:
    """How many times too large each bar's prices are, by comparison with the bars beside it.

    A leap that is taken back within a few bars is an error whatever its factor. One that lasts counts only when its
    first bar is an ordinary one and its factor is a power of ten or a ratio of splits (or nobody traded at the new
    price): on the day of a collapse a market is in turmoil.
    Of two units in one batch the stored neighbours' is right; without any, the newest one, once it has lasted.

    Args:
        bars: ``open_time`` (datetime64, UTC), ``open high low close volume`` (float64) of one symbol and timeframe.
            What cannot be compared (a price that is not finite or not positive, a row out of order) is left out.
        around: stored bars before and after them, in the same form, at other open times.

    Returns:
        float64 of shape (bars,): 1.0 where nothing is wrong; 100.0 where pence stand for pounds; inf where the four
        prices of one bar are in two units.
    """
    factors = np.ones(len(bars))
    own = _usable(bars)
    series, row = bars.loc[own, [*_COLUMNS]], np.flatnonzero(own)
    if around is not None and len(around):
        around = around.sort_values("open_time")
        stored = around.loc[_usable(around), [*_COLUMNS]]
        series, row = pd.concat([series, stored]), np.concatenate([row, np.full(len(stored), -1)])
        order = np.argsort(_times(series), kind="stable")
        series, row = series.iloc[order], row[order]
    prices = np.log(_prices(series))
    if not _leaps(prices[:-1, 3], prices[1:]).any() and not _torn(prices).any():
        return factors
    sigma, ours = _volatility(prices), row >= 0
    in_two = _in_two_units(prices, sigma)
    factors[row[in_two & ours]] = np.inf
    kept, untraded = ~in_two, (prices[:, 1] == prices[:, 2]) & (series["volume"] == 0).to_numpy()
    offsets = _offsets(prices[kept], untraded[kept], ~ours[kept], sigma)
    wrong = (np.abs(offsets) > _LEAP) & ours[kept]
    factors[row[kept][wrong]] = np.exp(offsets[wrong])
    return factors


def is_suspect(close_before: float, bars: FloatArray) -> bool:
    """Whether live bars must be compared with their neighbours by :func:`unit_factors` at all; takes microseconds.

    Args:
        close_before: close of the bar before the first one.
        bars: open, high, low, close and more, one bar after the other; (4 or more, bars) float64.
    """
    with np.errstate(invalid="ignore", divide="ignore"):  # a symbol below zero has no ratios
        prices = np.log(bars[:4]).T
        before = np.log(np.concatenate([[close_before], bars[3, :-1]]))
        return bool((_leaps(before, prices) | _torn(prices)).any())


def _leaps(close_before: FloatArray, prices: FloatArray) -> BoolArray:
    """Which bars, in logarithms (bars, 4), stand so far from the close before them that they may be in another unit."""
    high, low = prices[:, 1], prices[:, 2]
    return np.asarray(np.maximum(low - close_before, close_before - high) > _LEAP)


def _torn(prices: FloatArray) -> BoolArray:
    """Which bars' prices, in logarithms (bars, 4), lie so far apart that they may be of two units."""
    return np.asarray(prices[:, 1] - prices[:, 2] > _TORN)


# ---------------------------------------------------------------------------------------------- what is usual


def _usable(bars: pd.DataFrame) -> BoolArray:
    prices = _prices(bars)
    usable = np.isfinite(prices).all(axis=1) & (prices > 0).all(axis=1) & bars["open_time"].notna().to_numpy()
    times = np.where(usable, _times(bars), np.iinfo(np.int64).min)
    before = np.maximum.accumulate(np.append(np.iinfo(np.int64).min, times))[:-1]
    return np.asarray(usable & (times > before))


def _prices(bars: pd.DataFrame) -> FloatArray:
    prices: FloatArray = bars[[*_PRICES]].to_numpy(dtype=np.float64)
    return prices


def _times(bars: pd.DataFrame) -> IntArray:
    times: IntArray = bars["open_time"].to_numpy(dtype="datetime64[us]").view(np.int64)
    return times


def _volatility(prices: FloatArray) -> float:
    """The usual size of a move from bar to bar and within one: medians, which a few wrong bars do not bend."""
    moves = np.abs(np.diff(prices[:, 3]))
    ranges = prices[:, 1] - prices[:, 2]
    return 1.4826 * float(np.median(np.concatenate([moves, ranges])))


# ------------------------------------------------------------------------------------------ two units in a bar


def _in_two_units(prices: FloatArray, sigma: float) -> BoolArray:
    """Which bars hold prices of two units: they lie in two bunches, a power of ten apart."""
    in_two = np.zeros(len(prices), dtype=np.bool_)
    for i in np.flatnonzero(_torn(prices)).tolist():
        steps = np.diff(ordered := np.sort(prices[i]))
        at = int(steps.argmax())
        if not _is_power_of_ten(float(steps[at]), sigma):
            continue
        middle = (ordered[at] + ordered[at + 1]) / 2
        open_up, close_up = prices[i, 0] > middle, prices[i, 3] > middle
        # A rise or fall that goes on where the last bar ended and ends where the next begins may be real, unless it is
        # exactly a hundredfold.
        continuous = (
            open_up != close_up
            and (i == 0 or (prices[i - 1, 3] > middle) == open_up)
            and (i == len(prices) - 1 or (prices[i + 1, 0] > middle) == close_up)
        )
        in_two[i] = not continuous or steps[at] > np.log(50.0)
    return in_two


# --------------------------------------------------------------------------------------------- leaps between bars


@dataclass(frozen=True, slots=True, kw_only=True)
class _Leap:
    """From one bar to the next: ``at`` is the row after it, ``size`` the logarithm of its factor."""

    at: int
    size: float


def _offsets(prices: FloatArray, untraded: BoolArray, stored: BoolArray, sigma: float) -> FloatArray:
    """The logarithm of each bar's factor against the series' own unit, shape (bars,).

    Args:
        untraded: bars without a trade: no market took the price there.
        stored: bars that are not of the batch.
    """
    offsets = np.zeros(len(prices))
    if len(prices) < 2:
        return offsets
    high, low = prices[:, 1], prices[:, 2]
    apart = np.maximum(low[1:] - high[:-1], low[:-1] - high[1:])
    pending: list[_Leap] = []
    for at in (np.flatnonzero(apart > max(_LEAP, _LEAP_SIGMAS * sigma)) + 1).tolist():
        leap = _Leap(at=at, size=float(prices[at, 0] - prices[at - 1, 3]))
        if pending and _is_taken_back(pending[-1], leap, sigma):
            start = pending.pop()
            offsets[start.at : leap.at] += start.size
        else:
            pending.append(leap)
    usual = float(np.median(high - low))
    for leap in pending:
        is_quiet = high[leap.at] - low[leap.at] <= _QUIET * max(usual, 0.5 * sigma, 0.005)
        if is_quiet and (untraded[leap.at] or _is_round(leap.size, sigma)):
            offsets[leap.at :] += leap.size
    return offsets - _own_level(offsets, stored)


def _is_taken_back(start: _Leap, end: _Leap, sigma: float) -> bool:
    size = abs(start.size)
    if abs(start.size + end.size) > min(max(0.05, 4 * sigma), 0.35 * size):
        return False
    return size > _DETOUR and (end.at - start.at <= _DETOUR_BARS or _is_round(start.size, sigma))


def _own_level(offsets: FloatArray, stored: BoolArray) -> float:
    """The offset of the unit that the series is in: the stored neighbours', else the newest of the batch."""
    first = int(np.flatnonzero(~stored)[0]) if not stored.all() else len(offsets)
    if stored[:first].any():
        return _settled(offsets[:first])
    if stored.any():
        return _settled(offsets[stored][::-1])
    return _settled(offsets)


def _settled(offsets: FloatArray) -> float:
    """The last of some offsets if it has lasted for a while, else the one that most of them have."""
    other = np.flatnonzero(np.abs(offsets - offsets[-1]) > _LEAP)
    if not other.size or len(offsets) - int(other[-1]) - 1 >= _SETTLED_BARS:
        return float(offsets[-1])
    levels, counts = np.unique(np.round(offsets, 3), return_counts=True)
    return float(levels[counts.argmax()])


def _is_round(size: float, sigma: float) -> bool:
    """Whether a leap's factor is a power of ten or a ratio of splits (2, 3, 20, 3:2), as exactly as moves allow."""
    if _is_power_of_ten(size, sigma):
        return True
    factor = np.exp(abs(size))
    ratio = 1.5 if factor < 1.75 else float(np.round(factor))
    return bool(factor < 150 and abs(np.log(factor / ratio)) <= min(max(0.01, sigma), 0.1))


def _is_power_of_ten(size: float, sigma: float) -> bool:
    power = np.round(abs(size) / np.log(10.0))
    return bool(power >= 1 and abs(abs(size) - power * np.log(10.0)) <= min(max(0.05, 4 * sigma), 0.4))
