"""The quarantine: rows that a gate rejected or nobody could read, kept with the rule that they broke."""

from __future__ import annotations

import json
import math
from collections.abc import Hashable, Mapping
from datetime import datetime
from typing import Any

import pandas as pd
import pyarrow as pa

from feature_repo.catalog import Timeframe
from flows.compute.derive import closes

_ABOUT = {"rule", "rules", "detail", "file", "line"}


def quarantine_rows(bad: pd.DataFrame, *, kind: str, timeframe: Timeframe, now: datetime) -> pd.DataFrame:
    """Rows that a gate rejected, as the quarantine table keeps them: with their rule and their values as JSON."""
    if bad.empty:
        return bad
    values = bad[[name for name in bad.columns if name not in _ABOUT]]
    texts = [_json(row) for row in values.to_dict("records")]
    return bad.assign(kind=kind, row=texts, event_timestamp=closes(bad, timeframe), created=pd.Timestamp(now))


def unreadable_rows(rows: pd.DataFrame, now: datetime) -> pd.DataFrame:
    """The rows of a source that are not bars (``raw rule detail file line``), as the table keeps them: their text."""
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


def new_rejections(rows: pd.DataFrame, known: pa.Table) -> pd.DataFrame:
    """The rows of a quarantine that ``known`` (stored ones: ``kind rule row``) does not hold yet."""
    seen = set(zip(*(known[name].to_pylist() for name in ("kind", "rule", "row")), strict=True))
    is_new = [key not in seen for key in zip(rows["kind"], rows["rule"], rows["row"], strict=True)]
    return rows[is_new]
