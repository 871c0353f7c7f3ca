"""The rows that Feast materializes: those of a view whose bars closed in a span, all or each symbol's newest."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime

import numpy as np
import pyarrow as pa

from feature_repo.catalog import ENTITY, View
from feature_repo.moments import to_us
from feature_repo.stores.feast.data_sources import open_of, table_of
from feature_repo.stores.schemas import TIME
from feature_repo.stores.tables import OfflineTables
from feature_repo.stores.window import newest_windows


def every_row(
    tables: OfflineTables, view: View, columns: Sequence[str], start: datetime | None, end: datetime | None
) -> pa.Table:
    """Every bar that closed in ``[start, end]``, at its newest revision; of a window view, each newest window."""
    first, last = open_of(view, start), open_of(view, end)
    if view.is_window:
        return _windows(tables, view, first, last)
    return tables.read(table_of(view), timeframe=view.timeframe.name, start=first, end=last, columns=columns)


def newest_rows(tables: OfflineTables, view: View, columns: Sequence[str], start: datetime, end: datetime) -> pa.Table:
    """The newest bar of each symbol that closed in ``[start, end]``, at its newest revision."""
    first, last = open_of(view, start), open_of(view, end)
    if view.is_window:
        return _windows(tables, view, first, last)
    # Only keys first: the wide columns are then read from the oldest newest bar on, not from all history.
    keys = tables.read(table_of(view), timeframe=view.timeframe.name, start=first, end=last, columns=[])
    newest = keys.group_by("symbol").aggregate([("open_time", "max")])
    oldest = min(newest["open_time_max"].to_pylist(), default=first)
    rows = tables.read(table_of(view), timeframe=view.timeframe.name, start=oldest, end=last, columns=columns)
    symbols = rows["symbol"].to_numpy(zero_copy_only=False)
    is_last = np.append(symbols[1:] != symbols[:-1], True)[: rows.num_rows]
    return rows.filter(pa.array(is_last))


def _windows(tables: OfflineTables, view: View, start: datetime | None, end: datetime | None) -> pa.Table:
    windows = newest_windows(tables, view.timeframe, end=end)
    first = to_us(start) + view.timeframe.microseconds if start else 0
    kept = {name: w for name, w in windows.items() if w.event_us >= first}
    columns: dict[str, pa.Array] = {
        ENTITY: pa.array(list(kept), pa.string()),
        "event_timestamp": pa.array([w.event_us for w in kept.values()], pa.int64()).cast(TIME),
        "created": pa.array([w.created_us for w in kept.values()], pa.int64()).cast(TIME),
    }
    for field in view.fields:
        columns[field] = pa.array([w.columns[field] for w in kept.values()], pa.list_(pa.float64()))
    return pa.table(columns)
