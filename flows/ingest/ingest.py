"""Bars from a source, through the gate, into the offline store."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from datetime import datetime

import numpy as np
import numpy.typing as npt
import pandas as pd
import pyarrow as pa
import pyarrow.compute as pc

from feature_repo.agreement import same_number
from feature_repo.catalog import BAR_FIELDS, Symbol, Timeframe
from feature_repo.gaps import Gaps, find_gaps
from feature_repo.sessions import is_open, on_grid
from feature_repo.stores.delta.schemas import SCHEMAS, TIME
from feature_repo.stores.tables import OfflineTables
from flows.compute.changes import as_table, compare
from flows.compute.derive import closes, opens_us
from flows.compute.rejected import quarantine_rows, store_quarantine, unreadable_rows
from flows.errors import MendableError
from flows.ingest.refusal import explain
from flows.ledger import Lease, Ledger
from flows.quality import Verdict, check_bars
from flows.runs.plan import list_symbol
from flows.runs.record import at_stage, noted_revision, noted_verdict, owner
from flows.sources import SourceBars, SourceError

_WAIT_S = 90.0  # longer than the lease of a run that has died
_PAUSE_S = 0.5


@dataclass(frozen=True, slots=True, kw_only=True)
class IngestReport:
    """What became of a source's bars.

    Attributes:
        read: bars of the source; a bid and its ask are one. Each of them ends as one of ``stored`` (new), ``revised``
            (differs from what was stored for that bar), ``unchanged`` (already stored, or an exact repetition within
            the source), ``quarantined``, ``superseded`` (this very download was ingested before, and a newer one has
            corrected the bar since), ``unfinished`` (a bar that had not closed) or ``held`` back: the good rows of a
            stopped batch.
        quarantined_by_rule: rule -> rows.
        stopped: why nothing was stored; empty when something could be.
        refusal: of a stopped batch the rules that its rows break with three rows of each, and what may be done.
        flat, zero_volume, out_of_order, off_session: peculiarities that are no errors: bars whose four prices are one,
            bars with a volume of 0, rows that break the source's own order, bars of hours in which the market is
            closed.
        gaps: breaks between the source's bars, held against the session.
    """

    symbol: str
    timeframe: str
    read: int
    stored: int = 0
    revised: int = 0
    unchanged: int = 0
    quarantined: int = 0
    superseded: int = 0
    unfinished: int = 0
    held: int = 0
    quarantined_by_rule: Mapping[str, int]
    stopped: str = ""
    refusal: tuple[str, ...] = ()
    flat: int = 0
    zero_volume: int = 0
    out_of_order: int = 0
    off_session: int = 0
    gaps: Gaps
    first_open: datetime | None = None
    last_open: datetime | None = None


class SymbolBusyError(MendableError):
    """Another run works on the symbol and did not come to an end; the message says which."""


def ingest(
    source: SourceBars,
    *,
    symbol: Symbol,
    timeframe: Timeframe,
    tables: OfflineTables,
    ledger: Ledger,
    now: datetime,
    max_bad_share: float,
    final: bool | None = None,
) -> IngestReport:
    """Checks a source's bars, quarantines the bad ones and stores what is new or has changed.

    Everything is decided before anything is written; quarantine and bars are one commit each, and running it again
    on the same source stores nothing. Of two sources that disagree about a bar the one that is ingested later wins;
    but one that was ingested before undoes nothing that came after it.

    Args:
        final: whether the newest bar is finished. When not given, it is not if it has not closed by ``now``, or if
            the source was written down before it closed. A bar that has not closed is never taken.

    Raises:
        SymbolBusyError: another run holds the symbol.
        SourceError: the zone of the source's times must be stated first.
    """
    if source.notes.zone_question:
        raise SourceError(source.notes.zone_question, file=_name(source))
    frame = source.frame.reset_index(drop=True)
    unfinished = _unfinished(frame, timeframe, now, source.written_at, final)
    frame = frame[~unfinished].reset_index(drop=True)
    opens = opens_us(frame)
    grid = on_grid(symbol.session, timeframe, opens)
    verdict = check_bars(
        frame,
        symbol=symbol,
        timeframe=timeframe,
        now=now,
        on_grid=grid,
        max_bad_share=max_bad_share,
        rejected=_bad_when_read(source, max_bad_share),
    )
    rejected = quarantine_rows(verdict.bad, kind="bars", timeframe=timeframe, now=now)
    quarantine = pd.concat([unreadable_rows(source, now), rejected])
    usable = opens[grid & ~frame.index.isin(verdict.bad.index)]
    report = IngestReport(
        symbol=symbol.name,
        timeframe=timeframe.name,
        read=len(frame) + int(unfinished.sum()) + len(source.rejected) + source.notes.duplicates,
        unchanged=source.notes.duplicates,
        quarantined=len(quarantine),
        unfinished=int(unfinished.sum()),
        quarantined_by_rule=dict(Counter(quarantine["rule"])),
        flat=int(_flat(frame).sum()),
        zero_volume=int((frame["volume"] == 0).sum()),
        out_of_order=source.notes.out_of_order,
        off_session=int((~is_open(symbol.session, usable, timeframe)).sum()),
        gaps=find_gaps(np.unique(usable), session=symbol.session, timeframe=timeframe),
    )
    if frame.empty and unfinished.any() and quarantine.empty:
        return report
    run = ledger.begin(
        "ingest", parameters={"symbol": symbol.name, "timeframe": timeframe.name, "source": _name(source)}
    )
    try:
        with _lease(ledger, symbol, run) as lease:
            at_stage("quarantine")
            store_quarantine(tables, quarantine, symbol=symbol, timeframe=timeframe)
            if verdict.passed:
                report = _store(report, verdict, source, symbol, timeframe, tables, ledger, lease, run, now)
            else:
                report = replace(report, stopped=verdict.reason, held=len(frame) - len(verdict.bad),
                                 refusal=explain(verdict, quarantine, max_bad_share))  # fmt: skip
        ledger.record(verdicts=[noted_verdict(verdict, "bars", run, symbol, timeframe, now)])
    except BaseException as error:
        ledger.end(run, state="failed", counts={}, problems=[f"{type(error).__name__}: {error}"])
        raise
    counts = {name: getattr(report, name) for name in ("read", "stored", "revised", "unchanged", "quarantined")}
    problems = [report.stopped] if report.stopped else []
    ledger.end(run, state="stopped" if problems else "completed", counts=counts, problems=problems)
    return report


def _store(
    report: IngestReport,
    verdict: Verdict,
    source: SourceBars,
    symbol: Symbol,
    timeframe: Timeframe,
    tables: OfflineTables,
    ledger: Ledger,
    lease: Lease,
    run: str,
    now: datetime,
) -> IngestReport:
    at_stage("read")
    first, last = verdict.good["open_time"].iloc[[0, -1]]
    since = tables.version("bars")
    known = tables.read("bars", timeframe=timeframe.name, symbols=[symbol.name], start=first, end=last, columns=_VALUES)
    # A bar that was derived so far becomes an ingested one, even if its prices stay the same.
    fresh = verdict.good.assign(source_bars=np.nan)
    before = ledger.ingested_at(symbol.name, timeframe.name, source.digest) if source.digest else None
    if before is not None:
        corrected = known.filter(pc.field("created") > pa.scalar(before, TIME))["open_time"].to_pandas()
        fresh = fresh[~fresh["open_time"].isin(corrected)]
    changes = compare(fresh, known, values=_VALUES, same=same_number)
    created = lease.stamp(now)
    rows = changes.written_at(created)
    rows = rows.assign(event_timestamp=closes(rows, timeframe))
    if before is None and source.digest:  # before its bars: one that dies in between is no newer when it is repeated
        ledger.record_ingest(run, symbol.name, timeframe.name, source.digest, _name(source), len(fresh), created)
    at_stage("store")
    tables.append(
        "bars",
        as_table(rows, SCHEMAS["bars"], symbol=symbol.name, timeframe=timeframe.name),
        fences={symbol.name: lease.token},
        since=since,
    )
    at_stage("note")
    list_symbol(symbol.name, tables, ledger)
    if len(rows):
        ledger.record(revisions=[noted_revision(changes, "bars", run, symbol, timeframe, created)])
    return replace(
        report,
        stored=changes.stored,
        revised=changes.revised,
        unchanged=report.unchanged + changes.unchanged,
        superseded=len(verdict.good) - len(fresh),
        first_open=first.to_pydatetime(),
        last_open=last.to_pydatetime(),
    )


def _bad_when_read(source: SourceBars, max_bad_share: float) -> Mapping[str, int]:
    """The rejected rows that count against the bars, by rule.

    A bar is made of many ticks: rejected ones count by their share of all ticks, and against the bars beyond it only.
    """
    few = source.notes.ticks and len(source.rejected) <= max_bad_share * source.notes.ticks
    return {} if few else Counter(source.rejected["rule"])


def _unfinished(
    frame: pd.DataFrame, timeframe: Timeframe, now: datetime, written_at: datetime | None, final: bool | None
) -> npt.NDArray[np.bool_]:
    """The bars that had not closed: open by the clock, or the newest one, that was open when the source was written.

    A bar that opens in the future is none of them, it is an error, and left to the gate.
    """
    opened, closed = frame["open_time"], closes(frame, timeframe)
    found: npt.NDArray[np.bool_] = ((opened <= now) & (closed > now)).to_numpy()
    newest = (opened == opened.max()).to_numpy()
    if final is False:
        found |= newest
    elif final is None and written_at is not None:
        found |= newest & ((opened <= written_at) & (closed > written_at)).to_numpy()
    return found


def _lease(ledger: Ledger, symbol: Symbol, run: str, sleep: Callable[[float], None] = time.sleep) -> Lease:
    """A lease of the symbol, as soon as whoever works on it is done."""
    for _ in range(int(_WAIT_S / _PAUSE_S)):
        lease = ledger.lease([symbol.name], owner=owner(run))
        if lease.symbols:
            return lease
        sleep(_PAUSE_S)
    holder = lease.refused[symbol.name]
    raise SymbolBusyError(f"{symbol.name}: {holder.owner} is working on it; wait for its end, then run this again")


def _name(source: SourceBars) -> str:
    return ", ".join(source.notes.files)


_VALUES = (*BAR_FIELDS, "source_bars")


def _flat(frame: pd.DataFrame) -> pd.Series:
    return (frame["open"] == frame["high"]) & (frame["high"] == frame["low"]) & (frame["low"] == frame["close"])
