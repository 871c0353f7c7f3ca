"""One symbol's bars and indicators of a range computed again, under a lease of it."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

from feature_repo import catalog
from feature_repo.catalog import WINDOW_TIME
from feature_repo.stores.redis.doubt import forget_revisions
from feature_repo.stores.schemas import REVISED
from feature_repo.stores.window import read_window
from flows.backfill.limits import limit_computed, limit_history
from flows.backfill.span import Span
from flows.compute import step
from flows.compute.increment import TailTooShort
from flows.compute.job import History, Job
from flows.compute.step import Computed
from flows.ledger import Run
from flows.runs import store
from flows.runs.history import read_histories, whole_history
from flows.runs.outcome import Outcome, busy, isolated
from flows.runs.plan import every_job, pending
from flows.runs.publish import publish_window
from flows.settings import Settings

_WAIT_S = 120.0  # as a scheduled run does


def backfill_symbol(
    run: Run,
    name: str,
    timeframes: Sequence[str],
    span: Span,
    settings: Settings,
    client: Any,
    *,
    key: str,
    sleep: Callable[[float], None] = time.sleep,
) -> list[Outcome]:
    """Computes one symbol's bars and indicators of the span again, stores what differs and publishes its newest bars.

    Under a lease of the symbol. What the backfill ``key`` has done before is left out; what is done now is noted. The
    watermarks stay: a backfill says nothing about what came in since the last run.

    Raises:
        RedisError: the online store is unavailable, which is no symbol's fault; what was stored is not lost.
    """
    outcomes: list[Outcome] = []
    with isolated(lambda error: outcomes.append(Outcome.stopped(name, error))):
        symbol = catalog.symbol(name)
        with run.lease_of(name, wait_s=_WAIT_S, sleep=sleep) as lease:
            if lease.refused:
                return [Outcome.stopped(name, busy(lease.refused[name]))]
            done = run.ledger.backfill_done(key)
            work = _Backfill(
                run=run.holding(lease), symbol=symbol, span=span, settings=settings, client=client, key=key
            )
            outcomes = work.run_all([tf for tf in timeframes if (name, tf) not in done])
    return outcomes


@dataclass(frozen=True, slots=True, kw_only=True)
class _Backfill:
    """One symbol on its way."""

    run: Run
    symbol: catalog.Symbol
    span: Span
    settings: Settings
    client: Any
    key: str

    def run_all(self, timeframes: Sequence[str]) -> list[Outcome]:
        run = self.run
        since = {table: run.tables.version(table) for table in REVISED}
        outcomes: list[Outcome] = []
        computed: list[Computed] = []

        def failed(job: Job, error: Exception) -> None:
            if isinstance(error, step.Stopped):
                outcomes.append(store.keep_stopped(run, job, error))
            else:
                outcomes.append(Outcome.stopped(job.series, error))

        for job, history in read_histories(self._jobs(timeframes), run.tables):
            with isolated(partial(failed, job)):
                computed.append(self._compute(job, history))
        created = store.store_computed(run, computed, since=since)
        in_doubt = run.ledger.doubts()
        for result in computed:
            series = result.job.series
            outcomes.append(self._publish(result, in_doubt=series.key in in_doubt))
            store.record_computed(run, [result], created)
            run.ledger.mark_backfilled(self.key, *series.key)
        return outcomes

    def _jobs(self, timeframes: Sequence[str]) -> list[Job]:
        """The jobs; each begins where the span does, or where something before it is not computed yet."""
        run = self.run
        work = pending([self.symbol], timeframes, run.tables, run.ledger, now=run.now)
        due = {job.timeframe.name: job for job in work.jobs}
        jobs = []
        for job in every_job(self.symbol, timeframes, run.ledger):
            since_us = self.span.first_open(self.symbol.session, job.timeframe)
            if since_us is not None and job.timeframe.name in due:
                begins_us = due[job.timeframe.name].since_us
                since_us = None if begins_us is None else min(since_us, begins_us)
            jobs.append(replace(job, since_us=since_us))
        return jobs

    def _compute(self, job: Job, history: History) -> Computed:
        limits = step.Limits(max_bad_share=self.settings.max_bad_share, min_completeness=self.settings.min_completeness)
        first_us, end_us = self.span.first_open(job.symbol.session, job.timeframe), self.span.end_us
        history = limit_history(job, history, end_us)
        try:
            computed = step.compute(job, history, now=self.run.now, limits=limits)
        except TailTooShort:
            history = limit_history(job, whole_history(job, self.run.tables), end_us)
            computed = step.compute(job, history, now=self.run.now, limits=limits)
        return limit_computed(computed, history, first_us, end_us)

    def _publish(self, result: Computed, *, in_doubt: bool) -> Outcome:
        """Publishes the newest bars, if the span reaches into them; what is in doubt even at the revision it has."""
        run, series = self.run, result.job.series
        name, timeframe = series.symbol.name, series.timeframe
        window = read_window(run.tables, timeframe, name, end=run.now)
        published = False
        if window is not None and (
            self.span.end_us is None or self.span.end_us >= window.columns[WINDOW_TIME][0] * 1e6
        ):
            project = self.settings.repo().project
            if in_doubt:
                forget_revisions(self.client, project, *series.key)
            published = publish_window(self.client, project, name, timeframe, window, fence=run.lease.token)
        close_us = None if window is None else window.event_us
        return store.outcome_of(run, series, result, close_us=close_us, published=published)
