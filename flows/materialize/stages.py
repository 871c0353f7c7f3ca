"""The stages of the batch flow in their order, for some symbols. This module and the stream's session alone know it."""

from __future__ import annotations

import time
from collections import defaultdict
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from functools import partial

from feature_repo import catalog
from feature_repo.catalog import Symbol
from feature_repo.series import series as series_of
from feature_repo.stores.fence import FencedOutError
from feature_repo.stores.redis.connection import connect, online_url
from feature_repo.stores.redis.doubt import forget_revisions, withdraw_views
from feature_repo.stores.schemas import REVISED
from feature_repo.stores.window import read_windows
from flows.compute import step
from flows.compute.increment import TailTooShort
from flows.compute.job import Job
from flows.compute.step import Computed
from flows.ledger import LeaseLost, Run, Watermark
from flows.quality import Verdict
from flows.runs import store
from flows.runs.doubts import restate_doubts
from flows.runs.history import read_histories, whole_history
from flows.runs.outcome import Outcome, busy, describe, isolated
from flows.runs.plan import DEFINITIONS_DIGEST, Pending, pending
from flows.runs.publish import lost_views, publish_window
from flows.runs.record import at_stage
from flows.settings import Settings

_TRIES = 3  # a run that is fenced out by one that has died meanwhile reads again


def materialize_symbols(
    run: Run,
    symbols: Sequence[str],
    timeframes: Sequence[str],
    settings: Settings,
    *,
    wait_s: float = 0.0,
    sleep: Callable[[float], None] = time.sleep,
    report: Callable[[Verdict], None] = lambda _: None,
) -> list[Outcome]:
    """Derives, computes, checks, stores and publishes what is new of some symbols, under a lease of them.

    A symbol that fails, or that another run works on, leaves the others alone. Everything that changed is stored in one
    commit per table, then published symbol by symbol, then recorded in the ledger: so whatever moment a run dies at,
    the next one completes its work.

    Args:
        run: what this is part of; verdicts and revisions are recorded there. What an earlier attempt of the same run
            holds is taken over.
        wait_s: how long to wait for symbols that another run works on, when all others are done.
        report: is called with each verdict that stopped a symbol or rejected rows.
    """
    outcomes: list[Outcome] = []
    known: list[Symbol] = []
    for name in symbols:
        try:
            known.append(catalog.symbol(name))
        except catalog.CatalogError as error:  # it has lost its row; its bars stay
            outcomes.append(Outcome.stopped(name, str(error)))
    for lease in run.leases([symbol.name for symbol in known], wait_s=wait_s, sleep=sleep):
        with lease:
            leased = [symbol for symbol in known if symbol.name in lease.symbols]
            shard = _Shard(
                run=run.holding(lease), symbols=leased, timeframes=timeframes, settings=settings, report=report
            )
            outcomes += shard.materialize_or_lose() if leased else []
    outcomes += [Outcome.stopped(name, busy(holder)) for name, holder in lease.refused.items()]
    return outcomes


@dataclass(frozen=True, slots=True, kw_only=True)
class _Published:
    """What was published: whether the online store took each series, the close of its newest bar, and what failed."""

    taken: dict[tuple[str, str], bool] = field(default_factory=dict)
    closes_us: dict[tuple[str, str], int] = field(default_factory=dict)
    problems: dict[tuple[str, str], str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True, kw_only=True)
class _Shard:
    """Some symbols on their way through the stages."""

    run: Run
    symbols: Sequence[Symbol]
    timeframes: Sequence[str]
    settings: Settings
    report: Callable[[Verdict], None]

    def materialize_or_lose(self) -> list[Outcome]:
        """As ``materialize``; again when a run that has died meanwhile got in between, not when the lease is lost."""
        tries_left = _TRIES
        try:
            while True:
                tries_left -= 1
                try:
                    return self.materialize()
                except FencedOutError:
                    self.run.lease.check()
                    if not tries_left:
                        raise
        except LeaseLost as error:
            return [Outcome.stopped(name, f"{error}; nothing more was written") for name in self.run.lease.symbols]

    def materialize(self) -> list[Outcome]:
        run = self.run
        at_stage("read")
        since = {table: run.tables.version(table) for table in REVISED}
        work = pending(self.symbols, self.timeframes, run.tables, run.ledger, now=run.now)
        outcomes: list[Outcome] = []
        computed = self._compute(work, outcomes)
        at_stage("store")
        created = store.store_computed(run, computed, since=since)
        at_stage("publish")
        outcomes += self._publish(computed, work)
        at_stage("note")
        self._record(computed, outcomes, created)
        at_stage("end")
        return outcomes

    def _compute(self, work: Pending, outcomes: list[Outcome]) -> list[Computed]:
        limits = step.Limits(max_bad_share=self.settings.max_bad_share, min_completeness=self.settings.min_completeness)
        computed: list[Computed] = []

        def failed(job: Job, error: Exception) -> None:
            if isinstance(error, step.Stopped):
                self.report(error.verdict)
                outcomes.append(store.keep_stopped(self.run, job, error))
            else:
                outcomes.append(Outcome.stopped(job.series, error))

        for job, history in read_histories(work.jobs, self.run.tables):
            with isolated(partial(failed, job)):
                try:
                    computed.append(step.compute(job, history, now=self.run.now, limits=limits))
                except TailTooShort:
                    history = whole_history(job, self.run.tables)
                    computed.append(step.compute(job, history, now=self.run.now, limits=limits))
        for verdict in (verdict for result in computed for verdict in result.verdicts.values()):
            if verdict.bad_rows:
                self.report(verdict)
        return computed

    def _publish(self, computed: Sequence[Computed], work: Pending) -> list[Outcome]:
        """Publishes what was computed, and what the online store has lost."""
        run, repo = self.run, self.settings.repo()
        up_to_date = {(mark.symbol, mark.timeframe): mark.event_us for mark in work.done}
        names: dict[str, list[str]] = defaultdict(list)
        for result in computed:
            if result.bars or result.job.withdraws:
                names[result.job.timeframe.name].append(result.job.symbol.name)
        withdrawn = {result.job.series.key for result in computed if result.job.withdraws}
        published = _Published(closes_us=dict(up_to_date))

        def failed(key: tuple[str, str], error: Exception) -> None:
            published.problems[key] = describe(error)

        with connect(online_url(repo), repo.redis_type) as client:
            lost = lost_views(client, repo.project, {key: us for key, us in up_to_date.items() if us})
            for tf in dict.fromkeys(tf for _, tf in up_to_date):
                names[tf] += [symbol for symbol, timeframe in lost if timeframe == tf]
            for tf, symbols in names.items():
                timeframe = catalog.timeframe(tf)
                windows = read_windows(run.tables, timeframe, symbols, end=run.now)
                run.lease.check()  # ours after the read: so no other run's bars are among them without indicators
                for symbol in (symbol for symbol, timeframe in withdrawn if timeframe == tf):
                    # The newest bar may be among those that were withdrawn, and the guard lets no older one by.
                    forget_revisions(client, repo.project, symbol, tf)
                    if symbol not in windows:
                        withdraw_views(client, repo.project, symbol, tf)
                for symbol, window in windows.items():
                    key = symbol, tf
                    published.closes_us[key] = window.event_us
                    with isolated(partial(failed, key)):
                        published.taken[key] = publish_window(
                            client, repo.project, symbol, timeframe, window, fence=run.lease.token
                        )
            restate_doubts(client, repo.project, run.ledger, [symbol.name for symbol in self.symbols])
        results: Mapping[tuple[str, str], Computed] = {result.job.series.key: result for result in computed}
        return [
            store.outcome_of(
                run,
                series_of(*key),
                results.get(key),
                close_us=published.closes_us.get(key),
                published=published.taken.get(key, False),
                problem=published.problems.get(key, ""),
            )
            for key in (*up_to_date, *results)
        ]

    def _record(self, computed: Sequence[Computed], outcomes: Sequence[Outcome], created: datetime) -> None:
        """Moves the watermarks of what is stored and published; the rest is done again by the next run."""
        failed = {(outcome.symbol, outcome.timeframe) for outcome in outcomes if outcome.problem}
        marks = [
            Watermark(
                symbol=result.job.symbol.name,
                timeframe=result.job.timeframe.name,
                event_us=result.event_us or 0,
                seen_us=result.job.seen_us,
                recipe=DEFINITIONS_DIGEST,
            )
            for result in computed
            if result.job.series.key not in failed
        ]
        self.run.ledger.advance(self.run.lease, marks)
        store.record_computed(self.run, computed, created)
