"""Selection of rows: a filter by the arguments of a read, then order, then the newest revision of each bar."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from feature_repo.stores.schemas import TIME, WITHDRAWN


def where(
    timeframe: str | None,
    symbols: Sequence[str] | None,
    start: datetime | None,
    end: datetime | None,
    as_known_at: datetime | None,
    written_after: datetime | None,
) -> pc.Expression | None:
    """The filter for the arguments of ``OfflineTables.read``; None when every row matches."""
    parts: list[pc.Expression] = []
    if timeframe is not None:
        parts.append(pc.field("timeframe") == timeframe)
    if symbols is not None:
        parts.append(pc.field("symbol").isin(pa.array(symbols, pa.string())))
    if start is not None:
        parts.append(pc.field("open_time") >= pa.scalar(start, TIME))
    if end is not None:
        parts.append(pc.field("open_time") <= pa.scalar(end, TIME))
    if as_known_at is not None:
        parts.append(pc.field("created") <= pa.scalar(as_known_at, TIME))
    if written_after is not None:
        parts.append(pc.field("created") > pa.scalar(written_after, TIME))
    whole = None
    for part in parts:
        whole = part if whole is None else whole & part
    return whole


def in_order(rows: pa.Table, *, all_revisions: bool) -> pa.Table:
    """Ascending by symbol, timeframe, open time and created; the last of each bar unless all are asked for."""
    if rows.num_rows < 2 or _is_ascending(rows):
        return rows
    order = pc.sort_indices(rows, sort_keys=[(k, "ascending") for k in ("symbol", "timeframe", "open_time", "created")])
    rows = rows.take(order).combine_chunks()
    if all_revisions:
        return rows
    newest = np.ones(rows.num_rows, dtype=bool)
    same = np.ones(rows.num_rows - 1, dtype=bool)
    for key in ("symbol", "timeframe", "open_time"):
        column = rows[key].combine_chunks()
        if pa.types.is_string(column.type):
            column = column.dictionary_encode().indices
        codes = column.cast(pa.int64()).to_numpy(zero_copy_only=False)
        same &= codes[1:] == codes[:-1]
    newest[:-1] = ~same
    return rows if newest.all() else rows.filter(pa.array(newest))


def _is_ascending(rows: pa.Table) -> bool:
    """Whether rows of one symbol and timeframe are in order already, each bar once: the usual case, at little cost."""
    for key in ("symbol", "timeframe"):
        if pc.count_distinct(rows[key]).as_py() > 1:
            return False
    opens = rows["open_time"].combine_chunks().cast(pa.int64()).to_numpy(zero_copy_only=False)
    return bool((opens[1:] > opens[:-1]).all())


def not_withdrawn(rows: pa.Table) -> pa.Table:
    """The newest revisions that are not withdrawals."""
    return rows if rows[WITHDRAWN].null_count == rows.num_rows else rows.filter(rows[WITHDRAWN].is_null())


def of_span(rows: pa.Table, start: datetime | None, end: datetime | None) -> pa.Table:
    """The rows of one symbol and timeframe in a span, ends inclusive, ascending, the newest revision of each bar."""
    opens, created = (rows[name].combine_chunks().cast(pa.int64()).to_numpy() for name in ("open_time", "created"))
    if not (opens[1:] > opens[:-1]).all():
        order = np.lexsort((created, opens))
        order = order[np.append(opens[order][1:] != opens[order][:-1], True)[: len(order)]]
        rows, opens = rows.take(pa.array(order)), opens[order]
    first = 0 if start is None else int(np.searchsorted(opens, pa.scalar(start, TIME).value, side="left"))
    last = len(opens) if end is None else int(np.searchsorted(opens, pa.scalar(end, TIME).value, side="right"))
    return rows.slice(first, max(last - first, 0))
