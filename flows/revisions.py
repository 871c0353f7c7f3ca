"""What is new and what has changed: fresh rows held against the newest stored ones."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime

import numpy as np
import numpy.typing as npt
import pandas as pd
import pyarrow as pa

from feature_repo.stores.tables import TIME
from feature_repo.stores.window import column, microseconds


@dataclass(frozen=True, slots=True, kw_only=True)
class Changes:
    """The outcome of a comparison.

    Attributes:
        rows: the fresh rows that must be stored: new bars, and revisions of known ones.
        created_us: (n,) int64, for every fresh row when its newest revision was (or now is) written.
        stored, revised, unchanged: how many fresh rows are new, differ from the stored ones, or equal them.
    """

    rows: pd.DataFrame
    created_us: npt.NDArray[np.int64]
    stored: int
    revised: int
    unchanged: int


NOISE = 1e-12
"""Relative difference below which two sources tell the same number: one wrote 0.176, the other 0.17600000000000002."""


def compare(
    fresh: pd.DataFrame, stored: pa.Table, *, values: Sequence[str], now: datetime, tolerance: float = 0.0
) -> Changes:
    """Compares fresh rows with the newest stored revision of the same bars.

    Args:
        fresh: rows of one symbol and timeframe, ascending by ``open_time``.
        stored: the newest revision of that symbol and timeframe, ascending; needs ``created`` and ``values``.
        values: the columns that make a row what it is.
        tolerance: relative difference up to which a value counts as the same; 0 takes equal numbers only.
        now: when this run writes. A revision is always written later than what it revises, whatever the clock says.
    """
    fresh_opens = fresh["open_time"].to_numpy(dtype="datetime64[us]").astype(np.int64)
    known_opens, known_created = microseconds(stored, "open_time"), microseconds(stored, "created")
    at = np.searchsorted(known_opens, fresh_opens)
    inside = np.minimum(at, max(len(known_opens) - 1, 0))
    known = known_opens[inside] == fresh_opens if len(known_opens) else np.zeros(len(fresh), dtype=bool)
    same = known.copy()
    for name in values:
        was = column(stored, name)[inside] if len(known_opens) else np.full(len(fresh), np.nan)
        now_is = fresh[name].to_numpy(dtype=np.float64)
        equal = np.abs(was - now_is) <= tolerance * np.abs(was) if tolerance else was == now_is
        same &= equal | (np.isnan(was) & np.isnan(now_is))
    write = ~same
    now_us = int(pd.Timestamp(now).value // 1000)
    revised = known & write
    if revised.any():
        now_us = max(now_us, int(known_created[inside[revised]].max()) + 1)
    created = np.full(len(fresh), now_us, dtype=np.int64)
    created[same] = known_created[inside[same]] if len(known_opens) else now_us
    return Changes(
        rows=fresh[write].assign(created=created[write].astype("datetime64[us]")),
        created_us=created,
        stored=int((write & ~known).sum()),
        revised=int(revised.sum()),
        unchanged=int(same.sum()),
    )


def as_table(rows: pd.DataFrame, schema: pa.Schema, **constants: str) -> pa.Table:
    """Rows as an Arrow table of ``schema`` less its ``month``; absent columns are null, ``constants`` fill theirs."""
    columns: dict[str, pa.Array] = {}
    for field in schema:
        if field.name == "month":
            continue
        if field.name in constants:
            columns[field.name] = pa.array([constants[field.name]] * len(rows), field.type)
        elif field.name not in rows:
            columns[field.name] = pa.nulls(len(rows), field.type)
        elif field.type == TIME:
            moments = rows[field.name].to_numpy(dtype="datetime64[us]")
            columns[field.name] = pa.array(moments, pa.timestamp("us")).cast(TIME)
        else:
            # A NaN of a float column is a value (warm-up), of any other column it is absence.
            columns[field.name] = pa.array(rows[field.name], field.type, from_pandas=field.type != pa.float64())
    return pa.table(columns)
