"""What is new and what has changed: fresh rows compared with the newest stored ones."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from datetime import datetime

import numpy as np
import numpy.typing as npt
import pandas as pd
import pyarrow as pa

from feature_repo.agreement import BoolArray, FloatArray, equal
from feature_repo.moments import to_datetime
from feature_repo.stores.schemas import TIME, WITHDRAWN
from feature_repo.stores.window import column, microseconds

Int64Array = npt.NDArray[np.int64]


@dataclass(frozen=True, slots=True, kw_only=True)
class Changes:
    """The outcome of a comparison.

    Attributes:
        rows: the fresh rows that must be stored: new bars, and revisions of known ones.
        stored, revised, unchanged: how many fresh rows are new, differ from the stored ones, or equal them.
        revises_us: when the newest of the revised rows had been written, microseconds since 1970-01-01 UTC; 0: none.
    """

    rows: pd.DataFrame
    stored: int
    revised: int
    unchanged: int
    revises_us: int

    def written_at(self, moment: datetime) -> pd.DataFrame:
        """The rows with their ``created``: ``moment``, or one later than every revision that they replace."""
        after = to_datetime(self.revises_us + 1)
        return self.rows.assign(created=np.datetime64(max(moment, after).replace(tzinfo=None), "us"))


def compare(
    fresh: pd.DataFrame,
    stored: pa.Table,
    *,
    values: Sequence[str],
    same: Callable[[FloatArray, FloatArray], BoolArray] = equal,
) -> Changes:
    """Compares fresh rows with the newest stored revision of the same bars.

    Args:
        fresh: rows of one symbol and timeframe, ascending by ``open_time``.
        stored: the newest revision of that symbol and timeframe, ascending; needs ``created`` and ``values``.
        values: the columns that make a row what it is.
        same: where two columns state the same value.
    """
    fresh_opens = fresh["open_time"].to_numpy(dtype="datetime64[us]").astype(np.int64)
    known_opens, known_created = microseconds(stored, "open_time"), microseconds(stored, "created")
    at = np.searchsorted(known_opens, fresh_opens)
    inside = np.minimum(at, max(len(known_opens) - 1, 0))
    known = known_opens[inside] == fresh_opens if len(known_opens) else np.zeros(len(fresh), dtype=bool)
    unchanged = known.copy()
    for name in values if known.any() else ():
        was, is_now = column(stored, name)[inside], fresh[name].to_numpy(dtype=np.float64)
        unchanged[known] &= same(was[known], is_now[known])
    revised = known & ~unchanged
    return Changes(
        rows=fresh[~unchanged],
        stored=int((~known).sum()),
        revised=int(revised.sum()),
        unchanged=int(unchanged.sum()),
        revises_us=int(known_created[inside[revised]].max()) if revised.any() else 0,
    )


def withdraw_others(changes: Changes, stored: pa.Table, kept_us: Int64Array, *, reason: str) -> Changes:
    """The changes, with a withdrawal of every stored row that is not among those that a computation returned.

    Args:
        stored: newest revisions, ascending; needs ``event_timestamp`` and ``created``.
        kept_us: open times of the rows that stay, microseconds since 1970-01-01 UTC.
        reason: why the others do not.
    """
    withdrawn = stored.filter(pa.array(~np.isin(microseconds(stored, "open_time"), kept_us)))
    if not withdrawn.num_rows:
        return changes
    rows = withdrawn.select(["open_time", "event_timestamp"]).to_pandas()
    if "source_bars" in withdrawn.column_names:  # they are derived bars still
        rows = rows.assign(source_bars=0, expected_bars=0)
    rows[WITHDRAWN] = reason
    whole = pd.concat([changes.rows, rows], ignore_index=True) if len(changes.rows) else rows
    return replace(
        changes,
        rows=whole.sort_values("open_time", ignore_index=True),
        revised=changes.revised + withdrawn.num_rows,
        revises_us=max(changes.revises_us, int(microseconds(withdrawn, "created").max())),
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
