"""How each kind of indicator is computed: pure functions, bar columns in, feature columns out.

TA-Lib computes what it has, and its conventions (https://ta-lib.org/functions) hold throughout: an exponential or
Wilder average is seeded by the simple mean of its first window, a deviation is the population's (divided by n), a
quotient whose denominator is zero is 0.0. A formula is written out where TA-Lib has none, another one of the same name,
or loses digits; each kernel says so.

A kernel takes one float64 array per bar column, oldest bar first, and the indicator's parameters; it returns one
float64 array per output, all of the same length, NaN for the kind's lookback. Kernels never write to their inputs.
The quality gate sees to it that high >= low, within rounding. Prices are above zero, but for symbols that may be below
(crude oil in April 2020): kinds that divide by a price never see such a bar. ``feature_repo.kinds`` says what else a
kind is.
"""

from __future__ import annotations

import math
from collections.abc import Mapping

import numpy as np
import numpy.typing as npt
import talib

from feature_repo.agreement import agree

FloatArray = npt.NDArray[np.float64]
BoolArray = npt.NDArray[np.bool_]


def _ratio(numerator: FloatArray, denominator: FloatArray) -> FloatArray:
    """The quotient, 0.0 where the denominator is zero."""
    return np.divide(numerator, denominator, out=np.zeros_like(numerator), where=denominator != 0)


# ---------------------------------------------------------------------------------------------------- averages


def sma(close: FloatArray, *, window: int) -> tuple[FloatArray, ...]:
    """Mean of the last ``window`` closes. TA-Lib SMA."""
    return (talib.SMA(close, window),)


def ema(close: FloatArray, *, window: int) -> tuple[FloatArray, ...]:
    """Exponential average of closes, weight 2 / (window + 1), seeded by the SMA of the first window. TA-Lib EMA."""
    return (talib.EMA(close, window),)


def macd(close: FloatArray, *, fast: int, slow: int, signal: int) -> tuple[FloatArray, ...]:
    """MACD = EMA(fast) - EMA(slow); signal = EMA(signal) of it; histogram = MACD - signal. TA-Lib MACD.

    The seeds of both averages end at bar ``slow - 1``, so the fast one skips the first ``slow - fast`` bars; all three
    outputs begin together at bar ``slow + signal - 2``.
    """
    return tuple(talib.MACD(close, fast, slow, signal))


def vwap(
    high: FloatArray, low: FloatArray, close: FloatArray, volume: FloatArray, session_day: FloatArray
) -> tuple[FloatArray, ...]:
    """Volume-weighted mean of the typical price (high + low + close) / 3 since the session day's first bar.

    NaN while the day has no volume, and from a bar of unknown volume to the end of its day. Each day is summed by
    itself, never as a difference of sums over all days: so the value is the same to the bit wherever the columns
    begin, as long as the bar's whole day is among them.
    """
    first = np.flatnonzero(np.diff(session_day, prepend=np.nan) != 0)
    day = np.repeat(np.arange(first.size), np.diff(first, append=close.size))
    since_first = np.arange(close.size) - first[day]
    sums = np.zeros((2, first.size, since_first.max(initial=-1) + 1))  # one row a day: rows never share a rounding
    sums[:, day, since_first] = (high + low + close) / 3 * volume, volume
    turnover, total = np.cumsum(sums, axis=2)[:, day, since_first]
    return (np.divide(turnover, total, out=np.full_like(close, np.nan), where=total != 0),)


def no_day_volume(columns: Mapping[str, FloatArray]) -> BoolArray:
    """Where a session day has had no volume yet, or one of its bars so far has an unknown one. Shape (n,)."""
    volume = columns["volume"]
    first = np.flatnonzero(np.diff(columns["session_day"], prepend=np.nan) != 0)
    total = np.concatenate([np.cumsum(day) for day in np.split(volume, first[1:])])
    undefined: BoolArray = ~(total > 0)
    return undefined


# ---------------------------------------------------------------------------------------------------- momentum


def rsi(close: FloatArray, *, window: int) -> tuple[FloatArray, ...]:
    """100 * up / (up + down), Wilder averages of the closes' rises and falls, each seeded by its mean. TA-Lib RSI."""
    return (talib.RSI(close, window),)


def roc(close: FloatArray, *, window: int) -> tuple[FloatArray, ...]:
    """Change of the close over ``window`` bars, in percent. TA-Lib ROC."""
    return (talib.ROC(close, window),)


def stochastic(
    high: FloatArray, low: FloatArray, close: FloatArray, *, fast_k: int, slow_k: int, slow_d: int
) -> tuple[FloatArray, ...]:
    """Slow stochastic: %K = SMA(slow_k) of 100 * (close - lowest) / (highest - lowest) over ``fast_k`` bars;
    %D = SMA(slow_d) of %K. TA-Lib STOCH with simple averages.
    """
    return tuple(talib.STOCH(high, low, close, fastk_period=fast_k, slowk_period=slow_k, slowd_period=slow_d))


def williams_r(high: FloatArray, low: FloatArray, close: FloatArray, *, window: int) -> tuple[FloatArray, ...]:
    """-100 * (highest - close) / (highest - lowest) over ``window`` bars. TA-Lib WILLR."""
    return (talib.WILLR(high, low, close, window),)


def cci(high: FloatArray, low: FloatArray, close: FloatArray, *, window: int) -> tuple[FloatArray, ...]:
    """(typical - SMA(typical)) / (0.015 * mean absolute deviation), typical = (high + low + close) / 3. As TA-Lib's
    CCI, of differences to the window's last bar as in _spread.
    """
    typical = (high + low + close) / 3
    distance, _ = _spread(typical, window)
    deviation = np.abs(distance)
    for age in range(1, min(window, typical.size)):
        deviation[age:] += np.abs(distance[age:] - (typical[age:] - typical[:-age]))
    return (_ratio(distance, 0.015 * deviation / window),)


def dmi(high: FloatArray, low: FloatArray, close: FloatArray, *, window: int) -> tuple[FloatArray, ...]:
    """Wilder's ADX, +DI and -DI. TA-Lib ADX, PLUS_DI, MINUS_DI.

    +DI = 100 * sum(+DM) / sum(true range), Wilder's running sums seeded by the first ``window - 1`` bars' sum;
    ADX = Wilder average of 100 * |+DI - -DI| / (+DI + -DI), seeded by its first window's mean.
    """
    bars = (high, low, close)
    return talib.ADX(*bars, window), talib.PLUS_DI(*bars, window), talib.MINUS_DI(*bars, window)


def mfi(
    high: FloatArray, low: FloatArray, close: FloatArray, volume: FloatArray, *, window: int
) -> tuple[FloatArray, ...]:
    """100 * rising / (rising + falling) money flow over ``window`` bars; a bar's flow is its typical price * volume,
    rising or falling as the typical price (high + low + close) / 3 does. 0.0 without any flow. As TA-Lib's MFI, whose
    running sums keep a residue of flows that have left the window.
    """
    typical = (high + low + close) / 3
    change, flow = np.diff(typical, prepend=np.nan), typical * volume
    rising = _window_sum(np.where(change > 0, flow, 0.0), window)
    falling = _window_sum(np.where(change < 0, flow, 0.0), window)
    rising[:window] = np.nan
    return (100 * _ratio(rising, rising + falling),)


def obv(close: FloatArray, volume: FloatArray) -> tuple[FloatArray, ...]:
    """On-balance volume: first bar's volume, then plus or minus volume as the close rises or falls. TA-Lib OBV."""
    return (talib.OBV(close, volume),)


# --------------------------------------------------------------------------------------- ranges and volatility


def atr(high: FloatArray, low: FloatArray, close: FloatArray, *, window: int) -> tuple[FloatArray, ...]:
    """Wilder average of the true range, seeded by the mean of the first ``window``; bar 0 has none. TA-Lib ATR."""
    return (talib.ATR(high, low, close, window),)


def bollinger(close: FloatArray, *, window: int, deviations: float) -> tuple[FloatArray, ...]:
    """SMA +- ``deviations`` population deviations (upper, middle, lower), and from these
    width = (upper - lower) / middle and %B = (close - lower) / (upper - lower). As TA-Lib's BBANDS, see _spread.
    """
    distance, deviation = _spread(close, window)
    middle = close - distance
    upper, lower = middle + deviations * deviation, middle - deviations * deviation
    return upper, middle, lower, _ratio(upper - lower, middle), _ratio(close - lower, upper - lower)


def donchian(high: FloatArray, low: FloatArray, *, window: int) -> tuple[FloatArray, ...]:
    """Highest high, its mean with the lowest low, and lowest low of ``window`` bars, this one included. TA-Lib."""
    return tuple(talib.DONCHIAN(high, low, window))


def keltner(
    high: FloatArray, low: FloatArray, close: FloatArray, *, window: int, atr_window: int, multiplier: float
) -> tuple[FloatArray, ...]:
    """EMA of the close, and that +- ``multiplier`` * ATR (upper, middle, lower), seeded as EMA and ATR are.

    Raschke's form. TA-Lib's KC averages the typical price instead.
    """
    middle = talib.EMA(close, window)
    band = multiplier * talib.ATR(high, low, close, atr_window)
    middle = np.where(np.isnan(band), np.nan, middle)
    return middle + band, middle, middle - band


def supertrend(
    high: FloatArray, low: FloatArray, close: FloatArray, *, window: int, multiplier: float
) -> tuple[FloatArray, ...]:
    """Trailing stop at (high + low) / 2 -+ ``multiplier`` * ATR, and its direction: +1.0 long, -1.0 short.

    Each band moves only towards the price until a close beyond it releases it; a close through the tracked band
    turns the direction. The first value is long, by convention. TA-Lib SUPERTREND.
    """
    line, direction = talib.SUPERTREND(high, low, close, window, multiplier)
    return line, np.where(np.isnan(line), np.nan, direction)


def returns(close: FloatArray) -> tuple[FloatArray, ...]:
    """close / previous close - 1. TA-Lib ROCP."""
    return (talib.ROCP(close, 1),)


def log_returns(close: FloatArray) -> tuple[FloatArray, ...]:
    """Natural logarithm of close / previous close."""
    return (talib.LN(talib.ROCR(close, 1)),)


def volatility(close: FloatArray, *, window: int) -> tuple[FloatArray, ...]:
    """Population deviation of the last ``window`` log returns, per bar, not annualised. As TA-Lib's STDDEV, see
    _spread.
    """
    (changes,) = log_returns(close)
    return (_spread(changes, window)[1],)


def zscore(close: FloatArray, *, window: int) -> tuple[FloatArray, ...]:
    """(close - SMA) / population deviation of the last ``window`` closes. As TA-Lib's SMA and STDDEV, see _spread."""
    return (_ratio(*_spread(close, window)),)


def _window_sum(values: FloatArray, window: int) -> FloatArray:
    """Sum of the last ``window`` values; a function of these alone, so that nothing is left of those before.

    Sums of 1, 2, 4, ... values are added up as the binary digits of ``window`` say. The first ``window - 1`` rows hold
    the sum of what there is.
    """
    if window < 1:
        raise ValueError(f"window must be at least 1 bar, was {window}")
    total, sums, size, taken = np.zeros_like(values), values, 1, 0
    while True:
        if window & size:
            total[taken:] += sums[: values.size - taken]
            taken += size
        size *= 2
        if size > window or taken >= values.size:
            return total
        longer = sums.copy()
        longer[size // 2 :] += sums[: -(size // 2)]
        sums = longer


def weighted_mean(values: FloatArray, weights: FloatArray, window: int) -> FloatArray:
    """Mean of the last ``window`` values, each by its weight, which is not negative; NaN without any weight, and in
    the first ``window - 1`` rows. A function of its window alone.
    """
    total = _window_sum(weights, window)
    weighted = _window_sum(values * weights, window)
    mean = np.divide(weighted, total, out=np.full_like(values, np.nan), where=total > 0)
    mean[: window - 1] = np.nan
    return mean


def _spread(close: FloatArray, window: int) -> tuple[FloatArray, FloatArray]:
    """How far the close lies above the mean of its ``window``, and the window's population deviation.

    TA-Lib's running sums keep a residue of bars that have left the window. In a quiet market, a tick or two a window,
    it is large enough to lift a z-score over its bound and to make a value depend on where the computation began. The
    differences to the window's last close have no past, and are exact for prices within a factor of two.
    """
    if window < 2:
        raise ValueError(f"window must be at least 2 bars, was {window}")
    total, squares = np.zeros_like(close), np.zeros_like(close)
    for age in range(1, min(window, close.size)):
        difference = close[age:] - close[:-age]
        total[age:] += difference
        squares[age:] += difference * difference
    total[: window - 1] = np.nan
    distance = total / window
    return distance, np.sqrt(np.maximum(squares / window - distance * distance, 0.0))


# ---------------------------------------------------------------------------------- carrying a value on from its state

Carried = Mapping[str, tuple[FloatArray, FloatArray]]
"""output -> its values as computed from the first row on, and as stored; NaN where none is stored."""


def resume_obv(
    columns: list[FloatArray], rows: Carried, first: int, _: Mapping[str, float]
) -> dict[str, FloatArray] | None:
    """On-balance volume adds to the stored sum, in the same order of additions, so that not a bit differs."""
    ((name, (computed, stored)),) = rows.items()
    close, volume = columns
    known = ~(np.isnan(close) | np.isnan(volume))
    if not known[first - 1]:
        return {name: computed[first:]}  # it starts again after a bar of unknown volume
    if np.isnan(stored[first - 1]):
        return None
    unknown = np.flatnonzero(~known[first:])
    stop = first + int(unknown[0]) if len(unknown) else len(close)
    steps = np.sign(close[first:stop] - close[first - 1 : stop - 1]) * volume[first:stop]
    carried = np.cumsum(np.append(stored[first - 1], steps))[1:]
    return {name: np.concatenate([carried, computed[stop:]])}


def resume_supertrend(
    columns: list[FloatArray], rows: Carried, first: int, parameters: Mapping[str, float]
) -> dict[str, FloatArray] | None:
    """SuperTrend follows two bands, of which a row stores the one that is tracked.

    A band is a function of its last value and the bars that follow; so once a computed band has met the stored one,
    they stay together. Both have met before the first new bar, or all of history is computed.
    """
    (line, stored_line), (direction, stored_direction) = rows.values()
    if any(np.isnan(column[:first]).any() for column in columns):
        return None
    met = (direction == stored_direction)[:first] & agree(stored_line[:first], line[:first]) & ~np.isnan(line[:first])
    # Until the true range's average has converged, bands move apart again; two fifths of a window are to spare.
    window = 1.4 * parameters["window"]
    met[: math.ceil(window) + converged(1 / window)] = False
    if not (met & (direction[:first] > 0)).any() or not (met & (direction[:first] < 0)).any():
        return None
    return {name: computed[first:] for name, (computed, _) in rows.items()}


# ------------------------------------------------------------------------------------------------------- convergence

CONVERGED = 1e-12
"""Weight of the oldest bar at which a recursive average counts as converged. Kept well below the promised 1e-9,
because the error at the seed can be many times the value itself (an MACD near zero)."""


def converged(alpha: float) -> int:
    """Bars until the weight ``(1 - alpha) ** n`` of an exponential average's seed falls below ``CONVERGED``."""
    return math.ceil(math.log(CONVERGED) / math.log1p(-alpha))
