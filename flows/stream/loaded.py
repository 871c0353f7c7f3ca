"""The symbols a session works on: leased, up to date, and their series in memory exactly as they are stored."""

from __future__ import annotations

import logging
from collections import OrderedDict
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import replace
from datetime import datetime

import numpy as np
import pyarrow.compute as pc

from feature_repo import catalog
from feature_repo.catalog import BAR_FIELDS, TIMEFRAMES, Symbol, Timeframe, timeframe
from feature_repo.moments import to_datetime
from feature_repo.series import Series
from feature_repo.sessions import bar_close
from feature_repo.stores.tables import OfflineTables
from feature_repo.stores.window import Window, column, microseconds, read_windows
from flows.compute.increment import STATE_FIELDS
from flows.compute.job import History, Job
from flows.ledger import Holder, Ledger, Run
from flows.materialize import materialize_symbols
from flows.runs.history import read_histories
from flows.runs.plan import pending, plan
from flows.settings import Settings
from flows.stream.fast_path import LiveSeries
from flows.stream.leases import StreamLeases
from flows.stream.writer import Writer

_log = logging.getLogger("fstore")


class LoadedSymbols:
    """Series by symbol and timeframe; the symbols used most recently are kept."""

    def __init__(
        self,
        settings: Settings,
        run: Run,
        leases: StreamLeases,
        writer: Writer,
        *,
        now: Callable[[], datetime],
    ) -> None:
        self._settings, self._run = settings, run
        self._leases, self._writer, self._now = leases, writer, now
        self._symbols: OrderedDict[str, dict[str, LiveSeries]] = OrderedDict()

    def of(self, symbol: str) -> Mapping[str, LiveSeries]:
        """A symbol's series by timeframe; empty when it is not in memory."""
        return self._symbols.get(symbol, {})

    def forget(self, symbol: str) -> None:
        """Drops a symbol whose series are not, or will not be, what is stored."""
        self._symbols.pop(symbol, None)

    def shrink(self, max_symbols: int, *, busy: Collection[str]) -> None:
        """Drops the symbols used longest ago, except those that are ``busy``."""
        while len(self._symbols) > max_symbols:
            oldest = next((name for name in self._symbols if name not in busy), None)
            if oldest is None:
                break
            del self._symbols[oldest]

    def hold(self, names: Sequence[str]) -> Mapping[str, Holder]:
        """Leases symbols and loads them as the batch flow leaves them.

        Returns:
            The symbols that another run holds. A symbol that cannot be loaded now for another reason has no series.
        """
        now = self._now()
        if all(name in self._leases.leases and name in self._symbols for name in names):
            for name in names:
                self._symbols.move_to_end(name)
            return {}
        self._writer.settle(wait=True)
        refused = self._lease(names)
        lacking = [n for n in names if n not in self._symbols and n not in refused]
        if lacking:
            behind = self._behind(lacking, now)
            if behind:
                self._writer.store_all()
                self._leases.release()
                run = replace(self._run, now=now)
                for outcome in materialize_symbols(run, behind, list(TIMEFRAMES), self._settings):
                    if outcome.problem:
                        _log.warning("%s %s: %s", outcome.symbol, outcome.timeframe, outcome.problem)
                refused = self._lease(names)
                lacking = [n for n in names if n not in self._symbols and n not in refused]
                behind = self._behind(lacking, now)
            loadable = [catalog.symbol(n) for n in lacking if n not in behind]
            loaded = load(loadable, self._run.tables, self._run.ledger, now)
            for name in lacking:
                self._symbols[name] = loaded.get(name, {})
        return refused

    def _lease(self, names: Sequence[str]) -> Mapping[str, Holder]:
        refused = self._leases.take(names, self._now())
        for name in self._leases.changed([*self._symbols], self._now()):
            self._symbols.pop(name, None)
        return refused

    def _behind(self, names: Sequence[str], now: datetime) -> list[str]:
        """The symbols for which the batch flow has something to do."""
        symbols = [catalog.symbol(name) for name in names]
        work = pending(symbols, list(TIMEFRAMES), self._run.tables, self._run.ledger, now=now) if symbols else None
        return sorted({job.symbol.name for job in work.jobs}) if work else []


def load(
    symbols: Sequence[Symbol], tables: OfflineTables, ledger: Ledger, now: datetime
) -> dict[str, dict[str, LiveSeries]]:
    """Every series of symbols that are up to date (the batch flow has nothing to do for them), by symbol and timeframe.

    A series that holds a bar that has not closed (its source's clock ran ahead) is left to the batch flow.
    """
    names = [symbol.name for symbol in symbols]
    listed, marks = ledger.series(names), ledger.watermarks(names)
    sources: dict[tuple[str, str], Timeframe | None] = {}
    jobs: list[Job] = []
    for symbol in symbols:
        for target, source in plan(tf for name, tf in listed if name == symbol.name).items():
            key = symbol.name, target
            if key not in marks:
                continue
            sources[key] = timeframe(source) if source else None
            jobs.append(
                Job(
                    series=Series(symbol=symbol, timeframe=timeframe(target)),
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
    withdrawn = _withdrawn_us(jobs, tables)
    loaded: dict[str, dict[str, LiveSeries]] = {}
    for job, history in read_histories(jobs, tables):
        name, target = job.symbol.name, job.timeframe.name
        settled_us = _settled(job, marks[name, target].event_us)
        series = _series(job, history, sources[name, target], windows[target].get(name), settled_us)
        series.withdrawn_us = withdrawn.get((name, target), 0)
        if series.close_us <= int(now.timestamp() * 1e6):
            loaded.setdefault(name, {})[target] = series
    return loaded


def _withdrawn_us(jobs: Sequence[Job], tables: OfflineTables) -> dict[tuple[str, str], int]:
    """Open of the newest bar that was withdrawn behind the newest one that is left, by symbol and timeframe."""
    newest: dict[tuple[str, str], int] = {}
    for tf in dict.fromkeys(job.timeframe for job in jobs if job.source is None):
        of_timeframe = [job for job in jobs if job.timeframe == tf and job.source is None]
        starts = [(job.since_us or tf.microseconds) - tf.microseconds for job in of_timeframe]
        rows = tables.read(
            "bars",
            timeframe=tf.name,
            symbols=[job.symbol.name for job in of_timeframe],
            start=to_datetime(min(starts)),
            columns=["withdrawn"],
            all_revisions=True,
        )
        rows = rows.filter(pc.is_valid(rows["withdrawn"]))
        for name, open_us in zip(rows["symbol"].to_pylist(), microseconds(rows, "open_time").tolist(), strict=True):
            newest[name, tf.name] = max(newest.get((name, tf.name), 0), open_us)
    return newest


def _settled(job: Job, event_us: int) -> int:
    """When the newest bar really ended: on a local day of 25 hours that is later than a timeframe after its open."""
    if not event_us:
        return 0
    newest = np.array([event_us - job.timeframe.microseconds])
    return int(bar_close(job.symbol.session, job.timeframe, newest)[0])


def _series(job: Job, history: History, source: Timeframe | None, window: Window | None, settled_us: int) -> LiveSeries:
    opens = microseconds(history.bars, "open_time").copy()
    state = np.full((len(STATE_FIELDS), len(opens)), np.nan)
    state_opens = microseconds(history.state, "open_time")
    at = np.searchsorted(state_opens, opens)
    known = at < len(state_opens)
    known[known] = state_opens[at[known]] == opens[known]
    for row, name in enumerate(STATE_FIELDS):
        state[row, known] = column(history.state, name)[at[known]]
    return LiveSeries(
        job.symbol,
        job.timeframe,
        source,
        opens_us=opens,
        bars=np.stack([column(history.bars, name) for name in BAR_FIELDS]),
        state=state,
        whole=history.whole,
        window=window,
        settled_us=settled_us,
    )
