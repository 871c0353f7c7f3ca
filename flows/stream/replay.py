"""Bars of a table as a live feed: each is fed when it would have closed, on a faster clock."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from datetime import datetime, timedelta

import pandas as pd

from feature_repo.catalog import Symbol, Timeframe
from feature_repo.stores.tables import OfflineTables
from flows.compute.derive import closes
from flows.stream.bar import bars_of
from flows.stream.feed import Feed

_CHUNK = 200


def newer_than_stored(bars: pd.DataFrame, symbol: Symbol, timeframe: Timeframe, tables: OfflineTables) -> pd.DataFrame:
    """The bars after the newest stored one, so that a replay continues where the last one ended."""
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
    progress: Callable[[int], None] = lambda _: None,
) -> int:
    """Feeds a bars table. Returns the number of bars fed.

    Args:
        speed: multiple of real time; 0: as fast as the stream takes them.
        now: a bar that has not closed by then is not fed; aware UTC.
        progress: called with the number of bars fed so far, now and then.

    Raises:
        BackloggedError: no stream takes the bars.
        ValueError: ``speed`` is below 0.
    """
    if speed < 0:
        raise ValueError(f"speed must be 0 or more, not {speed:g}")
    closed = closes(bars, timeframe)
    bars, closed = bars[closed <= now], closed[closed <= now]
    fed = bars_of(bars, symbol.name, timeframe.name)
    if not speed:
        for start in range(0, len(fed), _CHUNK):
            feed.put(fed[start : start + _CHUNK])
            progress(min(start + _CHUNK, len(fed)))
        return len(fed)
    started = monotonic()
    after_first: Sequence[timedelta] = list(closed - closed.iloc[0]) if len(fed) else []
    for count, (bar, after) in enumerate(zip(fed, after_first, strict=True), 1):
        wait_s = after.total_seconds() / speed - (monotonic() - started)
        if wait_s > 0:
            sleep(wait_s)
        feed.put([bar])
        progress(count)
    return len(fed)
