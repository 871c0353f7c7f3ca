"""Backfill: bars and indicators of a range computed and stored anew, resumable, one symbol in memory at a time.

What is computed depends on all that came before, so no value comes from a truncated beginning: indicators converge on
the bars before the range, and the cumulative ones carry on from what is stored there. Where something before the range
has not been computed yet, the computation begins there, and only what lies in the range is stored. What comes out as it
was stored is not written again.
"""

from __future__ import annotations

import hashlib
import json
import logging
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from typing import Any

import numpy as np
import pyarrow as pa
from prefect import flow, task
from prefect.artifacts import create_progress_artifact, update_progress_artifact
from prefect.futures import as_completed
from redis.exceptions import ConnectionError as RedisConnectionError
from redis.exceptions import TimeoutError as RedisTimeoutError

from feature_repo import catalog
from feature_repo.catalog import WINDOW_TIME, Session, Timeframe
from feature_repo.freshness import bars_behind
from feature_repo.moments import to_us
from feature_repo.sessions import Mask, Times, bar_close, grid_open, grid_opens
from feature_repo.stores.connection import connect, online_url
from feature_repo.stores.doubt import forget_revisions
from feature_repo.stores.schemas import TableName
from feature_repo.stores.tables import OfflineTables
from feature_repo.stores.window import microseconds, read_window
from flows import shard
from flows.bars import opens_us
from flows.deployed.runner import task_runner
from flows.history import History, read_histories, whole_history
from flows.increment import TailTooShort
from flows.leasing import lease_symbol
from flows.ledger import Lease, Ledger
from flows.materialize import describe, flow_run_id, label, report
from flows.notes import noted_verdict
from flows.outcome import Outcome
from flows.pending import RECIPE, Job, known_symbols, pending, plan
from flows.publication import publish_window
from flows.revisions import Changes
from flows.settings import Settings, load_settings

log = logging.getLogger("fstore")
_WAIT_S = 120.0  # as a scheduled run does
_STEPS = 16  # a small backfill shows its progress in about so many steps
_NO_BARS = "it has no stored bars: ingest some first"
_LONGEST_BAR_US = 2 * 86_400_000_000
_VERSIONED: tuple[TableName, ...] = ("bars", "indicators")


@dataclass(frozen=True, slots=True, kw_only=True)
class Span:
    """Bars that open from ``start_us`` to ``end_us``, both inclusive, microseconds since 1970-01-01 UTC; None: open."""

    start_us: int | None = None
    end_us: int | None = None

    def first_open(self, session: Session, timeframe: Timeframe) -> int | None:
        """Open of the first bar of the grid within the span; None when it has no start."""
        if self.start_us is None:
            return None
        return int(grid_opens(session, timeframe, self.start_us, self.start_us + _LONGEST_BAR_US)[0])


def backfill_key(symbols: Sequence[str] | None, timeframes: Sequence[str], span: Span) -> str:
    """What makes a backfill that one: what was asked for, and the definitions."""
    asked = [sorted(set(symbols)) if symbols else None, sorted(timeframes), span.start_us, span.end_us, RECIPE]
    return hashlib.sha256(json.dumps(asked).encode()).hexdigest()[:16]


def limit_history(job: Job, history: History, end_us: int | None) -> History:
    """The history without what the range's last bar does not need.

    One source bar beyond the last bar stays: it tells that this is over even when its own last source bars are missing.
    """
    if end_us is None:
        return history
    source = history.source
    if source is not None:
        last = grid_open(job.symbol.session, job.timeframe, np.array([end_us]))
        over_us = int(bar_close(job.symbol.session, job.timeframe, last)[0])
        source = source.slice(0, int(np.searchsorted(microseconds(source, "open_time"), over_us)) + 1)
    return replace(history, source=source, bars=_upto(history.bars, end_us), features=_upto(history.features, end_us))


def limit_computed(
    computed: shard.Computed, history: History, first_us: int | None, end_us: int | None
) -> shard.Computed:
    """What was computed, without what lies before or beyond the range."""
    if first_us is None and end_us is None:
        return computed
    low, high = first_us or np.iinfo(np.int64).min, end_us or np.iinfo(np.int64).max
    features = _limit_changes(computed.feature_changes, history.features, low, high)
    return replace(
        computed,
        bars=features.stored + features.revised + features.unchanged,
        bar_changes=_limit_changes(computed.bar_changes, history.bars, low, high),
        feature_changes=features,
        quarantine=[rows[_inside(opens_us(rows), low, high)] for rows in computed.quarantine if len(rows)],
    )


def _limit_changes(changes: Changes, stored: pa.Table, low: int, high: int) -> Changes:
    held = microseconds(stored, "open_time")
    held = held[_inside(held, low, high)]
    rows = changes.rows
    if len(rows):
        rows = rows[_inside(opens_us(rows), low, high)]
    revised = int(np.isin(opens_us(rows), held).sum()) if len(rows) else 0
    return replace(changes, rows=rows, stored=len(rows) - revised, revised=revised, unchanged=len(held) - revised)


def _inside(opens: Times, low: int, high: int) -> Mask:
    inside: Mask = (opens >= low) & (opens <= high)
    return inside


def _upto(rows: pa.Table, end_us: int) -> pa.Table:
    return rows.slice(0, int(np.searchsorted(microseconds(rows, "open_time"), end_us, side="right")))


def backfill_symbol(
    name: str,
    timeframes: Sequence[str],
    span: Span,
    settings: Settings,
    ledger: Ledger,
    client: Any,
    now: datetime,
    *,
    key: str,
    run: str = "",
    sleep: Callable[[float], None] = time.sleep,
) -> list[Outcome]:
    """Computes one symbol's bars and indicators of the span anew, stores what differs and publishes its newest bars.

    Under a lease of the symbol. What of ``key`` is done already is left out; what gets done is noted. Watermarks stay:
    a backfill says nothing about what came in since the last run.

    Raises:
        RedisConnectionError: the online store is away, which is no symbol's fault; what was stored is not lost.
    """
    try:
        symbol = catalog.symbol(name)
        with lease_symbol(ledger, name, run, wait_s=_WAIT_S, sleep=sleep) as lease:
            if lease.refused:
                holder = lease.refused[name]
                problem = f"{holder.owner} is working on it, until {holder.until:%H:%M:%S} UTC at least; run again then"
                return [Outcome(symbol=name, timeframe="", problem=problem)]
            done = ledger.backfill_done(key)
            work = _Backfill(
                symbol=symbol, span=span, settings=settings, tables=settings.tables(), ledger=ledger, lease=lease,
                client=client, now=now, key=key, run=run,
            )  # fmt: skip
            return work.run_all([tf for tf in timeframes if (name, tf) not in done])
    except (RedisConnectionError, RedisTimeoutError):
        raise
    except Exception as error:  # one bad symbol never stops the others
        return [Outcome(symbol=name, timeframe="", problem=describe(error))]


@dataclass(frozen=True, slots=True, kw_only=True)
class _Backfill:
    """One symbol on its way."""

    symbol: catalog.Symbol
    span: Span
    settings: Settings
    tables: OfflineTables
    ledger: Ledger
    lease: Lease
    client: Any
    now: datetime
    key: str
    run: str

    def run_all(self, timeframes: Sequence[str]) -> list[Outcome]:
        since = {table: self.tables.version(table) for table in _VERSIONED}
        outcomes: list[Outcome] = []
        computed: list[shard.Computed] = []
        for job, history in read_histories(self._jobs(timeframes), self.tables):
            try:
                computed.append(self._compute(job, history))
            except shard.Stopped as stopped:
                shard.store_rejected(stopped.quarantine, job, self.tables)
                if self.run:
                    said = noted_verdict(stopped.verdict, stopped.kind, self.run, job.symbol, job.timeframe, self.now)
                    self.ledger.record(verdicts=[said])
                outcomes.append(Outcome(symbol=job.symbol.name, timeframe=job.timeframe.name, problem=str(stopped)))
            except Exception as error:  # one bad timeframe never stops the others
                outcomes.append(Outcome(symbol=job.symbol.name, timeframe=job.timeframe.name, problem=describe(error)))
        created = shard.store(computed, self.tables, self.lease, since=since, now=self.now)
        doubted = self.ledger.doubts()
        for one in computed:
            name, tf = one.job.symbol.name, one.job.timeframe.name
            outcomes.append(self._publish(one, in_doubt=(name, tf) in doubted))
            if self.run:
                verdicts, revisions = shard.noted(one, self.run, self.now, created)
                self.ledger.record(verdicts=verdicts, revisions=revisions)
            self.ledger.mark_backfilled(self.key, name, tf)
        return outcomes

    def _jobs(self, timeframes: Sequence[str]) -> list[Job]:
        """The jobs; each begins where the span does, or where something before it is not computed yet."""
        work = pending([self.symbol], timeframes, self.tables, self.ledger, now=self.now)
        due = {job.timeframe.name: job for job in work.jobs}
        listed = self.ledger.series([self.symbol.name])
        targets = plan(tf for _, tf in listed)
        found = []
        for tf in (tf for tf in timeframes if tf in targets):
            timeframe, origin = catalog.timeframe(tf), targets[tf]
            series = listed[self.symbol.name, origin or tf]
            since_us = self.span.first_open(self.symbol.session, timeframe)
            if since_us is not None and tf in due:
                begins_us = due[tf].since_us
                since_us = None if begins_us is None else min(since_us, begins_us)
            found.append(
                Job(
                    symbol=self.symbol,
                    timeframe=timeframe,
                    source=catalog.timeframe(origin) if origin else None,
                    since_us=since_us,
                    first_us=series.first_us,
                    seen_us=series.listed_us,
                )
            )
        return found

    def _compute(self, job: Job, history: History) -> shard.Computed:
        limits = shard.Limits(
            max_bad_share=self.settings.max_bad_share, min_completeness=self.settings.min_completeness
        )
        first_us, end_us = self.span.first_open(job.symbol.session, job.timeframe), self.span.end_us
        history = limit_history(job, history, end_us)
        try:
            found = shard.compute(job, history, now=self.now, limits=limits)
        except TailTooShort:
            history = limit_history(job, whole_history(job, self.tables), end_us)
            found = shard.compute(job, history, now=self.now, limits=limits)
        return limit_computed(found, history, first_us, end_us)

    def _publish(self, one: shard.Computed, *, in_doubt: bool) -> Outcome:
        """Publishes the newest bars, if the span reaches into them; what is in doubt even at the revision it has."""
        name, timeframe = one.job.symbol.name, one.job.timeframe
        window = read_window(self.tables, timeframe, name, end=self.now)
        published = False
        if window is not None and (
            self.span.end_us is None or self.span.end_us >= window.columns[WINDOW_TIME][0] * 1e6
        ):
            project = self.settings.repo().project
            if in_doubt:
                forget_revisions(self.client, project, name, timeframe.name)
            published = publish_window(self.client, project, name, timeframe, window, fence=self.lease.token)
        now_us = int(self.now.timestamp() * 1e6)
        return Outcome(
            symbol=name,
            timeframe=timeframe.name,
            bars=one.bars,
            stored=one.feature_changes.stored,
            revised=one.feature_changes.revised,
            unchanged=one.feature_changes.unchanged,
            quarantined=sum(len(rows) for rows in one.quarantine),
            published=published,
            as_of=None if window is None else datetime.fromtimestamp(window.event_us / 1e6, UTC),
            age_bars=None
            if window is None
            else bars_behind(one.job.symbol.session, timeframe, window.event_us, now_us),
        )


@task(name="backfill-shard", task_run_name="{label}")
def backfill_shard(
    label: str,  # noqa: ARG001  # the task run's name
    symbols: list[str],
    timeframes: list[str],
    span: Span,
    key: str,
    now: datetime,
    run: str,
) -> list[Outcome]:
    """One shard of symbols, wherever the task runner puts it; settings are read there."""
    settings = load_settings()
    repo, ledger = settings.repo(), settings.ledger()
    found: list[Outcome] = []
    with connect(online_url(repo), repo.redis_type) as client:
        client.ping()  # before hours of work that could not be published
        for name in symbols:
            found += backfill_symbol(name, timeframes, span, settings, ledger, client, now, key=key, run=run)
    return found


@flow(name="backfill")
def backfill(
    start: datetime | None = None,
    end: datetime | None = None,
    symbols: list[str] | None = None,
    timeframes: list[str] | None = None,
    restart: bool = False,
) -> list[Outcome]:
    """Computes and stores the bars and indicators of a range anew; called again after a break, it goes on from there.

    Args:
        start, end: open times of the first and last bar, both inclusive (UTC); all of history when not given.
        symbols: only these; every symbol with stored bars when not given.
        timeframes: only these; all that can be had when not given.
        restart: forget what an unfinished backfill of the same arguments has done.

    Returns:
        One outcome a symbol and timeframe that this call worked on, symbols by name, timeframes from the shortest.

    Raises:
        CatalogError: a symbol or timeframe is not in the catalog; nothing has been written then.
        ValueError: ``start`` is later than ``end``.
    """
    settings, now = load_settings(), datetime.now(UTC)
    ledger, span = settings.ledger(), span_of(start, end)
    asked = list(dict.fromkeys(catalog.symbol(name).name for name in symbols or ()))
    frames = [catalog.timeframe(tf).name for tf in timeframes] if timeframes else list(catalog.TIMEFRAMES)
    known = known_symbols(settings.tables(), ledger)
    names = [name for name in asked if name in known] if asked else list(known)
    key = backfill_key(asked, frames, span)
    if restart:
        ledger.forget_backfill(key)
    given = {"start": start, "end": end, "symbols": symbols, "timeframes": timeframes, "restart": restart}
    run = ledger.begin("backfill", parameters=given, flow_run=flow_run_id())
    size = min(settings.shard_size, -(-len(names) // _STEPS)) or 1
    shards = [names[i : i + size] for i in range(0, len(names), size)]
    artifact: Any = create_progress_artifact(progress=0.0, key="backfill-progress", description="symbols backfilled")
    outcomes = [Outcome(symbol=name, timeframe="", problem=_NO_BARS) for name in asked if name not in known]
    done = 0
    with task_runner(settings.task_runner) as runner:
        futures = {
            runner.submit(
                backfill_shard,
                {"label": label(part), "symbols": part, "timeframes": frames, "span": span, "key": key, "now": now,
                 "run": run},
            ): part
            for part in shards
        }  # fmt: skip
        for future in as_completed(list(futures)):
            part = futures[future]
            try:
                outcomes += future.result()
            except Exception as error:  # the other shards go on
                outcomes += [Outcome(symbol=name, timeframe="", problem=describe(error)) for name in part]
            done += len(part)
            ledger.touch(run)
            update_progress_artifact(artifact, progress=100 * done / len(names))
            log.info("%d of %d symbols", done, len(names), extra={"done": done, "total": len(names)})
    if not any(outcome.problem for outcome in outcomes):
        ledger.forget_backfill(key)  # it is finished: the same command is a new backfill from now on
    order = {tf: i for i, tf in enumerate(["", *catalog.TIMEFRAMES])}
    outcomes.sort(key=lambda o: (o.symbol, order[o.timeframe]))
    report("backfill", outcomes, ledger, run)
    return outcomes


def span_of(start: datetime | None, end: datetime | None) -> Span:
    """The span of two aware moments.

    Raises:
        ValueError: ``start`` is later than ``end``.
    """
    if start is not None and end is not None and start > end:
        raise ValueError(f"start {start} is later than end {end}")
    return Span(
        start_us=None if start is None else to_us(start.astimezone(UTC)),
        end_us=None if end is None else to_us(end.astimezone(UTC)),
    )
