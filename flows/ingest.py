"""Bars from a source, through the gate, into the offline store."""

from __future__ import annotations

import json
import math
from collections import Counter
from collections.abc import Hashable, Mapping
from dataclasses import dataclass, replace
from datetime import datetime
from typing import Any

import numpy as np
import pandas as pd

from feature_repo.catalog import BAR_FIELDS, Symbol, Timeframe
from feature_repo.gaps import Gaps, find_gaps
from feature_repo.sessions import on_grid
from feature_repo.stores.tables import SCHEMAS, OfflineTables
from flows.bars import closes, opens_us
from flows.quality import Verdict, check_bars
from flows.revisions import NOISE, as_table, compare
from flows.sources import SourceBars


@dataclass(frozen=True, slots=True, kw_only=True)
class IngestReport:
    """What became of a source's bars.

    Attributes:
        read: bars of the source; a bid and its ask are one. Each of them ends as one of ``stored`` (new), ``revised``
            (differs from what was stored for that bar), ``unchanged`` (already stored, or an exact repetition within
            the source), ``quarantined``, or ``held`` back: the good rows of a stopped batch.
        quarantined_by_rule: rule -> rows.
        stopped: why nothing was stored; empty when something could be.
        flat, zero_volume, out_of_order: peculiarities that are no errors: bars whose four prices are one, bars with
            a volume of 0, rows that break the source's own order.
        gaps: breaks between the source's bars, held against the session.
    """

    symbol: str
    timeframe: str
    read: int
    stored: int = 0
    revised: int = 0
    unchanged: int = 0
    quarantined: int = 0
    held: int = 0
    quarantined_by_rule: Mapping[str, int]
    stopped: str = ""
    flat: int = 0
    zero_volume: int = 0
    out_of_order: int = 0
    gaps: Gaps
    first_open: datetime | None = None
    last_open: datetime | None = None


def ingest(
    source: SourceBars,
    *,
    symbol: Symbol,
    timeframe: Timeframe,
    tables: OfflineTables,
    now: datetime,
    max_bad_share: float,
) -> IngestReport:
    """Checks a source's bars, quarantines the bad ones and stores what is new or has changed.

    Everything is decided before anything is written; quarantine and bars are one commit each, and running it again
    on the same source stores nothing.
    """
    frame = source.frame.reset_index(drop=True)
    opens = opens_us(frame)
    grid = on_grid(symbol.session, timeframe, opens)
    verdict = check_bars(frame, symbol=symbol, timeframe=timeframe, now=now, on_grid=grid, max_bad_share=max_bad_share)
    rejected = quarantine_rows(verdict, kind="bars", timeframe=timeframe, now=now)
    quarantine = pd.concat([_unreadable(source, now), rejected])
    usable = grid & ~frame.index.isin(verdict.bad.index)
    report = IngestReport(
        symbol=symbol.name,
        timeframe=timeframe.name,
        read=len(frame) + len(source.rejected) + source.notes.duplicates,
        unchanged=source.notes.duplicates,
        quarantined=len(quarantine),
        quarantined_by_rule=dict(Counter(quarantine["rule"])),
        flat=int(_flat(frame).sum()),
        zero_volume=int((frame["volume"] == 0).sum()),
        out_of_order=source.notes.out_of_order,
        gaps=find_gaps(np.unique(opens[usable]), session=symbol.session, timeframe=timeframe),
    )
    if not verdict.passed:
        store_quarantine(tables, quarantine, symbol=symbol, timeframe=timeframe)
        return replace(report, stopped=verdict.reason, held=len(frame) - verdict.bad_rows)
    first, last = verdict.good["open_time"].iloc[[0, -1]]
    known = tables.read("bars", timeframe=timeframe.name, symbols=[symbol.name], start=first, end=last, columns=_VALUES)
    # A bar that was derived so far becomes an ingested one, even if its prices stay the same.
    changes = compare(verdict.good.assign(source_bars=np.nan), known, values=_VALUES, now=now, tolerance=NOISE)
    rows = changes.rows.assign(event_timestamp=closes(changes.rows, timeframe))
    store_quarantine(tables, quarantine, symbol=symbol, timeframe=timeframe)
    tables.append("bars", as_table(rows, SCHEMAS["bars"], symbol=symbol.name, timeframe=timeframe.name))
    return replace(
        report,
        stored=changes.stored,
        revised=changes.revised,
        unchanged=report.unchanged + changes.unchanged,
        first_open=first.to_pydatetime(),
        last_open=last.to_pydatetime(),
    )


_VALUES = (*BAR_FIELDS, "source_bars")
_ABOUT = {"rule", "rules", "detail", "file", "line"}


def quarantine_rows(verdict: Verdict, *, kind: str, timeframe: Timeframe, now: datetime) -> pd.DataFrame:
    """The rows that a gate rejected, as the quarantine table keeps them: with their rule and their values as JSON."""
    bad = verdict.bad
    if bad.empty:
        return bad
    values = bad[[name for name in bad.columns if name not in _ABOUT]]
    texts = [_json(row) for row in values.to_dict("records")]
    return bad.assign(kind=kind, row=texts, event_timestamp=closes(bad, timeframe), created=pd.Timestamp(now))


def _unreadable(source: SourceBars, now: datetime) -> pd.DataFrame:
    """The rows of a source that are no bars, likewise; all that is known of them is their text."""
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


def _flat(frame: pd.DataFrame) -> pd.Series:
    return (frame["open"] == frame["high"]) & (frame["high"] == frame["low"]) & (frame["low"] == frame["close"])
