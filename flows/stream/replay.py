"""Real bars as a live feed: each is handed on when it would have closed, on a clock that runs faster than ours."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from datetime import datetime, timedelta

import pandas as pd

from feature_repo.catalog import Symbol, Timeframe
from feature_repo.stores.tables import OfflineTables
from flows.compute.derive import closes
from flows.stream.batch import live_bars
from flows.stream.feed import Feed

_TOGETHER = 200


def newer_than_stored(bars: pd.DataFrame, symbol: Symbol, timeframe: Timeframe, tables: OfflineTables) -> pd.DataFrame:
    """The bars after the newest stored one, so that a replay goes on where the last one ended."""
    stored = tables.read("bars", timeframe=timeframe.name, symbols=[symbol.name], columns=[])
    if not stored.num_rows:
        return bars
    newest = stored["open_time"].to_pandas().max()
    return bars[bars["open_time"] > newest].reset_index(drop=True)


def replay(
    bars: pd.DataFrame,
    symbol: Symbol,
    timeframe: Timeframe,
    feed: Feed,
    *,
    speed: float,
    now: datetime,
    sleep: Callable[[float], None] = time.sleep,
    monotonic: Callable[[], float] = time.monotonic,
    tell: Callable[[int], None] = lambda _: None,
) -> int:
    """Feeds a bars table; returns how many bars that were.

    Args:
        speed: how many times as fast as the world; 0: as fast as the stream takes them.
        now: a bar that has not closed by then is not fed.
        tell: called with how many bars have been fed, now and then.

    Raises:
        BackloggedError: nothing takes them.
        ValueError: ``speed`` is below 0.
    """
    if speed < 0:
        raise ValueError(f"speed must be 0 or more, not {speed:g}")
    closed = closes(bars, timeframe)
    bars, closed = bars[closed <= now], closed[closed <= now]
    told = live_bars(bars, symbol.name, timeframe.name)
    if not speed:
        for start in range(0, len(told), _TOGETHER):
            feed.put(told[start : start + _TOGETHER])
            tell(min(start + _TOGETHER, len(told)))
        return len(told)
    begun = monotonic()
    since: Sequence[timedelta] = list(closed - closed.iloc[0]) if len(told) else []
    for count, (bar, after) in enumerate(zip(told, since, strict=True), 1):
        wait_s = after.total_seconds() / speed - (monotonic() - begun)
        if wait_s > 0:
            sleep(wait_s)
        feed.put([bar])
        tell(count)
    return len(told)
