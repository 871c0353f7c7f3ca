"""What is online and not yet offline, and how it gets there: one commit a table, then the ledger."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime

import numpy as np
import pandas as pd
import pyarrow as pa

from feature_repo.catalog import BAR_FIELDS, INDICATOR_FIELDS, Symbol, Timeframe
from feature_repo.catalog import symbol as known_symbol
from feature_repo.catalog import timeframe as known_timeframe
from feature_repo.sessions import on_grid
from feature_repo.stores.delta.schemas import REVISED, SCHEMAS, TIME, TableName
from feature_repo.stores.tables import OfflineTables
from flows.compute.changes import as_table
from flows.compute.derive import opens_us
from flows.compute.rejected import quarantine_rows, store_quarantine
from flows.ledger import Lease, Ledger, Revision, Watermark
from flows.quality import check_bars
from flows.runs.plan import DEFINITIONS_DIGEST
from flows.runs.record import at_stage, noted_verdict
from flows.stream.bar import LiveBar
from flows.stream.fast_path import Fresh
from flows.stream.load import Key
from flows.stream.reader import Entry

_ALL_BAD, _CONTEXT = 0.5, 10**9  # each bar is judged by itself; none stops the others
UNKNOWN = "unknown"
"""What the quarantine calls the symbol and timeframe of an entry that names none of the catalog's."""


@dataclass(slots=True, kw_only=True)
class Batch:
    """Work between two commits.

    Attributes:
        entries: what may be acknowledged once all of this is stored.
        fresh: new bars, published already.
        bad: bars that the gate rejects.
        short: derived bars that lack source bars, by series.
        unreadable: entries that are no bars: rule, why, and their text.
        touched: series that are up to date with these bars, new ones of their own or not: key -> (close of their
            newest bar or 0, the newest source revision that is in them).
        done: what of it is stored.
    """

    entries: list[Entry] = field(default_factory=list)
    fresh: list[Fresh] = field(default_factory=list)
    bad: list[LiveBar] = field(default_factory=list)
    short: list[tuple[Key, pd.DataFrame]] = field(default_factory=list)
    unreadable: list[tuple[str, str, str]] = field(default_factory=list)
    touched: dict[Key, tuple[int, int]] = field(default_factory=dict)
    done: list[str] = field(default_factory=list)

    @property
    def bars(self) -> int:
        """How many rows wait."""
        return sum(len(one.opens_us) for one in self.fresh)

    def __bool__(self) -> bool:
        return bool(self.entries)


def store(
    batch: Batch,
    leases: Mapping[str, Lease],
    tables: OfflineTables,
    ledger: Ledger,
    versions: dict[TableName, int | None],
    *,
    run: str,
    now: datetime,
) -> None:
    """Makes a batch durable. Called again after a failure it goes on with what is not done yet.

    Args:
        versions: the tables' versions at which the symbols were known to be ours; moved along.

    Raises:
        FencedOutError: another run has written one of the symbols since.
        LeaseLost: another run holds one.
    """
    steps: dict[str, Callable[[], None]] = {
        "quarantine": lambda: _quarantine(batch, tables, ledger, run, now),
        "bars": lambda: _append(batch, "bars", leases, tables, versions),
        "indicators": lambda: _append(batch, "indicators", leases, tables, versions),
        "note": lambda: _note(batch, leases, ledger, run),
    }
    for name, step in steps.items():
        if name not in batch.done:
            at_stage(f"stream {name}")
            step()
            batch.done.append(name)
    at_stage("stream stored")


def _append(
    batch: Batch,
    table: TableName,
    leases: Mapping[str, Lease],
    tables: OfflineTables,
    versions: dict[TableName, int | None],
) -> None:
    if not batch.fresh:
        return
    fences = {one.symbol.name: leases[one.symbol.name].token for one in batch.fresh}
    tables.append(table, rows_of(batch.fresh, table), fences=fences, since=versions[table])
    versions[table] = tables.version(table)


def rows_of(fresh: Sequence[Fresh], table: TableName) -> pa.Table:
    """New bars as rows of a table, without ``month``."""
    sizes = [len(one.opens_us) for one in fresh]

    def each(values: Iterable[object]) -> pa.Array:
        found = pa.array(list(values))
        return found.take(pa.array(np.repeat(np.arange(len(fresh)), sizes)))

    opens = np.concatenate([one.opens_us for one in fresh])
    steps = np.repeat([one.timeframe.microseconds for one in fresh], sizes)
    columns = {
        "symbol": each(one.symbol.name for one in fresh),
        "timeframe": each(one.timeframe.name for one in fresh),
        "open_time": pa.array(opens).cast(TIME),
        "event_timestamp": pa.array(opens + steps).cast(TIME),
        "created": each(one.created_us for one in fresh).cast(TIME),
    }
    names, values = (
        (BAR_FIELDS, np.concatenate([one.bars for one in fresh], axis=1))
        if table == "bars"
        else (INDICATOR_FIELDS, np.concatenate([one.features for one in fresh], axis=1))
    )
    columns |= {name: pa.array(row) for name, row in zip(names, values, strict=True)}
    if table == "bars":
        none = np.zeros((2, max(sizes)), np.int64)
        made = [none[:, :n] if one.made_of is None else one.made_of for one, n in zip(fresh, sizes, strict=True)]
        ingested = np.repeat([one.made_of is None for one in fresh], sizes)
        for name, row in zip(("source_bars", "expected_bars"), np.concatenate(made, axis=1), strict=True):
            columns[name] = pa.array(row, pa.int32(), mask=ingested)
    return pa.table(columns)


def _quarantine(batch: Batch, tables: OfflineTables, ledger: Ledger, run: str, moment: datetime) -> None:
    verdicts = []
    series: dict[Key, list[LiveBar]] = defaultdict(list)
    for bar in batch.bad:
        series[bar.symbol, bar.timeframe].append(bar)
    for (name, tf), bars in series.items():
        symbol, timeframe = known_symbol(name), known_timeframe(tf)
        frame = frame_of(bars)
        grid = on_grid(symbol.session, timeframe, opens_us(frame))
        # Great-expectations has its say too, and the reasons are told as they are for a file.
        verdict = check_bars(
            frame, symbol=symbol, timeframe=timeframe, now=moment, on_grid=grid, max_bad_share=_ALL_BAD,
            good_before=_CONTEXT,
        )  # fmt: skip
        rejected = quarantine_rows(verdict.bad, kind="bars", timeframe=timeframe, now=moment)
        store_quarantine(tables, rejected, symbol=symbol, timeframe=timeframe)
        verdicts.append(noted_verdict(verdict, "bars", run, symbol, timeframe, moment))
    for (name, tf), rows in batch.short:
        symbol, timeframe = known_symbol(name), known_timeframe(tf)
        rejected = quarantine_rows(rows, kind="bars", timeframe=timeframe, now=moment)
        store_quarantine(tables, rejected, symbol=symbol, timeframe=timeframe)
    if batch.unreadable:
        rules, details, texts = zip(*batch.unreadable, strict=True)
        rows = pd.DataFrame({"rule": rules, "rules": rules, "detail": details, "row": texts})
        rows = rows.assign(kind="bars", created=pd.Timestamp(moment), file="stream")
        tables.append("quarantine", as_table(rows, SCHEMAS["quarantine"], symbol=UNKNOWN, timeframe=UNKNOWN))
    if verdicts:
        ledger.record(verdicts=verdicts)


def _note(batch: Batch, leases: Mapping[str, Lease], ledger: Ledger, run: str) -> None:
    listed = ledger.series(sorted({name for name, _ in batch.touched}))
    grown = []
    marks: dict[int, list[tuple[Lease, Watermark]]] = defaultdict(list)
    for (name, tf), (event_us, seen_us) in batch.touched.items():
        if was := listed.get((name, tf)):
            last_us = max(was.last_us, event_us - known_timeframe(tf).microseconds)
            grown.append(replace(was, last_us=last_us, listed_us=max(was.listed_us, seen_us)))
        lease = leases[name]
        marks[lease.token].append(
            (lease, Watermark(symbol=name, timeframe=tf, event_us=event_us, seen_us=seen_us, recipe=DEFINITIONS_DIGEST))
        )
    for rows in marks.values():
        ledger.advance(rows[0][0], [mark for _, mark in rows])
    ledger.list_series(grown)
    if batch.fresh:
        ledger.record(revisions=[r for table in REVISED for r in _revisions(batch.fresh, table, run)])


def _revisions(fresh: Sequence[Fresh], table: TableName, run: str) -> Iterable[Revision]:
    """What was written, one event a series."""
    series: dict[tuple[Symbol, Timeframe], list[Fresh]] = defaultdict(list)
    for one in fresh:
        series[one.symbol, one.timeframe].append(one)
    for (symbol, timeframe), parts in series.items():
        yield Revision(
            run=run, symbol=symbol.name, timeframe=timeframe.name, table=table,  # type: ignore[arg-type]
            first_open_us=int(parts[0].opens_us[0]), last_open_us=int(parts[-1].opens_us[-1]),
            stored=sum(len(p.opens_us) for p in parts), revised=0, at_us=parts[-1].created_us,
        )  # fmt: skip


def frame_of(bars: Sequence[LiveBar]) -> pd.DataFrame:
    """Bars as a bars table, in the order given."""
    opens = np.array([bar.open_us for bar in bars], np.int64)
    frame = pd.DataFrame([bar.values for bar in bars], columns=list(BAR_FIELDS), dtype=np.float64)
    frame.insert(0, "open_time", pd.DatetimeIndex(opens.view("datetime64[us]")).tz_localize("UTC"))
    return frame


def live_bars(frame: pd.DataFrame, symbol: str, timeframe: str) -> list[LiveBar]:
    """A bars table as live bars, the other way."""
    rows = frame[list(BAR_FIELDS)].to_numpy().tolist()
    return [
        LiveBar(symbol=symbol, timeframe=timeframe, open_us=us, **dict(zip(BAR_FIELDS, row, strict=True)))
        for us, row in zip(opens_us(frame).tolist(), rows, strict=True)
    ]
