"""Reading a range from the offline store. Blocking: the client calls it in a thread of its own."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from feature_repo.catalog import BAR_FIELDS, PRODUCER
from feature_repo.stores.redis.codec import FloatArray
from feature_repo.stores.tables import OfflineTables
from feature_repo.stores.window import column, microseconds
from fsclient.answers.values import RangeValues
from fsclient.questions.ranges import RangeRequest


def read_range(tables: OfflineTables, request: RangeRequest) -> RangeValues:
    """The newest revision of every bar in the range, or what was known at ``request.as_known_at``.

    Bars and indicators that are asked for together come for the bars that have both.
    """
    bar_columns = [name for name in request.columns if name in BAR_FIELDS]
    others = [name for name in request.columns if name not in BAR_FIELDS]
    span = _span(request)
    parts: list[tuple[pa.Table, list[str]]] = []
    if bar_columns:
        parts.append((tables.read_range("bars", columns=bar_columns, **span), bar_columns))
    if others:
        parts.append((tables.read_range("indicators", columns=others, **span), others))
    opens = [microseconds(rows, "open_time") for rows, _ in parts]
    shared = opens[0]
    for at in opens[1:]:
        shared = np.intersect1d(shared, at, assume_unique=True)
    columns: dict[str, FloatArray] = {}
    for (rows, names), at in zip(parts, opens, strict=True):
        kept = np.searchsorted(at, shared) if len(at) != len(shared) else slice(None)
        columns |= {name: column(rows, name)[kept] for name in names}
    unstored = dict.fromkeys(_never_stored(tables, request, columns), len(shared))
    return RangeValues(opens_us=shared, columns={name: columns[name] for name in request.columns}, unstored=unstored)


def _never_stored(tables: OfflineTables, request: RangeRequest, columns: Mapping[str, FloatArray]) -> list[str]:
    """The indicators without a value in the range that have none anywhere in the series, which no warm-up explains.

    The tables hold null for what is unknown and for what came to the catalog later; the whole series shows which it is.
    """
    empty = [n for n, values in columns.items() if n not in BAR_FIELDS and len(values) and np.isnan(values).all()]
    if not empty:
        return []
    whole = _span(request) | {"start": None, "end": None}
    rows = tables.read_range("indicators", columns=empty, **whole)
    never = [n for n in empty if rows.num_rows > PRODUCER[n].lookback and np.isnan(column(rows, n)).all()]
    needs_volume = [n for n in never if "volume" in PRODUCER[n].inputs]
    if needs_volume and np.isnan(column(tables.read_range("bars", columns=["volume"], **whole), "volume")).all():
        return [n for n in never if n not in needs_volume]
    return never


def read_opens(tables: OfflineTables, request: RangeRequest) -> npt.NDArray[np.int64]:
    """Open times of the stored bars in the range, ascending, microseconds UTC."""
    return microseconds(tables.read_range("bars", columns=[], **_span(request)), "open_time")


def _span(request: RangeRequest) -> dict[str, Any]:
    return {
        "timeframe": request.timeframe.name,
        "symbol": request.symbol.name,
        "start": request.start.to_pydatetime(),
        "end": request.end.to_pydatetime(),
        "as_known_at": request.as_known_at and request.as_known_at.to_pydatetime(),
    }
