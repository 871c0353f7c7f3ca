"""Reading a range from the offline store. Blocking: the client calls it in a thread of its own."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from feature_repo.catalog import BAR_FIELDS
from feature_repo.stores.codec import FloatArray
from feature_repo.stores.tables import OfflineTables
from feature_repo.stores.window import column, microseconds
from fsclient.request import RangeRequest


@dataclass(frozen=True, slots=True, kw_only=True)
class RangeValues:
    """Columns of one symbol and timeframe, ascending.

    Attributes:
        opens_us: (n,) int64 open times, microseconds UTC.
        columns: field -> (n,) float64, NaN in warm-up.
    """

    opens_us: npt.NDArray[np.int64]
    columns: Mapping[str, FloatArray]


def read_range(tables: OfflineTables, request: RangeRequest) -> RangeValues:
    """The newest revision of every bar in the range, or what was known at ``request.as_known_at``."""
    bar_columns = [name for name in request.columns if name in BAR_FIELDS]
    others = [name for name in request.columns if name not in BAR_FIELDS]
    span = {
        "timeframe": request.timeframe.name,
        "symbols": [request.symbol.name],
        "start": request.start.to_pydatetime(),
        "end": request.end.to_pydatetime(),
        "as_known_at": request.as_known_at and request.as_known_at.to_pydatetime(),
    }
    parts: list[tuple[pa.Table, list[str]]] = []
    if bar_columns:
        parts.append((tables.read("bars", columns=bar_columns, **span), bar_columns))
    if others:
        parts.append((tables.read("indicators", columns=others, **span), others))
    opens = [microseconds(rows, "open_time") for rows, _ in parts]
    shared = opens[0]
    for at in opens[1:]:
        shared = np.intersect1d(shared, at, assume_unique=True)
    columns: dict[str, FloatArray] = {}
    for (rows, names), at in zip(parts, opens, strict=True):
        kept = np.searchsorted(at, shared) if len(at) != len(shared) else slice(None)
        columns |= {name: column(rows, name)[kept] for name in names}
    return RangeValues(opens_us=shared, columns={name: columns[name] for name in request.columns})
