"""Backfill in Prefect: symbols in shards, their progress shown, finished work is remembered after a break."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

from prefect import flow, task
from prefect.artifacts import create_progress_artifact, update_progress_artifact
from prefect.client.schemas.objects import State

from feature_repo.stores.redis.connection import connect, online_url
from flows.backfill.span import Span, backfill_key, span_of
from flows.backfill.symbol import backfill_symbol
from flows.engine.artifacts import show_outcomes
from flows.engine.names import flow_run_id, name_run
from flows.engine.parameters import Symbols, Timeframes, symbols_asked, timeframes_asked
from flows.engine.shards import run_shards
from flows.engine.states import final_state
from flows.ledger import Run
from flows.runs.outcome import Outcome, conclude, in_order, problems_of
from flows.runs.plan import known_symbols
from flows.settings import load_settings

_STEPS = 16  # a small backfill shows its progress in about this many steps
_NO_BARS = "it has no stored bars: ingest some first"


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
    repo = settings.repo()
    work = Run(id=run, ledger=settings.ledger(), tables=settings.tables(), now=now)
    outcomes: list[Outcome] = []
    with connect(online_url(repo), repo.redis_type) as client:
        client.ping()  # before hours of work that could not be published
        for name in symbols:
            outcomes += backfill_symbol(work, name, timeframes, span, settings, client, key=key)
    return outcomes


@flow(name="backfill", flow_run_name=lambda: name_run("backfill"))
def backfill(
    start: datetime | None = None,
    end: datetime | None = None,
    symbols: Symbols = None,
    timeframes: Timeframes = None,
    restart: bool = False,
) -> State[list[Outcome]]:
    """Computes and stores the bars and indicators of a range again; run again after an interruption, it continues.

    Args:
        start: open time of the first bar (UTC), inclusive; by default the beginning of history.
        end: open time of the last bar (UTC), inclusive; by default the newest one.
        symbols: only these; by default every symbol with stored bars.
        timeframes: only these; by default every timeframe that a symbol can have.
        restart: forget what an unfinished backfill with the same parameters has done.

    Returns:
        ``Completed`` or ``Stopped``, with one outcome per symbol and timeframe that this call worked on, symbols by
        name, timeframes from the shortest.

    Raises:
        CatalogError: a symbol or timeframe is not in the catalog; nothing has been written then.
        ValueError: ``start`` is later than ``end``.
    """
    settings, now = load_settings(), datetime.now(UTC)
    ledger, tables, span = settings.ledger(), settings.tables(), span_of(start, end)
    asked, frames = symbols_asked(symbols), timeframes_asked(timeframes)
    known = known_symbols(tables, ledger)
    names = [name for name in asked if name in known] if asked else list(known)
    key = backfill_key(asked, frames, span)
    if restart:
        ledger.forget_backfill(key)
    parameters = {"start": start, "end": end, "symbols": symbols, "timeframes": timeframes, "restart": restart}
    outcomes = [Outcome.stopped(name, _NO_BARS) for name in asked if name not in known]
    with ledger.run("backfill", tables=tables, now=now, parameters=parameters, flow_run=flow_run_id()) as run:
        artifact: Any = create_progress_artifact(
            progress=0.0, key="backfill-progress", description="symbols backfilled"
        )
        for part, result in run_shards(
            backfill_shard,
            names,
            {"timeframes": frames, "span": span, "key": key, "now": now, "run": run.id},
            size=min(settings.shard_size, -(-len(names) // _STEPS)) or 1,
            runner=settings.task_runner,
            run=run,
            report=lambda done: update_progress_artifact(artifact, progress=100 * done / len(names)),
        ):
            failed = isinstance(result, Exception)
            outcomes += [Outcome.stopped(name, result) for name in part] if failed else result
        if not any(outcome.problem for outcome in outcomes):
            ledger.forget_backfill(key)  # it is finished: the same command is a new backfill from now on
        outcomes = in_order(outcomes)
        conclude(run, outcomes)
    show_outcomes("backfill", outcomes)
    written = sum(outcome.stored + outcome.revised for outcome in outcomes)
    return final_state(f"{written} rows written", problems_of(outcomes), outcomes)
