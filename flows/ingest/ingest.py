"""Bars from a source, through the gate, into the offline store."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, replace
from datetime import datetime

import numpy as np
import numpy.typing as npt
import pandas as pd

from feature_repo.catalog import Timeframe
from feature_repo.gaps import Gaps, find_gaps
from feature_repo.series import Series
from feature_repo.sessions import is_open, on_grid
from feature_repo.stores.tables import OfflineTables
from flows.compute.derive import closes, opens_us
from flows.compute.rejected import quarantine_rows, unreadable_rows
from flows.errors import FixableError
from flows.ingest.refusal import explain
from flows.ingest.stored import overlap_problem, read_neighbours
from flows.ledger import Lease, Ledger
from flows.quality import check_bars
from flows.runs.record import at_stage, verdict_record
from flows.runs.store import Download, StoredBars, store_bars, store_quarantine
from flows.sources import SourceBars, SourceError

_WAIT_S = 90.0  # longer than the lease of a run that has died
_COUNTS = ("read", "stored", "revised", "unchanged", "quarantined")


@dataclass(frozen=True, slots=True, kw_only=True)
class IngestReport:
    """What became of a source's bars.

    Attributes:
        read: bars of the source; a bid and its ask are one. Each of them ends as one of ``stored`` (new), ``revised``
            (differs from what was stored for that bar), ``unchanged`` (already stored, or an exact repetition within
            the source), ``quarantined``, ``superseded`` (this very download was ingested before, and a newer one has
            corrected the bar since), ``withdrawn`` (the bar was taken back, and this is no other one), ``unfinished``
            (a bar that had not closed) or ``held`` back: the good rows of a stopped batch.
        quarantined_by_rule: rule -> rows.
        stopped: why nothing was stored; empty when something could be.
        refusal: of a stopped batch the rules that its rows break with three rows of each, and what may be done.
        flat, zero_volume, out_of_order, off_session: peculiarities that are no errors: bars whose four prices are one,
            bars with a volume of 0, rows that break the source's own order, bars of hours in which the market is
            closed.
        gaps: gaps between the source's bars, by the hours of the session.
    """

    symbol: str
    timeframe: str
    read: int
    stored: int = 0
    revised: int = 0
    unchanged: int = 0
    quarantined: int = 0
    superseded: int = 0
    withdrawn: int = 0
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


class SymbolBusyError(FixableError):
    """Another run works on the symbol and did not end in time; the message says which."""


def require_lease(lease: Lease, symbol: str) -> None:
    """Refuses to go on without the lease of a symbol.

    Raises:
        SymbolBusyError: another run holds it.
    """
    if symbol in lease.refused:
        holder = lease.refused[symbol].owner
        raise SymbolBusyError(f"{symbol}: {holder} is working on it; wait for its end, then run this again")


def ingest(
    source: SourceBars,
    *,
    series: Series,
    tables: OfflineTables,
    ledger: Ledger,
    now: datetime,
    max_bad_share: float,
    max_revised_share: float = 1.0,
    good_before: int = 0,
    final: bool | None = None,
    revise: bool = False,
    as_is: bool = False,
    restore: bool = False,
) -> IngestReport:
    """Checks a source's bars, quarantines the bad ones and stores what is new or has changed.

    Everything is decided before anything is written; quarantine and bars are one commit each, and running it again
    on the same source stores nothing. Of two sources that disagree about a bar the one that is ingested later wins;
    but one that was ingested before undoes nothing that came after it.

    Args:
        max_bad_share, good_before: as the gate takes them.
        max_revised_share: the largest share of the bars that are stored already which the source may change, 0 to 1,
            unless ``revise`` is set. A source whose prices differ throughout by one factor is another basis, whatever
            the share: it is stored with ``revise`` only, and only when it covers all that is stored.
        as_is: prices are taken in whatever unit they are, without a look at the bars beside them.
        restore: bars are stored even if they were withdrawn, or corrected since this very source was first ingested.
        final: whether the newest bar is finished. By default it is unless it has not closed by ``now``, or the source
            was written before it closed. A bar that has not closed is never taken.

    Raises:
        SymbolBusyError: another run holds the symbol.
        SourceError: the zone of the source's times must be stated first.
    """
    if source.notes.zone_question:
        raise SourceError(source.notes.zone_question, file=", ".join(source.notes.files))
    frame = source.frame.reset_index(drop=True)
    unfinished = unfinished_bars(frame, series.timeframe, now, source.written_at, final)
    frame = frame[~unfinished].reset_index(drop=True)
    opens = opens_us(frame)
    grid = on_grid(series.session, series.timeframe, opens)
    neighbours = read_neighbours(series, frame[grid], tables, ledger, digest=source.digest)
    overlap = neighbours.overlap(frame[grid], series)
    differs = overlap_problem(overlap, neighbours, series, max_share=max_revised_share, revise=revise)
    verdict = check_bars(
        frame,
        symbol=series.symbol,
        timeframe=series.timeframe,
        now=now,
        on_grid=grid,
        max_bad_share=max_bad_share,
        rejected=_bad_when_read(source, max_bad_share),
        good_before=good_before,
        around=None if as_is or differs else neighbours.around,
    )
    rejected = quarantine_rows(verdict.bad, kind="bars", timeframe=series.timeframe, now=now)
    quarantine = pd.concat([unreadable_rows(source.rejected, now), rejected])
    usable = opens[grid & ~frame.index.isin(verdict.bad.index)]
    report = IngestReport(
        symbol=series.symbol.name,
        timeframe=series.timeframe.name,
        read=len(frame) + int(unfinished.sum()) + len(source.rejected) + source.notes.duplicates,
        unchanged=source.notes.duplicates,
        quarantined=len(quarantine),
        unfinished=int(unfinished.sum()),
        quarantined_by_rule=dict(Counter(quarantine["rule"])),
        flat=int(_flat(frame).sum()),
        zero_volume=int((frame["volume"] == 0).sum()),
        out_of_order=source.notes.out_of_order,
        off_session=int((~is_open(series.session, usable, series.timeframe)).sum()),
        gaps=find_gaps(np.unique(usable), session=series.session, timeframe=series.timeframe),
    )
    if frame.empty and unfinished.any() and quarantine.empty:
        return report
    name, (symbol, timeframe) = ", ".join(source.notes.files), series.key
    parameters = {"symbol": symbol, "timeframe": timeframe, "source": name}
    with ledger.run("ingest", tables=tables, now=now, parameters=parameters) as run:
        if differs:  # before anything is written, the quarantine too
            run.problems.append(differs)
            run.counts.update(read=report.read)
            withheld = len(frame) + len(source.rejected)
            return replace(report, stopped=differs, held=withheld, quarantined=0, quarantined_by_rule={})
        with run.lease_of(symbol, wait_s=_WAIT_S) as lease:
            require_lease(lease, symbol)
            at_stage("quarantine")
            store_quarantine(tables, quarantine, series)
            if verdict.passed and verdict.good.empty:
                pass  # all of it was set aside
            elif verdict.passed:
                download = Download(digest=source.digest, name=name) if source.digest else None
                stored = store_bars(run.holding(lease), series, verdict.good, download, restore=restore)
                report = _stored(report, stored, verdict.good)
            else:
                report = replace(
                    report,
                    stopped=verdict.reason,
                    held=len(frame) - len(verdict.bad),
                    refusal=explain(verdict, quarantine, max_bad_share),
                )
        run.record(verdicts=[verdict_record(run, series, "bars", verdict)])
        run.counts.update((name, getattr(report, name)) for name in _COUNTS)
        if report.stopped:
            run.problems.append(report.stopped)
    return report


def _stored(report: IngestReport, stored: StoredBars, bars: pd.DataFrame) -> IngestReport:
    changes, (first, last) = stored.changes, bars["open_time"].iloc[[0, -1]]
    return replace(
        report,
        stored=changes.stored,
        revised=changes.revised,
        unchanged=report.unchanged + changes.unchanged,
        superseded=stored.superseded,
        withdrawn=stored.withdrawn,
        first_open=first.to_pydatetime(),
        last_open=last.to_pydatetime(),
    )


def _bad_when_read(source: SourceBars, max_bad_share: float) -> Mapping[str, int]:
    """The rejected rows that count against the bars, by rule.

    A bar is made of many ticks: rejected ones count by their share of all ticks, and against the bars beyond it only.
    """
    tolerated = source.notes.ticks and len(source.rejected) <= max_bad_share * source.notes.ticks
    return {} if tolerated else Counter(source.rejected["rule"])


def unfinished_bars(
    frame: pd.DataFrame, timeframe: Timeframe, now: datetime, written_at: datetime | None, final: bool | None = None
) -> npt.NDArray[np.bool_]:
    """The bars that had not closed: open by the clock, or the newest one, that was open when the source was written.

    A bar that opens in the future is not one of them: it is an error, and left to the gate.
    """
    opened, closed = frame["open_time"], closes(frame, timeframe)
    unfinished: npt.NDArray[np.bool_] = ((opened <= now) & (closed > now)).to_numpy()
    newest = (opened == opened.max()).to_numpy()
    if final is False:
        unfinished |= newest
    elif final is None and written_at is not None:
        unfinished |= newest & ((opened <= written_at) & (closed > written_at)).to_numpy()
    return unfinished


def _flat(frame: pd.DataFrame) -> pd.Series:
    return (frame["open"] == frame["high"]) & (frame["high"] == frame["low"]) & (frame["low"] == frame["close"])
