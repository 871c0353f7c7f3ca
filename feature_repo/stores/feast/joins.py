"""Historical joins: for each row of an entity frame, the values of a view that were valid at its moment."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from datetime import datetime
from functools import cache
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd
import pyarrow as pa

from feature_repo.catalog import ENTITY, View
from feature_repo.moments import to_datetime
from feature_repo.stores.feast.asof import match_rows
from feature_repo.stores.feast.data_sources import open_of, table_of
from feature_repo.stores.tables import OfflineTables
from feature_repo.stores.window import Window, microseconds, read_window

Moments = npt.NDArray[np.int64]
_NEVER = np.iinfo(np.int64).min  # an entity row without a timestamp


def moments_of(times: pd.Series) -> Moments:
    """Timestamps in whole microseconds UTC, rounded down: never later than the requested moment."""
    whole = pd.to_datetime(times, utc=True).dt.floor("us").astype("datetime64[us, UTC]")
    return np.asarray(whole.to_numpy(dtype="datetime64[us]").astype(np.int64))


def every_close(
    tables: OfflineTables, views: Iterable[View], start: datetime | None, end: datetime | None
) -> pd.DataFrame:
    """An entity frame with one row per symbol and bar close in a span."""
    frames = []
    for view in views:
        keys = tables.read(
            "bars" if view.is_window else table_of(view),
            timeframe=view.timeframe.name,
            start=open_of(view, start),
            end=open_of(view, end),
            columns=[],
        )
        frames.append(keys.select([ENTITY, "event_timestamp"]).to_pandas())
    rows = pd.concat(frames).drop_duplicates()
    return rows.sort_values([ENTITY, "event_timestamp"], ignore_index=True)


def as_of(
    tables: OfflineTables,
    view: View,
    features: Sequence[str],
    symbols: pd.Series,
    moments: Moments,
    *,
    by_created: bool,
    ttl_us: int | None,
) -> Mapping[str, pa.Array]:
    """The features at each row's symbol and moment; null where no bar was valid.

    Args:
        by_created: whether a revision counts from the moment it was written instead of its bar's close.
        ttl_us: how old a bar may be, by its close, microseconds.
    """
    if view.is_window:
        return _as_of_windows(tables, view, features, symbols, moments, by_created)
    known = moments[moments != _NEVER]
    rows = tables.read(
        table_of(view),
        timeframe=view.timeframe.name,
        symbols=sorted(symbols.dropna().astype(str).unique()),
        end=open_of(view, to_datetime(int(known.max()))) if len(known) else None,
        columns=features,
        all_revisions=by_created,
    )
    index = match_rows(
        symbols.astype("string"),
        moments,
        row_symbols=rows["symbol"],
        event_us=microseconds(rows, "event_timestamp"),
        created_us=microseconds(rows, "created") if by_created else None,
        ttl_us=ttl_us,
    )
    taken = rows.take(index)
    return {name: taken[name] for name in features}


def _as_of_windows(
    tables: OfflineTables,
    view: View,
    features: Sequence[str],
    symbols: pd.Series,
    moments: Moments,
    by_created: bool,
) -> Mapping[str, pa.Array]:
    """The windows as of each row; one read per distinct symbol and moment."""

    @cache
    def window_at(name: str, us: int) -> Window | None:
        moment = to_datetime(us)
        end, known = open_of(view, moment), moment if by_created else None
        return read_window(tables, view.timeframe, name, end=end, as_known_at=known)

    columns: dict[str, list[Any]] = {name: [] for name in features}
    for name, us in zip(symbols, moments, strict=True):
        window = window_at(name, int(us)) if us != _NEVER and isinstance(name, str) else None
        for field in features:
            columns[field].append(window.columns[field] if window else None)
    return {name: pa.array(values, pa.list_(pa.float64())) for name, values in columns.items()}
