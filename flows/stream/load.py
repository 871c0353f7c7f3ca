"""Series from the offline store: at the start, after another run has written, and when one was evicted."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import datetime

import numpy as np

from feature_repo.catalog import BAR_FIELDS, Symbol, Timeframe, timeframe
from feature_repo.sessions import bar_close
from feature_repo.stores.delta.window import column, microseconds, read_windows
from feature_repo.stores.tables import OfflineTables
from flows.compute.increment import STATE_FIELDS
from flows.ledger import Ledger
from flows.runs.history import History, read_histories
from flows.runs.plan import Job, plan
from flows.stream.series import Series

Key = tuple[str, str]


def streamable(symbol: str, ledger: Ledger) -> dict[str, str | None]:
    """The timeframes a symbol has: timeframe -> the ingested one it is derived from, None when ingested."""
    return plan(tf for _, tf in ledger.series([symbol]))


def load(symbols: Sequence[Symbol], tables: OfflineTables, ledger: Ledger, now: datetime) -> dict[Key, Series]:
    """Every series of these symbols, which are up to date: the batch flow finds nothing to do for them.

    A series that holds a bar that has not closed (its source's clock ran ahead) is left out: it is the batch flow's.
    """
    names = [symbol.name for symbol in symbols]
    listed, marks = ledger.series(names), ledger.watermarks(names)
    sources: dict[Key, Timeframe | None] = {}
    jobs: list[Job] = []
    for symbol in symbols:
        for target, source in plan(tf for name, tf in listed if name == symbol.name).items():
            key = symbol.name, target
            if key not in marks:
                continue
            sources[key] = timeframe(source) if source else None
            jobs.append(
                Job(
                    symbol=symbol,
                    timeframe=timeframe(target),
                    source=None,
                    since_us=marks[key].event_us or None,
                    first_us=listed[symbol.name, source or target].first_us,
                    seen_us=marks[key].seen_us,
                )
            )
    windows = {
        tf.name: read_windows(tables, tf, [job.symbol.name for job in jobs if job.timeframe == tf], end=now)
        for tf in dict.fromkeys(job.timeframe for job in jobs)
    }
    found = {}
    for job, history in read_histories(jobs, tables):
        key = job.symbol.name, job.timeframe.name
        series = _series(job, history, sources[key], windows[job.timeframe.name], _settled(job, marks[key].event_us))
        if series.end_us + job.timeframe.microseconds <= int(now.timestamp() * 1e6):
            found[key] = series
    return found


def _settled(job: Job, event_us: int) -> int:
    """When the newest bar really ended: on a local day of 25 hours that is later than a timeframe after its open."""
    if not event_us:
        return 0
    newest = np.array([event_us - job.timeframe.microseconds])
    return int(bar_close(job.symbol.session, job.timeframe, newest)[0])


def _series(
    job: Job, history: History, source: Timeframe | None, windows: Mapping[str, object], settled_us: int
) -> Series:
    opens = microseconds(history.bars, "open_time").copy()
    state = np.full((len(STATE_FIELDS), len(opens)), np.nan)
    held = microseconds(history.state, "open_time")
    at = np.searchsorted(held, opens)
    known = at < len(held)
    known[known] = held[at[known]] == opens[known]
    for row, name in enumerate(STATE_FIELDS):
        state[row, known] = column(history.state, name)[at[known]]
    return Series(
        job.symbol,
        job.timeframe,
        source,
        opens_us=opens,
        bars=np.stack([column(history.bars, name) for name in BAR_FIELDS]),
        state=state,
        whole=history.whole,
        window=windows.get(job.symbol.name),  # type: ignore[arg-type]
        settled_us=settled_us,
    )
