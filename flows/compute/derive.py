"""Bars of a longer timeframe from bars of a shorter one."""

from __future__ import annotations

import numpy as np
import pandas as pd

from feature_repo.catalog import Session, Timeframe
from feature_repo.freshness import next_close
from feature_repo.sessions import Times, bar_close, check_opens, expected_opens, grid_open, is_open, on_grid


def opens_us(bars: pd.DataFrame) -> Times:
    """The ``open_time`` column as int64 microseconds since 1970-01-01 UTC, shape (rows,), whatever its unit."""
    times: Times = bars["open_time"].to_numpy(dtype="datetime64[us]").view(np.int64)
    return times


def derive_bars(
    bars: pd.DataFrame,
    *,
    session: Session,
    source: Timeframe,
    target: Timeframe,
    watermark_us: int | None = None,
) -> pd.DataFrame:
    """Bars of ``target`` made of one symbol's bars of ``source`` in the hours of its session.

    Open is the first, high the highest, low the lowest, close the last; volume is the sum of what the source reports,
    NaN where it reports none at all. A source bar of hours in which the market is closed (before and after an
    exchange's trading, a broker's Saturday) is left out, so it never makes a bar by itself nor shifts a close.

    A target bar is returned once it is closed in the data: when the newest source bar's close, or ``watermark_us`` if
    later, has reached its close. So later source bars never change a bar that was returned. A first bar whose
    beginning the source lacks is returned: its ``source_bars`` falls short of its ``expected_bars``.

    Args:
        bars: ``open_time`` (datetime64, UTC, ascending, unique), ``open high low close volume`` (float64).
        session: the symbol's; it sets the trading hours, and the day start of 4h and 1d bars.
        watermark_us: moment (microseconds since 1970-01-01 UTC) up to which the source is complete although its
            newest bar is older, as after the market's close or in minutes without a trade.

    Returns:
        The bars' columns (``open_time`` datetime64[us, UTC]; prices and volume float64) with ``source_bars``, of how
        many source bars each is made, and ``expected_bars``, how many an open market makes (both int32).

    Raises:
        ValueError: open times are not ascending, unique and on the source's grid; bars of ``source`` do not fill
            bars of ``target`` (minutes from hours; hourly bars over a day that starts at half past); or the session's
            calendar is unknown.
    """
    if target.seconds <= source.seconds or target.seconds % source.seconds:
        raise ValueError(f"{target.name} bars cannot be made of {source.name} bars: take a source that divides them")
    opens = opens_us(bars)
    check_opens(session, source, opens)
    complete_to = bar_close(session, source, opens[-1:]).tolist() + ([] if watermark_us is None else [watermark_us])
    traded = is_open(session, opens, source)
    if not traded.all():
        bars, opens = bars[traded], opens[traded]

    groups = bars.groupby(grid_open(session, target, opens), sort=False)  # pandas sums with Kahan's correction
    derived = pd.DataFrame(
        {
            "open": groups["open"].first(),
            "high": groups["high"].max(),
            "low": groups["low"].min(),
            "close": groups["close"].last(),
            "volume": groups["volume"].sum(min_count=1),
        }
    ).astype("float64")
    target_opens: Times = derived.index.to_numpy(dtype=np.int64)
    closes = bar_close(session, target, target_opens)
    if not (on_grid(session, source, target_opens).all() and on_grid(session, source, closes).all()):
        raise ValueError(
            f"{source.name} bars run across the start of session {session.name!r}'s day ({session.day_start} "
            f"{session.clock}): derive {target.name} bars from shorter ones"
        )

    expected = (
        expected_opens(session, source, int(target_opens[0]), int(closes[-1])) if opens.size else np.empty(0, np.int64)
    )
    derived.insert(0, "open_time", pd.DatetimeIndex(target_opens.view("datetime64[us]")).tz_localize("UTC"))
    derived["source_bars"] = groups.size().astype("int32")
    derived["expected_bars"] = np.diff(np.searchsorted(expected, [target_opens, closes]), axis=0)[0].astype(np.int32)

    return derived[closes <= max(complete_to, default=0)].reset_index(drop=True)


def closes(bars: pd.DataFrame, timeframe: Timeframe) -> pd.Series:
    """When each bar closed, its ``event_timestamp``: datetime64[us, UTC]."""
    # A pandas Timedelta would turn microseconds into nanoseconds.
    return bars["open_time"] + np.timedelta64(timeframe.seconds, "s")


def complete_until(session: Session, timeframe: Timeframe, newest_us: int, now_us: int) -> int:
    """The moment until which a source is complete: when an open market makes its next bar, but not beyond now.

    So the last bar of an exchange's day is made when it closes at midnight, and not when the next day's trading begins.

    Args:
        newest_us: open of the source's newest bar; as all moments here microseconds since 1970-01-01 UTC.
    """
    step = timeframe.microseconds
    return min(next_close(session, timeframe, newest_us + step) - step, now_us)
