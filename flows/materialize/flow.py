"""The batch flow in Prefect: symbols in shards, each a task that may be retried, and the report of the run."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime

from prefect import flow
from prefect.assets import materialize as materializing
from prefect.client.schemas.objects import State

from feature_repo import catalog
from flows.engine.artifacts import show_freshness, show_gate, show_outcomes
from flows.engine.assets import BARS, note_views, views
from flows.engine.names import flow_run_id, name_run, rename_run, run_name
from flows.engine.parameters import Symbols, Timeframes, symbols_asked, timeframes_asked
from flows.engine.shards import run_shards
from flows.engine.states import final_state
from flows.ledger import Run
from flows.materialize.stages import materialize_symbols
from flows.runs.outcome import Outcome, conclude, in_order, problems_of
from flows.runs.plan import known_symbols
from flows.settings import load_settings

_WAIT_S = 120.0  # runs of several timeframes begin together, and a symbol is one run's at a time


@dataclass(frozen=True, slots=True, kw_only=True)
class ShardRun:
    """What a shard's task returns: its outcomes, and the gate's reports (Markdown) of what it stopped or rejected."""

    outcomes: Sequence[Outcome]
    reports: Sequence[str]


# The one place where a run tries again: what it calls does not, nor does the flow. A try costs what is left to do.
@materializing(
    *views(catalog.TIMEFRAMES),
    asset_deps=[BARS],
    by="fstore",
    name="materialize-shard",
    task_run_name="{label}",
    retries=2,
    retry_delay_seconds=[2, 10],
)
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
        Run(id=run, ledger=settings.ledger(), tables=settings.tables(), now=now),
        symbols,
        timeframes,
        settings,
        wait_s=_WAIT_S,
        report=lambda verdict: reports.append(verdict.as_markdown()),
    )
    note_views(outcomes)
    return ShardRun(outcomes=outcomes, reports=reports)


@flow(name="materialize", flow_run_name=lambda: name_run("materialize"))
def materialize(symbols: Symbols = None, timeframes: Timeframes = None) -> State[list[Outcome]]:
    """Computes, checks, stores and publishes what is new. What a run did not get to, the next one does.

    Args:
        symbols: only these; by default every symbol with stored bars.
        timeframes: only these; by default every timeframe that a symbol can have.

    Returns:
        ``Completed`` or ``Stopped``, with one outcome per symbol and timeframe, symbols by name, timeframes from the
        shortest. A symbol that was asked for and has no bars has one without a timeframe, which says so.

    Raises:
        CatalogError: a symbol or timeframe is not in the catalog; nothing has been written then.
    """
    settings, now = load_settings(), datetime.now(UTC)
    ledger, tables = settings.ledger(), settings.tables()
    asked, frames = symbols_asked(symbols), timeframes_asked(timeframes)
    names = asked or list(known_symbols(tables, ledger))
    outcomes: list[Outcome] = []
    reports: list[str] = []
    parameters = {"symbols": symbols, "timeframes": timeframes}
    with ledger.run("materialize", tables=tables, now=now, parameters=parameters, flow_run=flow_run_id()) as run:
        for part, result in run_shards(
            materialize_shard.with_options(assets=views(frames)),
            names,
            {"timeframes": frames, "now": now, "run": run.id},
            size=settings.shard_size,
            runner=settings.task_runner,
            run=run,
            again_here=True,
        ):
            if isinstance(result, Exception):
                outcomes += [Outcome.stopped(name, result) for name in part]
            else:
                outcomes += result.outcomes
                reports += result.reports
        answered = {outcome.symbol for outcome in outcomes}
        nothing = f"no stored bars make {', '.join(frames)}: ingest some first"
        outcomes += [Outcome.stopped(name, nothing) for name in asked if name not in answered]
        outcomes = in_order(outcomes)
        newest = max((outcome.as_of for outcome in outcomes if outcome.as_of), default=None)
        rename_run(run_name("materialize", names, frames, newest))
        conclude(run, outcomes)
    show_outcomes("materialize", outcomes)
    show_gate(reports)
    show_freshness(outcomes)
    published = sum(outcome.published for outcome in outcomes)
    return final_state(f"{published} views published", problems_of(outcomes), outcomes)
