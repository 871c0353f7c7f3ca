"""The batch flow: new bars to published features. This module and the stream flow alone know the order of stages."""

from __future__ import annotations

import logging
import time
from collections import defaultdict
from collections.abc import Callable, Sequence
from concurrent.futures.process import BrokenProcessPool
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from typing import Any

from prefect import flow
from prefect.artifacts import create_table_artifact
from prefect.assets import materialize as materializing
from prefect.futures import as_completed
from redis.exceptions import ConnectionError as RedisConnectionError
from redis.exceptions import TimeoutError as RedisTimeoutError

from feature_repo import catalog
from feature_repo.freshness import bars_behind
from feature_repo.stores.connection import connect, online_url
from feature_repo.stores.fence import FencedOutError
from feature_repo.stores.schemas import TableName
from feature_repo.stores.tables import OfflineTables
from feature_repo.stores.window import read_windows
from flows import shard
from flows.deployed.artifacts import show_freshness, show_gate
from flows.deployed.assets import BARS, note_views, views
from flows.deployed.names import name_run, rename_run, run_name
from flows.deployed.runner import task_runner
from flows.doubts import restate_doubts
from flows.history import read_histories, whole_history
from flows.increment import TailTooShort
from flows.ledger import Lease, LeaseLost, Ledger, Watermark
from flows.notes import at_stage, attempts, noted_verdict, owner
from flows.outcome import Outcome
from flows.pending import RECIPE, Pending, known_symbols, pending
from flows.publication import lost_views, publish_window
from flows.quality import Verdict
from flows.settings import Settings, load_settings

log = logging.getLogger("fstore")
_TRIES = 3  # a run that is fenced out by one that has died meanwhile reads again
_WAIT_S = 120.0  # runs of several timeframes begin together, and a symbol is one run's at a time
_PAUSE_S = 0.5
_VERSIONED: tuple[TableName, ...] = ("bars", "indicators")


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
        problem = f"{holder.owner} is working on it, until {holder.until:%H:%M:%S} UTC at least; run again then"
        outcomes.append(Outcome(symbol=name, timeframe="", problem=problem))
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
                self.tell(stopped.verdict)
                shard.store_rejected(stopped.quarantine, job, self.tables)
                if self.run:
                    said = noted_verdict(stopped.verdict, stopped.kind, self.run, job.symbol, job.timeframe, self.now)
                    self.ledger.record(verdicts=[said])
                outcomes.append(Outcome(symbol=name, timeframe=tf, problem=str(stopped)))
            except Exception as error:  # one bad symbol never stops the others; it is reported by name
                outcomes.append(Outcome(symbol=name, timeframe=tf, problem=describe(error)))
        for one in found:
            for verdict in one.verdicts.values():
                if verdict.bad_rows:
                    self.tell(verdict)
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
            restate_doubts(client, repo.project, self.ledger, [symbol.name for symbol in self.symbols])
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


@dataclass(frozen=True, slots=True, kw_only=True)
class ShardRun:
    """What a shard's task tells: its outcomes, and the gate's reports (Markdown) of what it stopped or rejected."""

    outcomes: Sequence[Outcome]
    reports: Sequence[str]


# The one place where a run tries again: what it calls does not, nor does the flow. A try costs what is left to do.
@materializing(
    *views(catalog.TIMEFRAMES), asset_deps=[BARS], by="fstore",
    name="materialize-shard", task_run_name="{label}", retries=2, retry_delay_seconds=[2, 10],
)  # fmt: skip
def materialize_shard(
    label: str,  # noqa: ARG001  # the task run's name
    symbols: list[str],
    timeframes: list[str],
    now: datetime,
    run: str,
) -> ShardRun:
    """One shard of symbols, wherever the task runner puts it; settings are read there."""
    settings, reports = load_settings(), list[str]()
    outcomes = materialize_symbols(
        symbols, timeframes, settings, settings.ledger(), now, run=run, wait_s=_WAIT_S,
        tell=lambda verdict: reports.append(verdict.as_markdown()),
    )  # fmt: skip
    note_views(outcomes)
    return ShardRun(outcomes=outcomes, reports=reports)


@flow(name="materialize", flow_run_name=lambda: name_run("materialize"))
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
    outcomes, reports = _run_shards(names, frames, settings, ledger, now, run)
    answered = {outcome.symbol for outcome in outcomes}
    nothing = f"no stored bars give {', '.join(frames)}: ingest some first"
    outcomes += [Outcome(symbol=name, timeframe="", problem=nothing) for name in asked if name not in answered]
    order = {tf: i for i, tf in enumerate(["", *catalog.TIMEFRAMES])}
    outcomes.sort(key=lambda o: (o.symbol, order[o.timeframe]))
    rename_run(run_name("materialize", names, frames, max((o.as_of for o in outcomes if o.as_of), default=None)))
    report("materialize", outcomes, ledger, run)
    show_gate(reports)
    show_freshness(outcomes)
    return outcomes


def _run_shards(
    names: Sequence[str], frames: list[str], settings: Settings, ledger: Ledger, now: datetime, run: str
) -> tuple[list[Outcome], list[str]]:
    """All shards on the task runner that is set. One whose worker died with it is done here: its work is not lost."""
    parts = [list(names[i : i + settings.shard_size]) for i in range(0, len(names), settings.shard_size)]
    task = materialize_shard.with_options(assets=views(frames))
    given: list[dict[str, Any]] = [
        {"label": label(p), "symbols": p, "timeframes": frames, "now": now, "run": run} for p in parts
    ]
    outcomes: list[Outcome] = []
    reports: list[str] = []
    done = 0
    with task_runner(settings.task_runner) as runner:
        futures = {runner.submit(task, arguments): arguments for arguments in given}
        for future in as_completed(list(futures)):
            part = futures[future]["symbols"]
            try:
                try:
                    found = future.result()
                except BrokenProcessPool:
                    found = task(**futures[future])
                outcomes += found.outcomes
                reports += found.reports
            except Exception as error:  # the other shards go on
                outcomes += [Outcome(symbol=name, timeframe="", problem=describe(error)) for name in part]
            done += len(part)
            ledger.touch(run)
            log.info("%d of %d symbols", done, len(names), extra={"done": done, "total": len(names)})
    return outcomes, reports


def flow_run_id() -> str:
    """Prefect's id of the run that this is; empty outside of one."""
    from prefect.runtime import flow_run

    return str(flow_run.id or "")


def report(kind: str, outcomes: Sequence[Outcome], ledger: Ledger, run: str) -> None:
    """Tells the log, the ledger and Prefect (a table named ``kind``) what a run did."""
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
            key=kind,
            table=[{k: str(v) if isinstance(v, datetime) else v for k, v in asdict(o).items()} for o in outcomes],
            description="Bars made anew, rows stored, quarantined and published, and each symbol's freshness in bars",
        )


def label(symbols: Sequence[str]) -> str:
    """How a shard of symbols is called."""
    return symbols[0] if len(symbols) == 1 else f"{symbols[0]} to {symbols[-1]} ({len(symbols)})"
