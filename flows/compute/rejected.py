"""The quarantine: rows that a gate rejected or nobody could read, kept with the rule that they broke."""

from __future__ import annotations

import json
import math
from collections.abc import Hashable, Mapping
from datetime import datetime
from typing import Any

import pandas as pd

from feature_repo.catalog import Symbol, Timeframe
from feature_repo.stores.delta.schemas import SCHEMAS
from feature_repo.stores.tables import OfflineTables
from flows.compute.changes import as_table
from flows.compute.derive import closes
from flows.sources import SourceBars

_ABOUT = {"rule", "rules", "detail", "file", "line"}


def quarantine_rows(bad: pd.DataFrame, *, kind: str, timeframe: Timeframe, now: datetime) -> pd.DataFrame:
    """Rows that a gate rejected, as the quarantine table keeps them: with their rule and their values as JSON."""
    if bad.empty:
        return bad
    values = bad[[name for name in bad.columns if name not in _ABOUT]]
    texts = [_json(row) for row in values.to_dict("records")]
    return bad.assign(kind=kind, row=texts, event_timestamp=closes(bad, timeframe), created=pd.Timestamp(now))


def unreadable_rows(source: SourceBars, now: datetime) -> pd.DataFrame:
    """The rows of a source that are no bars, likewise: all that is known of them is their text."""
    rows = source.rejected
    texts = [_json({"text": text}) for text in rows["raw"]]
    return rows.assign(kind="bars", rules=rows["rule"], row=texts, created=pd.Timestamp(now))


def _json(row: Mapping[Hashable, Any]) -> str:
    return json.dumps({name: _plain(value) for name, value in row.items()})


def _plain(value: Any) -> Any:
    """A value as JSON can hold it, with all its digits: NaN as null, infinities and times as text."""
    if pd.isna(value):
        return None
    if isinstance(value, datetime):
        return value.isoformat()
    return str(value) if isinstance(value, float) and math.isinf(value) else value


def store_quarantine(tables: OfflineTables, rows: pd.DataFrame, *, symbol: Symbol, timeframe: Timeframe) -> None:
    """Appends the rows that the quarantine does not hold yet."""
    if rows.empty:
        return
    known = tables.read(
        "quarantine",
        timeframe=timeframe.name,
        symbols=[symbol.name],
        columns=["kind", "rule", "row"],
        all_revisions=True,
    )
    seen = set(zip(*(known[name].to_pylist() for name in ("kind", "rule", "row")), strict=True))
    is_new = [key not in seen for key in zip(rows["kind"], rows["rule"], rows["row"], strict=True)]
    tables.append(
        "quarantine", as_table(rows[is_new], SCHEMAS["quarantine"], symbol=symbol.name, timeframe=timeframe.name)
    )
