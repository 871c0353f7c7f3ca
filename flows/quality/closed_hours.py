"""Bars that a feed makes of hours in which the market was closed: flat, without volume, the last price over again."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from feature_repo.catalog import Symbol, Timeframe
from feature_repo.sessions import is_open

FloatArray = npt.NDArray[np.float64]
IntArray = npt.NDArray[np.int64]
BoolArray = npt.NDArray[np.bool_]


def idle_bars(
    symbol: Symbol, timeframe: Timeframe, opens_us: IntArray, bars: FloatArray, close_before: FloatArray
) -> BoolArray:
    """Which bars are a feed's filling of closed hours and no trade, shape (bars,).

    A bar of closed hours in which something happened, as before or after an exchange's trading, is not one.
    Where no volume is reported at all, a flat bar counts when it repeats the close before it.

    Args:
        opens_us: open times on the timeframe's grid, microseconds since 1970-01-01 UTC, shape (bars,).
        bars: open, high, low, close, volume; (5, bars) float64.
        close_before: close of the bar before each one; NaN where there is none.

    Raises:
        ValueError: the session's calendar is unknown.
    """
    opened, high, low, close, volume = bars
    flat = np.asarray(high == low)
    if not flat.any():  # as nearly always of a live bar
        return flat
    flat &= (opened == high) & (low == close)
    nothing = (volume == 0) | (np.isnan(volume) & (close == close_before))
    idle = np.asarray(flat & nothing)
    if idle.any():
        idle[idle] = ~is_open(symbol.session, opens_us[idle], timeframe)
    return idle
