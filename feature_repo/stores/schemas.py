"""What the offline tables hold: their names and columns."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Literal

import pyarrow as pa
import pyarrow.compute as pc

from feature_repo.catalog import BAR_FIELDS, INDICATOR_FIELDS

TIME = pa.timestamp("us", tz="UTC")
TableName = Literal["bars", "indicators", "quarantine"]
Revised = Literal["bars", "indicators"]
REVISED: tuple[Revised, ...] = ("bars", "indicators")
"""The tables whose rows have revisions, in the order that they are written: no indicator row is without its bar."""

WITHDRAWN = "withdrawn"
"""Why a bar, or its indicators, was taken back by this revision, which has no values; null: it was not."""
_KEYS = [
    ("symbol", pa.string()),
    ("timeframe", pa.string()),
    ("month", pa.string()),  # of open_time, UTC, "2018-01"; the tables are partitioned by timeframe and month
    ("open_time", TIME),
    ("event_timestamp", TIME),  # when the bar closed
    ("created", TIME),  # when this revision was written
]
SCHEMAS: Mapping[TableName, pa.Schema] = {
    "bars": pa.schema(
        [
            *_KEYS,
            *((name, pa.float64()) for name in BAR_FIELDS),
            ("source_bars", pa.int32()),  # a derived bar: source bars it was made of; null: ingested as it is
            ("expected_bars", pa.int32()),
            ("source", pa.string()),  # digest of the download that an ingested bar came from; null: unknown
            (WITHDRAWN, pa.string()),
        ]
    ),
    "indicators": pa.schema([*_KEYS, *((name, pa.float64()) for name in INDICATOR_FIELDS), (WITHDRAWN, pa.string())]),
    "quarantine": pa.schema(
        [
            *_KEYS,  # open_time and event_timestamp are null where the row had no readable time
            ("kind", pa.string()),  # "bars" or "indicators": what the row would have been
            ("rule", pa.string()),  # the first rule that it broke
            ("rules", pa.string()),  # all of them
            ("detail", pa.string()),
            ("row", pa.string()),  # the row as JSON
            ("file", pa.string()),
            ("line", pa.int64()),
        ]
    ),
}


def unknown_as_null(rows: pa.Table) -> pa.Table:
    """Rows as they are stored: NaN of a float column becomes null, which every engine that reads Delta leaves out.

    NaN would be larger than any number to some of them (``rsi_14 > 70``) and spoil every average.
    """
    for position, field in enumerate(rows.schema):
        if field.type == pa.float64():
            values = rows[field.name]
            is_unknown = pc.is_nan(values)
            if pc.any(is_unknown).as_py():
                nothing = pa.scalar(None, pa.float64())
                rows = rows.set_column(position, field, pc.if_else(is_unknown, nothing, values))
    return rows


def null_as_unknown(rows: pa.Table) -> pa.Table:
    """Rows as they are read: null of a float column becomes NaN, which is what unknown is in arrays."""
    for position, field in enumerate(rows.schema):
        if field.type == pa.float64() and rows[field.name].null_count:
            rows = rows.set_column(position, field, pc.fill_null(rows[field.name], math.nan))
    return rows


def empty(table: TableName, columns: Sequence[str]) -> pa.Table:
    """No rows of these columns."""
    return pa.schema([SCHEMAS[table].field(name) for name in columns]).empty_table()
