"""Commands about stored data: backfill, verify, explain, maintain, gaps."""

from __future__ import annotations

import secrets
from collections.abc import Sequence
from dataclasses import asdict
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Annotated

import typer

from feature_repo import catalog
from feature_repo.moments import to_us
from flows.cli import findings, show
from flows.cli.arguments import (
    END_HELP,
    START_HELP,
    AsJson,
    Symbol,
    Symbols,
    Timeframe,
    Timeframes,
    check_names,
    check_range,
    moment,
)
from flows.settings import Settings, load_settings
from flows.stack.configuration import configure_prefect, prefect_engine
from fsclient.errors import InvalidRequestError

if TYPE_CHECKING:
    from flows.runs.outcome import Outcome
    from flows.verify.symbol import Parity


def backfill(
    start: Annotated[str, typer.Option(help=f"{START_HELP} All of history by default.")] = "",
    end: Annotated[str, typer.Option(help=END_HELP)] = "",
    symbol: Symbols = None,
    timeframe: Timeframes = None,
    restart: Annotated[bool, typer.Option("--restart", help="Discard the progress of an unfinished backfill.")] = False,
    as_json: AsJson = False,
) -> None:
    """Recompute and store bars and indicators of a range; after an interruption, run it again to continue."""
    first, last = _range(start, end)
    check_names(symbol, timeframe)
    settings = load_settings()
    before = 0 if restart else _done_before(symbol, timeframe, first, last, settings)
    with prefect_engine(settings):
        from flows.backfill.flow import backfill as flow
        from flows.engine.states import result_of
    if before and not as_json:
        show.line(f"Continuing: {before} series are done already; --restart recomputes them too.", to=show.err)
    with prefect_engine(settings), show.progress("backfill"):
        outcomes: list[Outcome] = result_of(
            flow(start=first, end=last, symbols=symbol, timeframes=timeframe, restart=restart, return_state=True)
        )
    if as_json:
        show.dump([asdict(o) for o in outcomes])
    elif not outcomes:
        show.out.print("Nothing to backfill. Load bars with [cyan]fstore ingest FILE --symbol … --timeframe …[/]")
    else:
        columns = {"name": "symbol", "bars": "computed", "stored": "stored", "revised": "revised",
                   "unchanged": "unchanged", "quarantined": "quarantined", "published": "published",
                   "as_of": "as of (UTC)"}  # fmt: skip
        show.table("Backfilled: recomputed, stored where different", [show.named(asdict(o)) for o in outcomes], columns)
    _fail([(o.symbol, o.timeframe, o.problem) for o in outcomes if o.problem], "stopped")


def verify(
    symbol: Symbols = None,
    timeframe: Timeframes = None,
    sample: Annotated[int | None, typer.Option(help="Verify only this many symbols, chosen at random.", min=1)] = None,
    seed: Annotated[int | None, typer.Option(help="Seed of that choice; printed, so that it can be repeated.")] = None,
    as_json: AsJson = False,
) -> None:
    """Compare online, offline and recomputed values; a series that differs is put in doubt and the command fails."""
    check_names(symbol, timeframe)
    settings = load_settings()
    chosen_seed = secrets.randbelow(1_000_000) if seed is None else seed
    with prefect_engine(settings):
        from flows.engine.states import result_of
        from flows.verify.flow import verify as flow
        from flows.verify.symbol import unproven

        with show.progress("verify"):
            parities: list[Parity] = result_of(
                flow(symbols=symbol, timeframes=timeframe, sample=sample, seed=chosen_seed, return_state=True)
            )
    if as_json:
        show.dump(
            {
                "sample": sample,
                "seed": chosen_seed if sample else None,
                "series": [asdict(parity) for parity in parities],
            }
        )
    else:
        findings.print_parity(parities, sample, chosen_seed)
    _fail([(parity.symbol, parity.timeframe, parity.reason) for parity in unproven(parities)], "in doubt")


def explain(
    symbol: Symbol,
    feature: Annotated[str, typer.Argument(help="A bar column such as close, or an indicator's value such as rsi_14.")],
    timeframe: Timeframe = "1h",
    at: Annotated[str, typer.Option(help="The bar that had closed by this time; the newest by default.")] = "",
    as_json: AsJson = False,
) -> None:
    """Show where a value comes from, its revisions, and whether the stores agree on it."""
    from feature_repo.stores.redis.connection import connect, online_url
    from flows.inspect.explain import explain as run

    settings = load_settings()
    repo, now = settings.repo(), datetime.now(UTC)
    with connect(online_url(repo), repo.redis_type) as client:
        explanation = run(
            symbol,
            feature,
            timeframe,
            at=moment(at, "--at"),
            tables=settings.tables(),
            ledger=settings.ledger(),
            client=client,
            project=repo.project,
            now=now,
        )
    if as_json:
        show.dump(asdict(explanation))
    else:
        findings.print_explanation(explanation)


def maintain(
    file_days: Annotated[float, typer.Option(help="Days to keep files that no current version needs.")] = 7,
    quarantine_days: Annotated[float, typer.Option(help="Days to keep rejected rows.")] = 365,
    history_days: Annotated[float, typer.Option(help="Days to keep ended runs and their records in the ledger.")] = 90,
    as_json: AsJson = False,
) -> None:
    """Compact and vacuum the offline tables, prune quarantine and ledger; runs and readers may continue meanwhile."""
    settings = load_settings()
    try:
        from flows.maintain import Retention

        Retention(
            files=timedelta(days=file_days),
            quarantine=timedelta(days=quarantine_days),
            history=timedelta(days=history_days),
        )
    except (ValueError, OverflowError) as error:
        raise InvalidRequestError(str(error)) from None
    with prefect_engine(settings):
        from flows.engine.states import result_of
        from flows.maintain import Maintained
        from flows.maintain import maintain as flow

        with show.progress("maintain"):
            upkeep: list[Maintained] = result_of(
                flow(file_days=file_days, quarantine_days=quarantine_days, history_days=history_days, return_state=True)
            )
    if as_json:
        show.dump([asdict(table) for table in upkeep])
        return
    columns = {"table": "table", "partitions": "months rewritten", "removed": "files before", "added": "files after",
               "rewritten_rows": "rows rewritten", "deleted_files": "files deleted",
               "deleted_rows": "rows deleted", "version": "version"}  # fmt: skip
    show.table("Maintained", [asdict(table) for table in upkeep], columns)


def gaps(
    symbols: Annotated[
        list[str] | None, typer.Argument(help="Symbols such as EUR/USD; all that have bars by default.")
    ] = None,
    timeframe: Timeframe = "1h",
    start: Annotated[str, typer.Option(help="Only gaps that end after this time; naive times are UTC.")] = "",
    end: Annotated[str, typer.Option(help="Only gaps that start by this time; a date alone is that whole day.")] = "",
    show_all: Annotated[bool, typer.Option("--all", help="Also list breaks while the market was closed.")] = False,
    as_json: AsJson = False,
) -> None:
    """Show where bars are missing, and whether a single symbol or a whole feed lacked them."""
    from flows.inspect.gaps import report_gaps
    from flows.runs.plan import known_symbols

    check_names(symbols, [timeframe])
    first, last = _range(start, end)
    settings = load_settings()
    tables = settings.tables()
    known = known_symbols(tables, settings.ledger())
    with show.err.status("reading"):
        report = report_gaps(
            symbols or known, known, catalog.timeframe(timeframe), tables, start_us=_us(first), end_us=_us(last)
        )
    findings.print_gaps(report, show_all=show_all, as_json=as_json)
    _fail([(name, timeframe, problem) for name, problem in report.problems.items()], "stopped")


# ------------------------------------------------------------------------------------------------- the steps


def _range(start: str, end: str) -> tuple[datetime | None, datetime | None]:
    first, last = moment(start, "--start"), moment(end, "--end", end=True)
    check_range(first, last)
    return first, last


def _done_before(
    symbols: list[str] | None,
    timeframes: list[str] | None,
    start: datetime | None,
    end: datetime | None,
    settings: Settings,
) -> int:
    """How many series of an unfinished backfill with the same arguments are done."""
    configure_prefect(settings)  # before Prefect is imported
    from flows.backfill.span import backfill_key, span_of

    frames = timeframes or [*catalog.TIMEFRAMES]
    return len(settings.ledger().backfill_done(backfill_key(symbols, frames, span_of(start, end))))


def _us(when: datetime | None) -> int | None:
    return None if when is None else to_us(when)


def _fail(problems: Sequence[tuple[str, str, str]], state: str) -> None:
    for symbol, timeframe, why in problems:
        show.problem(symbol, timeframe, why, state=state)
    if problems:
        raise typer.Exit(1)
