"""The slow path: what the fast path leaves to the batch flow. First, late and corrected bars, and what a gate stops."""

from __future__ import annotations

import logging
from collections import defaultdict
from collections.abc import Mapping, Sequence

import numpy as np

from feature_repo import catalog
from feature_repo.catalog import WINDOW_BARS
from feature_repo.series import Series
from flows.compute.rejected import quarantine_rows
from flows.ingest.ingest import IngestReport, ingest
from flows.ledger import Run
from flows.materialize import materialize_symbols
from flows.runs.store import store_quarantine
from flows.settings import Settings
from flows.sources import SourceBars, SourceNotes
from flows.stream.bar import LiveBar, frame_of

_EACH_ON_ITS_OWN = 0.999
"""A live bar that is bad says nothing against the others: they come one by one, not in one file."""
_log = logging.getLogger("fstore")


def settle(run: Run, bars: Mapping[str, Sequence[LiveBar]], settings: Settings) -> dict[str, str]:
    """Stores bars as ``fstore ingest`` does and brings their symbols up to date as ``fstore materialize`` does.

    Args:
        bars: by symbol, in the order of their arrival: of two for one open time, the later one counts. A symbol without
            bars is only brought up to date.

    Returns:
        The symbols that have to wait, none of whose bars were stored, and why: another run works on them.
    """
    with run.ledger.lease([*bars], owner=run.owner) as lease:
        problems = {name: f"{holder.owner} is working on it" for name, holder in lease.refused.items()}
    free = [name for name in bars if name not in problems]
    for name in free:
        by_timeframe: dict[str, list[LiveBar]] = defaultdict(list)
        for bar in bars[name]:
            by_timeframe[bar.timeframe].append(bar)
        for timeframe, series_bars in by_timeframe.items():
            source = _source(series_bars)
            series = Series(symbol=catalog.symbol(name), timeframe=catalog.timeframe(timeframe))
            report = ingest(
                source,
                series=series,
                tables=run.tables,
                ledger=run.ledger,
                now=run.now,
                max_bad_share=_EACH_ON_ITS_OWN,
                good_before=WINDOW_BARS,
                final=True,
            )
            if report.stopped:
                _log.error("%s: bars refused: %s", series, report.stopped)
                _keep_refused(run, series, source, report)
    for outcome in materialize_symbols(run, free, list(catalog.TIMEFRAMES), settings):
        if outcome.problem:  # the bars are stored: the next run computes them
            _log.error("stopped %s %s: %s", outcome.symbol, outcome.timeframe, outcome.problem)
    return problems


def _keep_refused(run: Run, series: Series, source: SourceBars, report: IngestReport) -> None:
    """Quarantines bars that were refused as a whole, so that they do not hold up those that follow.

    Bars that broke a rule of the gate are in the quarantine already, and were all of the source.
    """
    if report.held:
        rows = source.frame.assign(rule="another_basis", rules="another_basis", detail=report.stopped)
        store_quarantine(
            run.tables, quarantine_rows(rows, kind="bars", timeframe=series.timeframe, now=run.now), series
        )


def _source(bars: Sequence[LiveBar]) -> SourceBars:
    latest = {bar.open_us: bar for bar in bars}
    frame = frame_of([latest[us] for us in sorted(latest)])
    frame = frame.assign(file="stream", line=np.arange(len(frame)) + 1)
    none = frame.head(0)[["file", "line", "open_time"]].assign(raw="", rule="", detail="")
    notes = SourceNotes(files=("stream",), rows_read=len(bars), out_of_order=0, duplicates=0, detected={})
    return SourceBars(frame=frame, rejected=none, notes=notes)
