"""What becomes of quarantined rows when a person looks at them: released into the bars, or discarded for good.

A decision is data, not a memory of work: it is appended to the quarantine itself, as a copy of the row with another
kind (``bars-released``), so it is as durable as the row and outlives the ledger.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from datetime import UTC, datetime
from itertools import groupby
from operator import attrgetter

import numpy as np
import pandas as pd

from feature_repo.catalog import BAR_FIELDS
from feature_repo.series import Series, series
from feature_repo.sessions import on_grid
from feature_repo.stores.quarantine import Decision, QuarantinedRow, decided_kind
from feature_repo.stores.schemas import SCHEMAS
from feature_repo.stores.tables import OfflineTables
from flows.compute.changes import as_table
from flows.compute.derive import opens_us
from flows.ledger import Ledger
from flows.runs.store import store_bars


class NotReleasableError(ValueError):
    """A row that cannot become a bar, or a symbol that another run works on; the message says which and why."""


def release(rows: Sequence[QuarantinedRow], *, by: str, tables: OfflineTables, ledger: Ledger, now: datetime) -> int:
    """Stores quarantined bars as revisions written ``now``, and marks them released; the next run computes with them.

    Everything is checked before anything is written. Each symbol is written under its lease, in one run of the ledger.

    Returns:
        How many bars were new or differ from what was stored.

    Raises:
        NotReleasableError: a row is not a bar (unreadable, an indicator row, a price that is no number, a time at which
            no bar opens, two rows for one bar), or another run holds its symbol.
    """
    groups = [(series(*key), [*group]) for key, group in _by_series(rows)]
    bars = [_bars(each, group) for each, group in groups]
    stored = 0
    for (each, group), fresh in zip(groups, bars, strict=True):
        symbol, timeframe = each.key
        parameters = {"symbol": symbol, "timeframe": timeframe, "rows": len(fresh), "by": by}
        with ledger.run("release", tables=tables, now=now, parameters=parameters) as run:
            with run.lease_of(symbol) as lease:
                if lease.refused:
                    holder = lease.refused[symbol].owner
                    raise NotReleasableError(f"{holder} is working on {symbol}; try again when it is done")
                changes = store_bars(run.holding(lease), each, fresh).changes
                _mark(group, "released", by=by, tables=tables, now=now)
            run.counts.update(read=len(fresh), stored=changes.stored + changes.revised)
        stored += changes.stored + changes.revised
    return stored


def discard(rows: Sequence[QuarantinedRow], *, by: str, tables: OfflineTables, now: datetime) -> int:
    """Marks rows as rightly rejected. Returns how many."""
    for _, group in _by_series(rows):
        _mark([*group], "discarded", by=by, tables=tables, now=now)
    return len(rows)


def _by_series(rows: Sequence[QuarantinedRow]) -> Iterator[tuple[tuple[str, str], Iterator[QuarantinedRow]]]:
    key = attrgetter("symbol", "timeframe")
    return groupby(sorted(rows, key=key), key)


def _bars(series: Series, rows: Sequence[QuarantinedRow]) -> pd.DataFrame:
    """The rows as a bars table, ascending."""
    bars = []
    for row in rows:
        where = f"{series} {row.open_time or 'without a time'} ({row.rule})"
        if row.kind != "bars" or row.open_time is None:
            raise NotReleasableError(f"{where} is no bar: only bars with a readable time can be released")
        values = json.loads(row.row)
        try:
            prices = [float(values[field]) for field in BAR_FIELDS[:4]]
        except (KeyError, TypeError, ValueError):
            raise NotReleasableError(f"{where} lacks a price") from None
        if not np.isfinite(prices).all() or (min(prices) <= 0 and not series.symbol.may_be_below_zero):
            raise NotReleasableError(f"{where} has a price that is no positive number")
        volume = values.get("volume")
        bars.append([row.open_time, *prices, np.nan if volume is None else float(volume)])
    frame = pd.DataFrame(bars, columns=["open_time", *BAR_FIELDS]).sort_values("open_time", ignore_index=True)
    frame["open_time"] = frame["open_time"].astype("datetime64[us, UTC]")
    opens = opens_us(frame)
    if (np.diff(opens) == 0).any():
        raise NotReleasableError(f"two of the chosen rows are the same bar of {series}: release one of them")
    stray = ~on_grid(series.session, series.timeframe, opens)
    if stray.any():
        raise NotReleasableError(
            f"no {series.timeframe.name} bar of {series.symbol.name} opens at {frame['open_time'][stray].iloc[0]}: "
            "it fits no bar"
        )
    return frame


def _mark(rows: Sequence[QuarantinedRow], decision: Decision, *, by: str, tables: OfflineTables, now: datetime) -> None:
    """Appends the decision about each row to the quarantine."""
    frame = pd.DataFrame(
        {
            "open_time": pd.Series([row.open_time for row in rows], dtype="datetime64[us, UTC]"),
            "created": np.datetime64(now.astimezone(UTC).replace(tzinfo=None), "us"),
            "kind": [decided_kind(row.kind, decision) for row in rows],
            "rule": [row.rule for row in rows],
            "rules": [row.rule for row in rows],
            "detail": f"{decision} by {by}",
            "row": [row.row for row in rows],
            "file": [row.file for row in rows],
            "line": pd.array([row.line for row in rows], dtype="Int64"),
        }
    )
    schema = SCHEMAS["quarantine"]
    tables.append("quarantine", as_table(frame, schema, symbol=rows[0].symbol, timeframe=rows[0].timeframe))
