"""Windows: the last closed bars of a symbol and timeframe, every column as an array, read from the offline tables."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from itertools import pairwise

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from feature_repo.catalog import BAR_FIELDS, INDICATOR_FIELDS, SYMBOLS, WINDOW_BARS, WINDOW_TIME, Timeframe
from feature_repo.freshness import open_before
from feature_repo.moments import to_datetime, to_us
from feature_repo.stores.redis.codec import FloatArray
from feature_repo.stores.tables import OfflineTables

_ON = ["symbol", "timeframe", "open_time", "event_timestamp"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Window:
    """The last bars of a symbol and timeframe.

    Attributes:
        event_us, created_us: close of the newest bar, and the newest revision among all its rows; microseconds UTC.
        columns: field -> (n,) float64, oldest first, n <= ``WINDOW_BARS``; ``open_time`` in seconds UTC.
    """

    event_us: int
    created_us: int
    columns: Mapping[str, FloatArray]


def read_joined(
    tables: OfflineTables,
    timeframe: str,
    *,
    symbols: Sequence[str] | None = None,
    start: datetime | None = None,
    end: datetime | None = None,
    as_known_at: datetime | None = None,
) -> pa.Table:
    """Bars with their indicators, ascending by symbol and open time; ``created`` is the newer of the two.

    A bar whose indicators are not stored yet is left out.
    """
    span = {"timeframe": timeframe, "symbols": symbols, "start": start, "end": end, "as_known_at": as_known_at}
    bars = tables.read("bars", columns=BAR_FIELDS, **span)  # type: ignore[arg-type]
    indicators = tables.read("indicators", columns=INDICATOR_FIELDS, **span)  # type: ignore[arg-type]
    joined = bars.join(indicators, keys=_ON, join_type="inner", right_suffix="_indicators")
    bar, indicator = joined["created"], joined["created_indicators"]
    created = pc.if_else(pc.greater(indicator, bar), indicator, bar)
    joined = joined.drop_columns(["created", "created_indicators"]).append_column("created", created)
    return joined.sort_by([("symbol", "ascending"), ("open_time", "ascending")]).combine_chunks()


def read_window(
    tables: OfflineTables,
    timeframe: Timeframe,
    symbol: str,
    *,
    end: datetime,
    as_known_at: datetime | None = None,
) -> Window | None:
    """The window of a symbol's bars that opened at or before ``end``; None when there are none."""
    return read_windows(tables, timeframe, [symbol], end=end, as_known_at=as_known_at).get(symbol)


def read_windows(
    tables: OfflineTables,
    timeframe: Timeframe,
    symbols: Sequence[str],
    *,
    end: datetime,
    as_known_at: datetime | None = None,
) -> dict[str, Window]:
    """The windows of symbols' bars that opened at or before ``end``; symbols without bars are left out."""
    windows: dict[str, Window] = {}
    lacking = list(symbols)
    # First a span that holds the window of an open market; where bars are sparser, all history is read.
    for start in (*_window_starts(timeframe, lacking, end), None):
        if not lacking:
            break
        rows = read_joined(tables, timeframe.name, symbols=lacking, start=start, end=end, as_known_at=as_known_at)
        for symbol, own in by_symbol(rows).items():
            if own.num_rows >= WINDOW_BARS or start is None:
                windows[symbol] = window_of(own)
        lacking = [symbol for symbol in lacking if symbol not in windows]
    return windows


def _window_starts(timeframe: Timeframe, symbols: Sequence[str], end: datetime) -> list[datetime]:
    sessions = {SYMBOLS[symbol].session.name: SYMBOLS[symbol].session for symbol in symbols if symbol in SYMBOLS}
    end_us = to_us(end)
    opens = [open_before(session, timeframe, end_us, round(WINDOW_BARS * 1.05)) for session in sessions.values()]
    return [to_datetime(min(opens))] if opens else []


def newest_windows(
    tables: OfflineTables,
    timeframe: Timeframe,
    *,
    symbols: Sequence[str] | None = None,
    end: datetime | None = None,
) -> dict[str, Window]:
    """The newest window of each symbol, of bars that opened at or before ``end``."""
    keys = tables.read("bars", timeframe=timeframe.name, symbols=symbols, end=end, columns=[])
    if keys.num_rows == 0:
        return {}
    newest = keys.group_by("symbol").aggregate([("open_time", "max")])
    windows: dict[str, Window] = {}
    for name, last in zip(newest["symbol"].to_pylist(), newest["open_time_max"].to_pylist(), strict=True):
        window = read_window(tables, timeframe, name, end=last)
        if window:
            windows[name] = window
    return windows


def by_symbol(rows: pa.Table) -> dict[str, pa.Table]:
    """Splits rows that are sorted by symbol."""
    if not rows.num_rows:
        return {}
    names = rows["symbol"].combine_chunks().dictionary_encode()
    edges = np.flatnonzero(np.diff(names.indices.to_numpy(), prepend=-1, append=-1)).tolist()
    return {rows["symbol"][start].as_py(): rows.slice(start, stop - start) for start, stop in pairwise(edges)}


def window_of(rows: pa.Table) -> Window:
    """The window that ends with the last of a symbol's joined rows."""
    rows = rows.slice(max(0, rows.num_rows - WINDOW_BARS))
    columns = {name: column(rows, name) for name in (*BAR_FIELDS, *INDICATOR_FIELDS)}
    columns[WINDOW_TIME] = microseconds(rows, "open_time") / 1e6
    return Window(
        event_us=int(microseconds(rows, "event_timestamp")[-1]),
        created_us=int(microseconds(rows, "created").max()),
        columns=columns,
    )


def column(rows: pa.Table, name: str) -> FloatArray:
    """A float column as float64, null as NaN."""
    return np.asarray(rows[name].combine_chunks().to_numpy(zero_copy_only=False), dtype=np.float64)


def microseconds(rows: pa.Table, name: str) -> np.typing.NDArray[np.int64]:
    """A time column as int64 microseconds since 1970-01-01 UTC."""
    return np.asarray(rows[name].combine_chunks().cast(pa.int64()).to_numpy(zero_copy_only=False))
