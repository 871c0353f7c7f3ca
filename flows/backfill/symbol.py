"""One symbol's bars and indicators of a range computed anew, under a lease of it."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from typing import Any

from redis.exceptions import ConnectionError as RedisConnectionError
from redis.exceptions import TimeoutError as RedisTimeoutError

from feature_repo import catalog
from feature_repo.catalog import WINDOW_TIME
from feature_repo.stores.delta.schemas import REVISED
from feature_repo.stores.delta.window import read_window
from feature_repo.stores.redis.doubt import forget_revisions
from feature_repo.stores.tables import OfflineTables
from flows.backfill.limits import limit_computed, limit_history
from flows.backfill.span import Span
from flows.compute import step
from flows.compute.increment import TailTooShort
from flows.ledger import Lease, Ledger
from flows.runs import store
from flows.runs.history import History, read_histories, whole_history
from flows.runs.lease import busy, lease_symbol
from flows.runs.outcome import Outcome, describe
from flows.runs.plan import Job, every_job, pending
from flows.runs.publish import publish_window
from flows.settings import Settings

_WAIT_S = 120.0  # as a scheduled run does


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
                return [Outcome(symbol=name, timeframe="", problem=busy(lease.refused[name]))]
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
        since = {table: self.tables.version(table) for table in REVISED}
        outcomes: list[Outcome] = []
        computed: list[step.Computed] = []
        for job, history in read_histories(self._jobs(timeframes), self.tables):
            try:
                computed.append(self._compute(job, history))
            except step.Stopped as stopped:
                outcomes.append(store.keep_stopped(stopped, job, self.tables, self.ledger, run=self.run, now=self.now))
            except Exception as error:  # one bad timeframe never stops the others
                outcomes.append(Outcome(symbol=job.symbol.name, timeframe=job.timeframe.name, problem=describe(error)))
        created = store.store(computed, self.tables, self.lease, since=since, now=self.now)
        doubted = self.ledger.doubts()
        for one in computed:
            name, tf = one.job.symbol.name, one.job.timeframe.name
            outcomes.append(self._publish(one, in_doubt=(name, tf) in doubted))
            if self.run:
                verdicts, revisions = store.noted(one, self.run, self.now, created)
                self.ledger.record(verdicts=verdicts, revisions=revisions)
            self.ledger.mark_backfilled(self.key, name, tf)
        return outcomes

    def _jobs(self, timeframes: Sequence[str]) -> list[Job]:
        """The jobs; each begins where the span does, or where something before it is not computed yet."""
        work = pending([self.symbol], timeframes, self.tables, self.ledger, now=self.now)
        due = {job.timeframe.name: job for job in work.jobs}
        found = []
        for job in every_job(self.symbol, timeframes, self.ledger):
            since_us = self.span.first_open(self.symbol.session, job.timeframe)
            if since_us is not None and job.timeframe.name in due:
                begins_us = due[job.timeframe.name].since_us
                since_us = None if begins_us is None else min(since_us, begins_us)
            found.append(replace(job, since_us=since_us))
        return found

    def _compute(self, job: Job, history: History) -> step.Computed:
        limits = step.limits_of(self.settings)
        first_us, end_us = self.span.first_open(job.symbol.session, job.timeframe), self.span.end_us
        history = limit_history(job, history, end_us)
        try:
            found = step.compute(job, history, now=self.now, limits=limits)
        except TailTooShort:
            history = limit_history(job, whole_history(job, self.tables), end_us)
            found = step.compute(job, history, now=self.now, limits=limits)
        return limit_computed(found, history, first_us, end_us)

    def _publish(self, one: step.Computed, *, in_doubt: bool) -> Outcome:
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
        close_us = None if window is None else window.event_us
        return store.outcome_of(one.job.symbol, timeframe, one, close_us=close_us, published=published, now=self.now)
