"""What becomes of what was computed, and of what a gate stopped: it is stored, noted and told."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import UTC, datetime

import pandas as pd
import pyarrow as pa

from feature_repo.catalog import Symbol, Timeframe
from feature_repo.freshness import bars_behind
from feature_repo.stores.delta.schemas import REVISED, SCHEMAS, Revised
from feature_repo.stores.tables import OfflineTables
from flows.compute.changes import Changes, as_table
from flows.compute.rejected import store_quarantine
from flows.compute.step import Computed, Stopped
from flows.ledger import Lease, Ledger, Revision
from flows.ledger import Verdict as NotedVerdict
from flows.runs.outcome import Outcome
from flows.runs.plan import Job
from flows.runs.record import Kind, noted_revision, noted_verdict


def store(
    computed: Sequence[Computed],
    tables: OfflineTables,
    lease: Lease,
    *,
    since: Mapping[Revised, int | None],
    now: datetime,
) -> datetime:
    """Appends what is new or changed, one commit a table: bars first, so that no indicator row is without its bar.

    Args:
        since: the tables' versions when they were read.

    Returns:
        The moment that the rows were written with, their ``created``.

    Raises:
        FencedOutError: another run has written one of the symbols since; what was not yet written is not.
        LeaseLost: the lease is another run's.
    """
    for one in computed:
        store_rejected(one.quarantine, one.job, tables)
    created = lease.stamp(now)
    fences = {one.job.symbol.name: lease.token for one in computed}
    for table in REVISED if computed else ():
        parts = [_changed(one, table, created) for one in computed]
        tables.append(table, pa.concat_tables(parts), fences=fences, since=since[table])
    return created


def store_rejected(quarantine: Sequence[pd.DataFrame], job: Job, tables: OfflineTables) -> None:
    """Appends what a job's gates rejected to the quarantine."""
    for rows in quarantine:
        store_quarantine(tables, rows, symbol=job.symbol, timeframe=job.timeframe)


def noted(one: Computed, run: str, now: datetime, created: datetime) -> tuple[list[NotedVerdict], list[Revision]]:
    """What a job's gates said and what it wrote, as the ledger keeps them."""
    job = one.job
    verdicts = [noted_verdict(v, kind, run, job.symbol, job.timeframe, now) for kind, v in one.verdicts.items()]
    written: tuple[tuple[Kind, Changes], ...] = (("bars", one.bar_changes), ("indicators", one.feature_changes))
    revisions = [
        noted_revision(changes, table, run, job.symbol, job.timeframe, created)
        for table, changes in written
        if len(changes.rows)
    ]
    return verdicts, revisions


def _changed(one: Computed, table: Revised, created: datetime) -> pa.Table:
    changes = one.bar_changes if table == "bars" else one.feature_changes
    if changes.rows.empty:
        return SCHEMAS[table].empty_table().drop_columns(["month"])
    rows = changes.written_at(created)
    return as_table(rows, SCHEMAS[table], symbol=one.job.symbol.name, timeframe=one.job.timeframe.name)


def keep_stopped(
    stopped: Stopped, job: Job, tables: OfflineTables, ledger: Ledger, *, run: str, now: datetime
) -> Outcome:
    """Keeps what a gate rejected and notes what it said. Returns the outcome that tells so."""
    store_rejected(stopped.quarantine, job, tables)
    if run:
        said = noted_verdict(stopped.verdict, stopped.kind, run, job.symbol, job.timeframe, now)
        ledger.record(verdicts=[said])
    return Outcome(symbol=job.symbol.name, timeframe=job.timeframe.name, problem=str(stopped))


def outcome_of(
    symbol: Symbol,
    timeframe: Timeframe,
    one: Computed | None,
    *,
    close_us: int | None,
    published: bool,
    now: datetime,
    problem: str = "",
) -> Outcome:
    """What a run tells of a symbol and timeframe.

    Args:
        one: what was computed; None: there was nothing to do.
        close_us: close of the newest bar, microseconds since 1970-01-01 UTC.
    """
    return Outcome(
        symbol=symbol.name,
        timeframe=timeframe.name,
        bars=one.bars if one else 0,
        stored=one.feature_changes.stored if one else 0,
        revised=one.feature_changes.revised if one else 0,
        unchanged=one.feature_changes.unchanged if one else 0,
        quarantined=sum(len(rows) for rows in one.quarantine) if one else 0,
        published=published,
        as_of=datetime.fromtimestamp(close_us / 1e6, UTC) if close_us else None,
        age_bars=bars_behind(symbol.session, timeframe, close_us, int(now.timestamp() * 1e6)) if close_us else None,
        problem=problem,
    )
