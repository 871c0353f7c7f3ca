"""The batch flow: new bars to published features. This module and the stream flow alone know the order of stages."""

from __future__ import annotations

import logging
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from datetime import UTC, datetime

from prefect import flow, task
from prefect.artifacts import create_table_artifact
from prefect.futures import as_completed
from prefect.task_runners import ThreadPoolTaskRunner
from redis.exceptions import ConnectionError as RedisConnectionError
from redis.exceptions import TimeoutError as RedisTimeoutError

from feature_repo import catalog
from feature_repo.freshness import bars_behind
from feature_repo.stores.connection import connect, online_url
from feature_repo.stores.fence import FencedOutError
from feature_repo.stores.tables import OfflineTables, TableName
from feature_repo.stores.window import read_windows
from flows import shard
from flows.history import read_histories, whole_history
from flows.increment import TailTooShort
from flows.ledger import Lease, LeaseLost, Ledger, Watermark
from flows.notes import at_stage, noted_verdict, owner
from flows.outcome import Outcome
from flows.pending import RECIPE, Pending, known_symbols, pending
from flows.publication import lost_views, publish_window
from flows.settings import Settings, load_settings

log = logging.getLogger("fstore")
_TRIES = 3  # a run that is fenced out by one that has died meanwhile reads again
_VERSIONED: tuple[TableName, ...] = ("bars", "indicators")


def materialize_symbols(
    symbols: Sequence[str],
    timeframes: Sequence[str],
    settings: Settings,
    ledger: Ledger,
    now: datetime,
    *,
    run: str = "",
) -> list[Outcome]:
    """Derives, computes, checks, stores and publishes what is new of some symbols, under a lease of them.

    A symbol that fails, or that another run works on, leaves the others alone. Everything that changed is stored in
    one commit a table, then published symbol by symbol, then noted in the ledger: so a run that dies at any moment is
    made good by the next.

    Args:
        run: the ledger's run that this is part of; its verdicts and revisions are noted there.
    """
    outcomes, known = [], []
    for name in symbols:
        try:
            known.append(catalog.symbol(name))
        except catalog.CatalogError as error:  # it has lost its row; its bars stay
            outcomes.append(Outcome(symbol=name, timeframe="", problem=str(error)))
    with ledger.lease([s.name for s in known], owner=owner(run)) as lease:
        for name, holder in lease.refused.items():
            problem = f"{holder.owner} is working on it, until {holder.until:%H:%M:%S} UTC at least; run again then"
            outcomes.append(Outcome(symbol=name, timeframe="", problem=problem))
        work = _Shard(
            symbols=[s for s in known if s.name in lease.symbols], timeframes=timeframes, settings=settings,
            ledger=ledger, lease=lease, now=now, run=run, tables=settings.tables(),
        )  # fmt: skip
        try:
            for tries_left in reversed(range(_TRIES)):
                try:
                    return outcomes + (work.materialize() if work.symbols else [])
                except FencedOutError:
                    lease.check()
                    if not tries_left:
                        raise
        except LeaseLost as error:
            outcomes += [
                Outcome(symbol=name, timeframe="", problem=f"{error}; nothing more was written")
                for name in lease.symbols
            ]
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

    def materialize(self) -> list[Outcome]:
        at_stage("read")
        since = {table: self.tables.version(table) for table in _VERSIONED}
        work = pending(self.symbols, self.timeframes, self.tables, self.ledger, now=self.now)
        outcomes: list[Outcome] = []
        computed = self._compute(work, outcomes)
        at_stage("store")
        created = shard.store(computed, self.tables, self.lease, since=since, now=self.now)
        at_stage("publish")
        outcomes += self._publish(computed, work)
        at_stage("note")
        self._note(computed, outcomes, created)
        at_stage("end")
        return outcomes

    def _compute(self, work: Pending, outcomes: list[Outcome]) -> list[shard.Computed]:
        limits = shard.Limits(
            max_bad_share=self.settings.max_bad_share, min_completeness=self.settings.min_completeness
        )
        found: list[shard.Computed] = []
        for job, history in read_histories(work.jobs, self.tables):
            name, tf = job.symbol.name, job.timeframe.name
            try:
                try:
                    found.append(shard.compute(job, history, now=self.now, limits=limits))
                except TailTooShort:
                    found.append(shard.compute(job, whole_history(job, self.tables), now=self.now, limits=limits))
            except shard.Stopped as stopped:
                shard.store_rejected(stopped.quarantine, job, self.tables)
                if self.run:
                    said = noted_verdict(stopped.verdict, stopped.kind, self.run, job.symbol, job.timeframe, self.now)
                    self.ledger.record(verdicts=[said])
                outcomes.append(Outcome(symbol=name, timeframe=tf, problem=str(stopped)))
            except Exception as error:  # one bad symbol never stops the others; it is reported by name
                outcomes.append(Outcome(symbol=name, timeframe=tf, problem=describe(error)))
        return found

    def _publish(self, computed: Sequence[shard.Computed], work: Pending) -> list[Outcome]:
        """Publishes what was computed, and what the online store has lost."""
        repo = self.settings.repo()
        names: dict[str, list[str]] = defaultdict(list)
        for one in computed:
            if one.bars:
                names[one.job.timeframe.name].append(one.job.symbol.name)
        published: dict[tuple[str, str], bool | str] = {}
        closes = {(m.symbol, m.timeframe): m.event_us for m in work.done}
        with connect(online_url(repo), repo.redis_type) as client:
            for tf in dict.fromkeys(tf for _, tf in closes):
                held = {symbol: us for (symbol, t), us in closes.items() if t == tf and us}
                names[tf] += lost_views(client, repo.project, catalog.timeframe(tf), held)
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
        done = [self._outcome(m.symbol, m.timeframe, None, closes, published) for m in work.done]
        return done + [self._outcome(c.job.symbol.name, c.job.timeframe.name, c, closes, published) for c in computed]

    def _outcome(
        self,
        symbol: str,
        timeframe: str,
        one: shard.Computed | None,
        closes: dict[tuple[str, str], int],
        published: dict[tuple[str, str], bool | str],
    ) -> Outcome:
        key = symbol, timeframe
        close_us, took = closes.get(key), published.get(key, False)
        session, spec = catalog.symbol(symbol).session, catalog.timeframe(timeframe)
        return Outcome(
            symbol=symbol,
            timeframe=timeframe,
            bars=one.bars if one else 0,
            stored=one.feature_changes.stored if one else 0,
            revised=one.feature_changes.revised if one else 0,
            unchanged=one.feature_changes.unchanged if one else 0,
            quarantined=sum(len(rows) for rows in one.quarantine) if one else 0,
            published=took is True,
            as_of=datetime.fromtimestamp(close_us / 1e6, UTC) if close_us else None,
            age_bars=bars_behind(session, spec, close_us, int(self.now.timestamp() * 1e6)) if close_us else None,
            problem=took if isinstance(took, str) else "",
        )

    def _note(self, computed: Sequence[shard.Computed], outcomes: Sequence[Outcome], created: datetime) -> None:
        """Moves the watermarks of what is stored and published; the rest is done again by the next run."""
        failed = {(o.symbol, o.timeframe) for o in outcomes if o.problem}
        rows = [
            Watermark(
                symbol=one.job.symbol.name,
                timeframe=one.job.timeframe.name,
                event_us=one.event_us or 0,
                seen_us=one.job.seen_us,
                recipe=RECIPE,
            )
            for one in computed
            if (one.job.symbol.name, one.job.timeframe.name) not in failed
        ]
        self.ledger.advance(self.lease, rows)
        if self.run:
            notes = [shard.noted(one, self.run, self.now, created) for one in computed]
            self.ledger.record(
                verdicts=[v for verdicts, _ in notes for v in verdicts],
                revisions=[r for _, revisions in notes for r in revisions],
            )


def describe(error: Exception) -> str:
    """An error as an outcome tells it."""
    return f"{type(error).__name__}: {error}"


@task(name="materialize-shard", task_run_name="{label}", retries=2, retry_delay_seconds=[2, 10])
def materialize_shard(
    label: str,  # noqa: ARG001  # the task run's name
    symbols: list[str],
    timeframes: list[str],
    now: datetime,
    run: str,
) -> list[Outcome]:
    """One shard of symbols, wherever the task runner puts it; settings are read there."""
    settings = load_settings()
    return materialize_symbols(symbols, timeframes, settings, settings.ledger(), now, run=run)


@flow(name="materialize", task_runner=ThreadPoolTaskRunner(max_workers=4))  # type: ignore[arg-type]
def materialize(symbols: list[str] | None = None, timeframes: list[str] | None = None) -> list[Outcome]:
    """Computes, checks, stores and publishes what is new of every symbol that has bars.

    Args:
        symbols: only these; every symbol with stored bars when not given.
        timeframes: only these; all that can be had when not given.

    Returns:
        One outcome a symbol and timeframe, symbols by name, timeframes from the shortest. A symbol that was asked for
        and has no bars has one without a timeframe, which says so.

    Raises:
        CatalogError: a symbol or timeframe is not in the catalog; nothing has been written then.
    """
    settings, now = load_settings(), datetime.now(UTC)
    ledger = settings.ledger()
    asked = list(dict.fromkeys(catalog.symbol(name).name for name in symbols or ()))
    frames = [catalog.timeframe(tf).name for tf in timeframes] if timeframes else list(catalog.TIMEFRAMES)
    names = asked or list(known_symbols(settings.tables(), ledger))
    run = ledger.begin("materialize", parameters={"symbols": symbols, "timeframes": timeframes}, flow_run=flow_run_id())
    shards = [names[i : i + settings.shard_size] for i in range(0, len(names), settings.shard_size)]
    futures = {materialize_shard.submit(_label(part), part, frames, now, run): part for part in shards}
    outcomes: list[Outcome] = []
    done = 0
    for future in as_completed(list(futures)):
        part = futures[future]
        try:
            outcomes += future.result()
        except Exception as error:  # the other shards go on
            outcomes += [Outcome(symbol=name, timeframe="", problem=describe(error)) for name in part]
        done += len(part)
        ledger.touch(run)
        log.info("%d of %d symbols", done, len(names), extra={"done": done, "total": len(names)})
    answered = {outcome.symbol for outcome in outcomes}
    nothing = f"no stored bars give {', '.join(frames)}: ingest some first"
    outcomes += [Outcome(symbol=name, timeframe="", problem=nothing) for name in asked if name not in answered]
    order = {tf: i for i, tf in enumerate(["", *catalog.TIMEFRAMES])}
    outcomes.sort(key=lambda o: (o.symbol, order[o.timeframe]))
    _report(outcomes, ledger, run)
    return outcomes


def flow_run_id() -> str:
    """Prefect's id of the run that this is; empty outside of one."""
    from prefect.runtime import flow_run

    return str(flow_run.id or "")


def _report(outcomes: Sequence[Outcome], ledger: Ledger, run: str) -> None:
    problems = [f"{o.symbol} {o.timeframe}".strip() + f": {o.problem}" for o in outcomes if o.problem]
    for problem in problems:
        log.error("stopped %s", problem)
    counts = {
        name: sum(getattr(o, name) for o in outcomes)
        for name in ("bars", "stored", "revised", "quarantined", "published")
    }
    ledger.end(run, state="stopped" if problems else "completed", counts=counts, problems=problems)
    if outcomes:
        create_table_artifact(
            key="materialize",
            table=[{k: str(v) if isinstance(v, datetime) else v for k, v in asdict(o).items()} for o in outcomes],
            description="Bars made anew, rows stored, quarantined and published, and each symbol's freshness in bars",
        )


def _label(symbols: Sequence[str]) -> str:
    return symbols[0] if len(symbols) == 1 else f"{symbols[0]} to {symbols[-1]} ({len(symbols)})"
