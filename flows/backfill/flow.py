"""Backfill in Prefect: symbols in shards, their progress shown, what is done remembered for a call after a break."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

from prefect import flow, task
from prefect.artifacts import create_progress_artifact, update_progress_artifact
from prefect.client.schemas.objects import State

from feature_repo import catalog
from feature_repo.stores.redis.connection import connect, online_url
from flows.backfill.span import Span, backfill_key, span_of
from flows.backfill.symbol import backfill_symbol
from flows.engine.names import flow_run_id
from flows.engine.report import report
from flows.engine.shards import run_shards
from flows.engine.states import final_state
from flows.runs.outcome import Outcome, describe, in_order, problems_of
from flows.runs.plan import known_symbols
from flows.settings import load_settings

_STEPS = 16  # a small backfill shows its progress in about so many steps
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
) -> State[list[Outcome]]:
    """Computes and stores the bars and indicators of a range anew; called again after a break, it goes on from there.

    Args:
        start, end: open times of the first and last bar, both inclusive (UTC); all of history when not given.
        symbols: only these; every symbol with stored bars when not given.
        timeframes: only these; all that can be had when not given.
        restart: forget what an unfinished backfill of the same arguments has done.

    Returns:
        ``Completed`` or ``Stopped``, with one outcome a symbol and timeframe that this call worked on, symbols by name,
        timeframes from the shortest.

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
    outcomes = [Outcome(symbol=name, timeframe="", problem=_NO_BARS) for name in asked if name not in known]
    artifact: Any = create_progress_artifact(progress=0.0, key="backfill-progress", description="symbols backfilled")
    for part, found in run_shards(
        backfill_shard, names, {"timeframes": frames, "span": span, "key": key, "now": now, "run": run},
        size=min(settings.shard_size, -(-len(names) // _STEPS)) or 1, runner=settings.task_runner, ledger=ledger,
        run=run, told=lambda done: update_progress_artifact(artifact, progress=100 * done / len(names)),
    ):  # fmt: skip
        failure = isinstance(found, Exception)
        outcomes += [Outcome(symbol=name, timeframe="", problem=describe(found)) for name in part] if failure else found
    if not any(outcome.problem for outcome in outcomes):
        ledger.forget_backfill(key)  # it is finished: the same command is a new backfill from now on
    outcomes = in_order(outcomes)
    report("backfill", outcomes, ledger, run)
    did = f"{sum(o.stored + o.revised for o in outcomes)} rows written"
    return final_state(did, problems_of(outcomes), outcomes)
