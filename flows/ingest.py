"""Bars from a source, through the gate, into the offline store. Plain functions; ``flows.deployable`` wraps them."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime

import numpy as np
import pandas as pd
import pyarrow as pa

from feature_repo.catalog import BAR_FIELDS, Symbol, Timeframe
from feature_repo.gaps import Gaps, find_gaps
from feature_repo.sessions import on_grid
from feature_repo.stores.tables import SCHEMAS, OfflineTables
from flows.bars import closes
from flows.quality import Verdict, check_bars
from flows.revisions import NOISE, as_table, compare
from flows.sources import SourceBars


@dataclass(frozen=True, slots=True, kw_only=True)
class IngestReport:
    """What became of a source's bars.

    Attributes:
        read: bars of the source (a bid and its ask are one). Each of them is one of ``stored`` (new), ``revised`` (differs from what was stored
            for that bar), ``unchanged`` (already stored, or an exact repetition within the source) or
            ``quarantined``; in a stopped batch the good rows are ``held`` back.
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
    opens = frame["open_time"].to_numpy(dtype="datetime64[us]").astype(np.int64)
    verdict = check_bars(
        frame,
        symbol=symbol,
        timeframe=timeframe,
        now=now,
        on_grid=on_grid(symbol.session, timeframe, opens),
        max_bad_share=max_bad_share,
    )
    fresh = quarantine_rows(verdict, kind="bars", timeframe=timeframe, now=now)
    rejected = source.rejected.rename(columns={"raw": "row"}).assign(
        kind="bars", rules=source.rejected["rule"], created=now
    )
    quarantine = pd.concat([part for part in (rejected, fresh) if len(part)]) if len(rejected) or len(fresh) else fresh
    store_quarantine(tables, quarantine, symbol=symbol, timeframe=timeframe)
    good = verdict.good
    base = {
        "symbol": symbol.name,
        "timeframe": timeframe.name,
        "read": len(frame) + len(source.rejected) + source.notes.duplicates,
        "quarantined": len(quarantine),
        "quarantined_by_rule": dict(Counter(quarantine["rule"])) if len(quarantine) else {},
        "flat": int(_flat(frame).sum()),
        "zero_volume": int((frame["volume"] == 0).sum()),
        "out_of_order": source.notes.out_of_order,
    }
    gaps = find_gaps(
        np.unique(opens[~np.isin(opens, _opens(verdict.bad))]), session=symbol.session, timeframe=timeframe
    )
    if not verdict.passed:
        return IngestReport(**base, gaps=gaps, stopped=verdict.reason, held=len(frame) - verdict.bad_rows)
    first, last = good["open_time"].iloc[0], good["open_time"].iloc[-1]
    known = tables.read(
        "bars", timeframe=timeframe.name, symbols=[symbol.name], start=first, end=last, columns=BAR_FIELDS
    )
    changes = compare(good, known, values=BAR_FIELDS, now=now, tolerance=NOISE)
    rows = changes.rows.assign(event_timestamp=closes(changes.rows, timeframe))
    tables.append("bars", as_table(rows, SCHEMAS["bars"], symbol=symbol.name, timeframe=timeframe.name))
    return IngestReport(
        **base,
        stored=changes.stored,
        revised=changes.revised,
        unchanged=changes.unchanged + source.notes.duplicates,
        gaps=gaps,
        first_open=first.to_pydatetime(),
        last_open=last.to_pydatetime(),
    )


def quarantine_rows(verdict: Verdict, *, kind: str, timeframe: Timeframe, now: datetime) -> pd.DataFrame:
    """The rows that a gate rejected, as the quarantine table keeps them: with their rule and their values as JSON."""
    bad = verdict.bad
    if bad.empty:
        return pd.DataFrame(columns=["kind", "rule", "rules", "detail", "row", "open_time", "created"])
    about = {"rule", "rules", "detail", "file", "line"}
    values = bad[[name for name in bad.columns if name not in about]]
    kept = bad[[name for name in bad.columns if name in about]].copy()
    kept["row"] = [json.dumps(row, default=str) for row in values.to_dict("records")]
    kept["kind"] = kind
    kept["open_time"] = bad["open_time"]
    kept["event_timestamp"] = closes(bad, timeframe)
    kept["created"] = now
    return kept


def store_quarantine(tables: OfflineTables, rows: pd.DataFrame, *, symbol: Symbol, timeframe: Timeframe) -> int:
    """Appends rows that the quarantine does not hold yet; returns how many."""
    if rows.empty:
        return 0
    known = tables.read(
        "quarantine",
        timeframe=timeframe.name,
        symbols=[symbol.name],
        columns=["kind", "rule", "row"],
        all_revisions=True,
    )
    seen = set(zip(*(known[name].to_pylist() for name in ("kind", "rule", "row")), strict=True))
    is_new = [key not in seen for key in zip(rows["kind"], rows["rule"], rows["row"], strict=True)]
    rows = rows[is_new].assign(created=lambda r: pd.to_datetime(r["created"], utc=True))
    fresh: pa.Table = as_table(rows, SCHEMAS["quarantine"], symbol=symbol.name, timeframe=timeframe.name)
    tables.append("quarantine", fresh)
    return len(rows)


def _flat(frame: pd.DataFrame) -> pd.Series:
    return (frame["open"] == frame["high"]) & (frame["high"] == frame["low"]) & (frame["low"] == frame["close"])


def _opens(rows: pd.DataFrame) -> np.typing.NDArray[np.int64]:
    return rows["open_time"].to_numpy(dtype="datetime64[us]").astype(np.int64) if len(rows) else np.empty(0, np.int64)
