"""The stages of the batch flow in their order, for some symbols. This module and the stream's session alone know it."""

from __future__ import annotations

import time
from collections import defaultdict
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import datetime

from redis.exceptions import ConnectionError as RedisConnectionError
from redis.exceptions import TimeoutError as RedisTimeoutError

from feature_repo import catalog
from feature_repo.stores.delta.schemas import REVISED
from feature_repo.stores.delta.window import read_windows
from feature_repo.stores.fence import FencedOutError
from feature_repo.stores.redis.connection import connect, online_url
from feature_repo.stores.tables import OfflineTables
from flows.compute import step
from flows.compute.increment import TailTooShort
from flows.ledger import Lease, LeaseLost, Ledger, Watermark
from flows.quality import Verdict
from flows.runs import store
from flows.runs.doubts import restate_doubts
from flows.runs.history import read_histories, whole_history
from flows.runs.lease import busy
from flows.runs.outcome import Outcome, describe
from flows.runs.plan import DEFINITIONS_DIGEST, Pending, pending
from flows.runs.publish import lost_views, publish_window
from flows.runs.record import at_stage, attempts, owner
from flows.settings import Settings

_TRIES = 3  # a run that is fenced out by one that has died meanwhile reads again
_PAUSE_S = 0.5


def materialize_symbols(
    symbols: Sequence[str],
    timeframes: Sequence[str],
    settings: Settings,
    ledger: Ledger,
    now: datetime,
    *,
    run: str = "",
    wait_s: float = 0.0,
    sleep: Callable[[float], None] = time.sleep,
    tell: Callable[[Verdict], None] = lambda _: None,
) -> list[Outcome]:
    """Derives, computes, checks, stores and publishes what is new of some symbols, under a lease of them.

    A symbol that fails, or that another run works on, leaves the others alone. Everything that changed is stored in
    one commit a table, then published symbol by symbol, then noted in the ledger: so a run that dies at any moment is
    made good by the next.

    Args:
        run: the ledger's run that this is part of; its verdicts and revisions are noted there. What an earlier attempt
            of the same run holds is taken over.
        wait_s: how long to wait for symbols that another run works on, when all others are done.
        tell: is called with each verdict that stopped a symbol or rejected rows.
    """
    outcomes, known = [], []
    for name in symbols:
        try:
            known.append(catalog.symbol(name))
        except catalog.CatalogError as error:  # it has lost its row; its bars stay
            outcomes.append(Outcome(symbol=name, timeframe="", problem=str(error)))
    left, pauses = [s.name for s in known], int(wait_s / _PAUSE_S)
    while True:
        with ledger.lease(left, owner=owner(run), takes_over=attempts(run)) as lease:
            work = _Shard(
                symbols=[s for s in known if s.name in lease.symbols], timeframes=timeframes, settings=settings,
                ledger=ledger, lease=lease, now=now, run=run, tables=settings.tables(), tell=tell,
            )  # fmt: skip
            outcomes += work.materialize_or_lose() if work.symbols else []
        left = list(lease.refused)
        if not left or not pauses:
            break
        pauses -= 1
        sleep(_PAUSE_S)
    for name, holder in lease.refused.items():
        outcomes.append(Outcome(symbol=name, timeframe="", problem=busy(holder)))
    return outcomes


@dataclass(frozen=True, slots=True, kw_only=True)
class _Shard:
    """Some symbols on their way through the stages."""

    symbols: Sequence[catalog.Symbol]
    timeframes: Sequence[str]
    settings: Settings
    ledger: Ledger
    lease: Lease
    now: datetime
    run: str
    tables: OfflineTables
    tell: Callable[[Verdict], None]

    def materialize_or_lose(self) -> list[Outcome]:
        """As ``materialize``; again when a run that has died meanwhile got in between, not when the lease is lost."""
        tries_left = _TRIES
        try:
            while True:
                tries_left -= 1
                try:
                    return self.materialize()
                except FencedOutError:
                    self.lease.check()
                    if not tries_left:
                        raise
        except LeaseLost as error:
            problem = f"{error}; nothing more was written"
            return [Outcome(symbol=name, timeframe="", problem=problem) for name in self.lease.symbols]

    def materialize(self) -> list[Outcome]:
        at_stage("read")
        since = {table: self.tables.version(table) for table in REVISED}
        work = pending(self.symbols, self.timeframes, self.tables, self.ledger, now=self.now)
        outcomes: list[Outcome] = []
        computed = self._compute(work, outcomes)
        at_stage("store")
        created = store.store(computed, self.tables, self.lease, since=since, now=self.now)
        at_stage("publish")
        outcomes += self._publish(computed, work)
        at_stage("note")
        self._note(computed, outcomes, created)
        at_stage("end")
        return outcomes

    def _compute(self, work: Pending, outcomes: list[Outcome]) -> list[step.Computed]:
        limits = step.limits_of(self.settings)
        found: list[step.Computed] = []
        for job, history in read_histories(work.jobs, self.tables):
            name, tf = job.symbol.name, job.timeframe.name
            try:
                try:
                    found.append(step.compute(job, history, now=self.now, limits=limits))
                except TailTooShort:
                    found.append(step.compute(job, whole_history(job, self.tables), now=self.now, limits=limits))
            except step.Stopped as stopped:
                self.tell(stopped.verdict)
                outcomes.append(store.keep_stopped(stopped, job, self.tables, self.ledger, run=self.run, now=self.now))
            except Exception as error:  # one bad symbol never stops the others; it is reported by name
                outcomes.append(Outcome(symbol=name, timeframe=tf, problem=describe(error)))
        for one in found:
            for verdict in one.verdicts.values():
                if verdict.bad_rows:
                    self.tell(verdict)
        return found

    def _publish(self, computed: Sequence[step.Computed], work: Pending) -> list[Outcome]:
        """Publishes what was computed, and what the online store has lost."""
        repo = self.settings.repo()
        names: dict[str, list[str]] = defaultdict(list)
        for one in computed:
            if one.bars:
                names[one.job.timeframe.name].append(one.job.symbol.name)
        published: dict[tuple[str, str], bool | str] = {}
        closes = {(m.symbol, m.timeframe): m.event_us for m in work.done}
        with connect(online_url(repo), repo.redis_type) as client:
            lost = lost_views(client, repo.project, {key: us for key, us in closes.items() if us})
            for tf in dict.fromkeys(tf for _, tf in closes):
                names[tf] += [symbol for symbol, t in lost if t == tf]
            for tf, wanted in names.items():
                timeframe = catalog.timeframe(tf)
                windows = read_windows(self.tables, timeframe, wanted, end=self.now)
                self.lease.check()  # ours after the read: so no other run's bars are among them without indicators
                for symbol, window in windows.items():
                    closes[symbol, tf] = window.event_us
                    try:
                        published[symbol, tf] = publish_window(
                            client, repo.project, symbol, timeframe, window, fence=self.lease.token
                        )
                    except (RedisConnectionError, RedisTimeoutError):
                        raise  # no symbol's fault: the whole shard is tried again
                    except Exception as error:  # one bad symbol never stops the others
                        published[symbol, tf] = describe(error)
            restate_doubts(client, repo.project, self.ledger, [symbol.name for symbol in self.symbols])

        def outcome(symbol: str, timeframe: str, one: step.Computed | None = None) -> Outcome:
            took = published.get((symbol, timeframe), False)
            return store.outcome_of(
                catalog.symbol(symbol), catalog.timeframe(timeframe), one, close_us=closes.get((symbol, timeframe)),
                published=took is True, problem=took if isinstance(took, str) else "", now=self.now,
            )  # fmt: skip

        done = [outcome(mark.symbol, mark.timeframe) for mark in work.done]
        return done + [outcome(one.job.symbol.name, one.job.timeframe.name, one) for one in computed]

    def _note(self, computed: Sequence[step.Computed], outcomes: Sequence[Outcome], created: datetime) -> None:
        """Moves the watermarks of what is stored and published; the rest is done again by the next run."""
        failed = {(o.symbol, o.timeframe) for o in outcomes if o.problem}
        rows = [
            Watermark(
                symbol=one.job.symbol.name,
                timeframe=one.job.timeframe.name,
                event_us=one.event_us or 0,
                seen_us=one.job.seen_us,
                recipe=DEFINITIONS_DIGEST,
            )
            for one in computed
            if (one.job.symbol.name, one.job.timeframe.name) not in failed
        ]
        self.ledger.advance(self.lease, rows)
        if self.run:
            notes = [store.noted(one, self.run, self.now, created) for one in computed]
            self.ledger.record(
                verdicts=[v for verdicts, _ in notes for v in verdicts],
                revisions=[r for _, revisions in notes for r in revisions],
            )
