"""Stores and records bars, computed rows, and what a gate rejected."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd
import pyarrow as pa
import pyarrow.compute as pc

from feature_repo.agreement import same_number
from feature_repo.catalog import BAR_FIELDS
from feature_repo.freshness import bars_behind
from feature_repo.series import Series
from feature_repo.stores.schemas import REVISED, SCHEMAS, TIME, Revised
from feature_repo.stores.tables import OfflineTables
from flows.compute.changes import Changes, as_table, compare
from flows.compute.derive import closes
from flows.compute.job import Job
from flows.compute.rejected import new_rejections
from flows.compute.step import Computed, Stopped
from flows.ledger import Run
from flows.runs.outcome import Outcome
from flows.runs.plan import WITHDRAWN as WITHDRAWN_RECIPE
from flows.runs.plan import list_symbol
from flows.runs.record import at_stage, revision_record, verdict_record

_VALUES = (*BAR_FIELDS, "source_bars")


@dataclass(frozen=True, slots=True, kw_only=True)
class Download:
    """The download that bars came in: the digest of its content, by which it is recognised, and its name."""

    digest: str
    name: str


@dataclass(frozen=True, slots=True, kw_only=True)
class StoredBars:
    """What was done with a batch of bars.

    Attributes:
        superseded: how many were corrected since their download was first ingested.
        withdrawn: how many were withdrawn since, and are not brought back.
    """

    changes: Changes
    superseded: int
    withdrawn: int = 0


def store_bars(
    run: Run, series: Series, fresh: pd.DataFrame, download: Download | None = None, *, restore: bool = False
) -> StoredBars:
    """Stores ingested bars that are new or differ from the stored ones: one commit, under the run's lease.

    Args:
        fresh: good bars (``open_time`` ascending and unique, prices and volume), at least one. A bar that was derived
            so far becomes an ingested one, even if its prices stay the same.
        download: of bars that can come again: an earlier one undoes nothing that came after it.
        restore: store them even if they were withdrawn, or corrected since the download was first ingested. Without it
            a withdrawn bar stays so, unless another download has other values for it.

    Raises:
        FencedOutError: another run has written the symbol since; nothing was written.
        LeaseLost: the lease is another run's; nothing was written.
    """
    at_stage("read")
    (symbol, timeframe), tables = series.key, run.tables
    first, last = fresh["open_time"].iloc[[0, -1]]
    since = tables.version("bars")
    known = tables.read("bars", timeframe=timeframe, symbols=[symbol], start=first, end=last, columns=_VALUES)
    fresh, offered = fresh.assign(source_bars=np.nan, source=download.digest if download else None), len(fresh)
    before = run.ledger.ingested_at(symbol, timeframe, download.digest) if download else None
    withdrawn = 0
    if not restore:
        fresh = fresh[~_withdrawn(tables, series, fresh, download)]
        withdrawn = offered - len(fresh)
    if before is not None and not restore:
        corrected = known.filter(pc.field("created") > pa.scalar(before, TIME))["open_time"].to_pandas()
        fresh = fresh[~fresh["open_time"].isin(corrected)]
    changes = compare(fresh, known, values=_VALUES, same=same_number)
    created = run.lease.stamp(run.now)
    if before is None and download:  # before its bars: one that dies in between is no newer when it is repeated
        run.ledger.record_ingest(run.id, symbol, timeframe, download.digest, download.name, len(fresh), created)
    rows = changes.written_at(created)
    table = as_table(
        rows.assign(event_timestamp=closes(rows, series.timeframe)),
        SCHEMAS["bars"],
        symbol=symbol,
        timeframe=timeframe,
    )
    at_stage("store")
    tables.append("bars", table, fences={symbol: run.lease.token}, since=since)
    at_stage("note")
    list_symbol(symbol, tables, run.ledger)
    if len(rows):
        run.record(revisions=[revision_record(run, series, "bars", changes, created)])
    return StoredBars(changes=changes, superseded=offered - withdrawn - len(fresh), withdrawn=withdrawn)


def _withdrawn(
    tables: OfflineTables, series: Series, fresh: pd.DataFrame, download: Download | None
) -> npt.NDArray[np.bool_]:
    """Which bars were withdrawn: they came from this very download, or are what was withdrawn."""
    symbol, timeframe = series.key
    first, last = fresh["open_time"].iloc[[0, -1]]
    span: dict[str, Any] = {"timeframe": timeframe, "symbols": [symbol], "start": first, "end": last}
    keys = tables.read("bars", columns=["withdrawn"], all_revisions=True, **span)
    if keys["withdrawn"].null_count == keys.num_rows:
        return np.zeros(len(fresh), dtype=np.bool_)
    columns = [*BAR_FIELDS, "source", "withdrawn"]
    revisions = tables.read("bars", columns=columns, all_revisions=True, **span).to_pandas()
    newest = revisions.groupby("open_time").tail(1)
    withdrawals = newest[newest["withdrawn"].notna()].set_index("open_time")
    before = revisions[revisions["withdrawn"].isna()].groupby("open_time").tail(1).set_index("open_time")
    sources, values = withdrawals["source"].reindex(fresh["open_time"]), before.reindex(fresh["open_time"])
    again = (sources == download.digest).to_numpy() if download else np.zeros(len(fresh), dtype=np.bool_)
    same = np.ones(len(fresh), dtype=np.bool_)
    for name in BAR_FIELDS:
        same &= same_number(values[name].to_numpy(dtype=np.float64), fresh[name].to_numpy(dtype=np.float64))
    withdrawn: npt.NDArray[np.bool_] = fresh["open_time"].isin(withdrawals.index).to_numpy() & (again | same)
    return withdrawn


def withdraw_bars(run: Run, series: Series, bars: pd.DataFrame, *, since: int | None) -> None:
    """Stores revisions that take ingested bars back, or put what was stored before them in their place.

    Whatever depends on them is computed again by the next run, from all of history: the symbol's watermarks say so
    before anything is written.

    Args:
        bars: ``open_time`` ascending and unique, prices and volume, ``source``, and ``withdrawn``: the reason of those
            that are taken back, which have no values; null for the others.
        since: the version of the bars when they were read.

    Raises:
        FencedOutError: another run has written the symbol since; nothing was written.
        LeaseLost: the lease is another run's; nothing was written.
    """
    symbol, timeframe = series.key
    created = run.lease.stamp(run.now)
    marks = run.ledger.watermarks([symbol]).values()
    run.ledger.advance(run.lease, [replace(mark, event_us=0, seen_us=0, recipe=WITHDRAWN_RECIPE) for mark in marks])
    at_stage("store")
    rows = bars.assign(
        created=np.datetime64(created.replace(tzinfo=None), "us"), event_timestamp=closes(bars, series.timeframe)
    )
    table = as_table(rows, SCHEMAS["bars"], symbol=symbol, timeframe=timeframe)
    run.tables.append("bars", table, fences={symbol: run.lease.token}, since=since)
    at_stage("note")
    list_symbol(symbol, run.tables, run.ledger)
    changes = Changes(rows=bars, stored=0, revised=len(bars), unchanged=0, revises_us=0)
    run.record(revisions=[revision_record(run, series, "bars", changes, created)])


def store_computed(run: Run, computed: Sequence[Computed], *, since: Mapping[Revised, int | None]) -> datetime:
    """Appends what is new or changed, one commit per table: bars first, so that no indicator row is without its bar.

    Args:
        since: the tables' versions when they were read.

    Returns:
        The moment that the rows were written with, their ``created``.

    Raises:
        FencedOutError: another run has written one of the symbols since; what was not yet written is not.
        LeaseLost: the lease is another run's.
    """
    for result in computed:
        _store_rejected(run, result.job, result.quarantine)
    created = run.lease.stamp(run.now)
    fences = {result.job.symbol.name: run.lease.token for result in computed}
    for table in REVISED if computed else ():
        parts = [_changed(result, table, created) for result in computed]
        run.tables.append(table, pa.concat_tables(parts), fences=fences, since=since[table])
    return created


def record_computed(run: Run, computed: Sequence[Computed], created: datetime) -> None:
    """Records what the gates said of jobs and what the jobs wrote."""
    run.record(
        verdicts=[
            verdict_record(run, result.job.series, table, verdict)
            for result in computed
            for table, verdict in result.verdicts.items()
        ],
        revisions=[
            revision_record(run, result.job.series, table, changes, created)
            for result in computed
            for table in REVISED
            if len((changes := result.changes(table)).rows)
        ],
    )


def store_quarantine(tables: OfflineTables, rows: pd.DataFrame, series: Series) -> None:
    """Appends to the quarantine the rejected rows that it does not hold yet."""
    if rows.empty:
        return
    symbol, timeframe = series.key
    columns = ["kind", "rule", "row"]
    known = tables.read("quarantine", timeframe=timeframe, symbols=[symbol], columns=columns, all_revisions=True)
    fresh = new_rejections(rows, known)
    tables.append("quarantine", as_table(fresh, SCHEMAS["quarantine"], symbol=symbol, timeframe=timeframe))


def keep_stopped(run: Run, job: Job, stopped: Stopped) -> Outcome:
    """Quarantines what a gate rejected and records its verdict. Returns the outcome that reports it."""
    _store_rejected(run, job, stopped.quarantine)
    run.record(verdicts=[verdict_record(run, job.series, stopped.table, stopped.verdict)])
    return Outcome.stopped(job.series, str(stopped))


def outcome_of(
    run: Run,
    series: Series,
    result: Computed | None,
    *,
    close_us: int | None,
    published: bool,
    problem: str = "",
) -> Outcome:
    """What a run did for a series.

    Args:
        result: what was computed; None: there was nothing to do.
        close_us: close of the newest bar, microseconds since 1970-01-01 UTC.
    """
    return Outcome(
        symbol=series.symbol.name,
        timeframe=series.timeframe.name,
        bars=result.bars if result else 0,
        stored=result.feature_changes.stored if result else 0,
        revised=result.feature_changes.revised if result else 0,
        unchanged=result.feature_changes.unchanged if result else 0,
        quarantined=sum(len(rows) for rows in result.quarantine) if result else 0,
        published=published,
        as_of=datetime.fromtimestamp(close_us / 1e6, UTC) if close_us else None,
        age_bars=bars_behind(series.session, series.timeframe, close_us, run.now_us) if close_us else None,
        problem=problem,
    )


def _store_rejected(run: Run, job: Job, quarantine: Sequence[pd.DataFrame]) -> None:
    for rows in quarantine:
        store_quarantine(run.tables, rows, job.series)


def _changed(result: Computed, table: Revised, created: datetime) -> pa.Table:
    changes = result.changes(table)
    if changes.rows.empty:
        return SCHEMAS[table].empty_table().drop_columns(["month"])
    symbol, timeframe = result.job.series.key
    return as_table(changes.written_at(created), SCHEMAS[table], symbol=symbol, timeframe=timeframe)
