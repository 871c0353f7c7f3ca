"""Ticks to bars."""

from __future__ import annotations

from datetime import datetime

import numpy as np
import pandas as pd

from feature_repo.catalog import TIMEFRAMES, Symbol, Timeframe
from feature_repo.sessions import bar_close, grid_open, on_grid
from flows.sources.columns import PRICES

_DAY = TIMEFRAMES["1d"]
_QUIET_US = 60_000_000
"""A file of ticks that reaches to within this of the day's end is taken to hold all of the day."""


def complete_ticks(ticks: pd.DataFrame) -> tuple[pd.DataFrame, pd.DataFrame, pd.DataFrame]:
    """Ticks in the order of their times, each with its prices; those without a price, and those that cross.

    Some feeds state only the side of a quote that changed: the other one is as it was. A tick is left without a price
    where its feed never stated one before. A quote whose ask is below its bid is not a price.
    """
    ticks = ticks.sort_values("open_time", kind="stable", ignore_index=True)
    if "ask_price" in ticks:
        ticks[["price", "ask_price"]] = ticks[["price", "ask_price"]].ffill()
    without = ticks[[name for name in ("price", "ask_price") if name in ticks]].isna().any(axis=1)
    crossed = ticks["ask_price"] < ticks["price"] if "ask_price" in ticks else np.zeros(len(ticks), bool)
    return ticks[~without & ~crossed], ticks[without], ticks[crossed]


def bars_of_ticks(
    ticks: pd.DataFrame,
    *,
    symbol: Symbol,
    timeframe: Timeframe,
    complete_to: datetime | None = None,
    written_at: datetime | None = None,
) -> tuple[pd.DataFrame, int]:
    """Bars of the ticks: labelled by their open, left-closed; a bar without a tick does not exist.

    Open is the first price, close the last, ticks of one time in the order of their rows. Where there are bid and ask,
    each side's prices make a bar, as brokers do. Volume is the sum of the sizes, NaN where there are none.

    The last bar is returned if it is whole: it closes by ``complete_to``, or without one the ticks reach to the end of
    a day (00:00 UTC, or the session's) with which it closes. A bar that was cut off in the middle is not returned.

    Args:
        ticks: ``open_time`` (datetime64[us, UTC], the tick's, ascending), ``price`` and perhaps ``ask_price``,
            ``volume`` (float64), ``file``, ``line``.
        complete_to: moment up to which the ticks are all there.
        written_at: when the ticks were written down; a bar that had not closed then is not whole.

    Returns:
        The bars as ``Rows.frame``, with the file and line of each one's first tick, and how many bars were held back.
    """
    times = ticks["open_time"].to_numpy(dtype="datetime64[us]").view(np.int64)
    groups = ticks.groupby(grid_open(symbol.session, timeframe, times), sort=True)
    firsts = groups[["file", "line"]].first()
    opens = firsts.index.to_numpy(dtype=np.int64)
    bars: dict[str, object] = {"open_time": pd.DatetimeIndex(opens.view("datetime64[us]")).tz_localize("UTC")}
    for column, prefix in (("price", ""), ("ask_price", "ask_")):
        if column in ticks:
            side = groups[column]
            for name, values in zip(PRICES, (side.first(), side.max(), side.min(), side.last()), strict=True):
                bars[prefix + name] = values.to_numpy()
    bars["volume"] = groups["volume"].sum(min_count=1).to_numpy()
    frame = pd.DataFrame(bars | {name: firsts[name].to_numpy() for name in ("file", "line")})
    if not len(frame):
        return frame, 0
    close = bar_close(symbol.session, timeframe, opens[-1:])
    whole = _by(complete_to, close) if complete_to else _ends_a_day(symbol, close, int(times[-1]), written_at)
    return (frame, 0) if whole else (frame.iloc[:-1], 1)


def _by(moment: datetime, close: np.ndarray[tuple[int], np.dtype[np.int64]]) -> bool:
    return bool(close[0] <= int(pd.Timestamp(moment).value) // 1000)


def _ends_a_day(
    symbol: Symbol, close: np.ndarray[tuple[int], np.dtype[np.int64]], last_tick: int, written_at: datetime | None
) -> bool:
    ends = close[0] % _DAY.microseconds == 0 or bool(on_grid(symbol.session, _DAY, close)[0])
    return ends and close[0] - last_tick <= _QUIET_US and (written_at is None or _by(written_at, close))
