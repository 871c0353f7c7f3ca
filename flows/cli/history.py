"""The commands about what is stored already: backfill, verify, explain, maintain, gaps."""

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
from flows.cli.arguments import check_names, check_range, moment
from flows.settings import Settings, load_settings
from flows.stack.configuration import configure_prefect, prefect_engine
from fsclient.errors import InvalidRequestError

if TYPE_CHECKING:
    from flows.runs.outcome import Outcome
    from flows.verify.flow import Parity

AsJson = Annotated[bool, typer.Option("--json", help="Print JSON with all digits.")]
Symbols = Annotated[list[str] | None, typer.Option("--symbol", help="Only this one; may be given again.")]
Timeframes = Annotated[list[str] | None, typer.Option("--timeframe", help="Only this one; may be given again.")]


def backfill(
    start: Annotated[str, typer.Option(help="First open time; naive means UTC. All of history when not given.")] = "",
    end: Annotated[str, typer.Option(help="Last open time, inclusive; a date alone means that whole day.")] = "",
    symbol: Symbols = None,
    timeframe: Timeframes = None,
    restart: Annotated[bool, typer.Option("--restart", help="Forget what an unfinished one has done.")] = False,
    as_json: AsJson = False,
) -> None:
    """Compute and store bars and indicators of a range anew; called again after a break, it goes on from there."""
    first, last = _range(start, end)
    check_names(symbol, timeframe)
    settings = load_settings()
    before = 0 if restart else _done_before(symbol, timeframe, first, last, settings)
    with prefect_engine(settings):
        from flows.backfill.flow import backfill as flow
        from flows.engine.states import result_of
    if before and not as_json:
        show.line(f"Taken up again: {before} of it were done before; --restart does all anew.", to=show.err)
    with prefect_engine(settings), show.progress("backfill"):
        outcomes: list[Outcome] = result_of(
            flow(start=first, end=last, symbols=symbol, timeframes=timeframe, restart=restart, return_state=True)
        )
    if as_json:
        show.dump([asdict(o) for o in outcomes])
    elif not outcomes:
        show.out.print("Nothing to backfill: [cyan]fstore ingest FILE --symbol … --timeframe …[/] brings bars.")
    else:
        columns = {"name": "symbol", "bars": "computed", "stored": "stored", "revised": "revised",
                   "unchanged": "unchanged", "quarantined": "quarantined", "published": "published",
                   "as_of": "as of (UTC)"}  # fmt: skip
        show.table(
            "Backfilled: computed anew, stored where it differs", [findings.named(asdict(o)) for o in outcomes], columns
        )
    _fail([(o.symbol, o.timeframe, o.problem) for o in outcomes if o.problem], "stopped")


def verify(
    symbol: Symbols = None,
    timeframe: Timeframes = None,
    sample: Annotated[int | None, typer.Option(help="So many symbols, chosen by chance.", min=1)] = None,
    seed: Annotated[int | None, typer.Option(help="What chance goes by; printed, to choose the same again.")] = None,
    as_json: AsJson = False,
) -> None:
    """Compare online, offline and recomputed values; what differs is in doubt, and the command fails."""
    check_names(symbol, timeframe)
    settings = load_settings()
    chance = secrets.randbelow(1_000_000) if seed is None else seed
    with prefect_engine(settings):
        from flows.engine.states import result_of
        from flows.verify.flow import failed
        from flows.verify.flow import verify as flow

        with show.progress("verify"):
            found: list[Parity] = result_of(
                flow(symbols=symbol, timeframes=timeframe, sample=sample, seed=chance, return_state=True)
            )
    if as_json:
        show.dump({"sample": sample, "seed": chance if sample else None, "series": [asdict(one) for one in found]})
    else:
        findings.print_parity(found, sample, chance)
    _fail([(one.symbol, one.timeframe, one.reason) for one in failed(found)], "in doubt")


def explain(
    symbol: Annotated[str, typer.Argument(help="Such as EUR/USD.")],
    feature: Annotated[str, typer.Argument(help="A bar column, or an indicator's value, such as rsi_14.")],
    timeframe: Annotated[str, typer.Option(help="1m, 5m, 15m, 30m, 1h, 4h or 1d.")] = "1h",
    at: Annotated[str, typer.Option(help="The bar that had closed by then; the newest when not given.")] = "",
    as_json: AsJson = False,
) -> None:
    """Where a value comes from, what was known of it when, and whether the stores agree about it."""
    from feature_repo.stores.redis.connection import connect, online_url
    from flows.inspect.explain import explain as run

    settings = load_settings()
    repo, now = settings.repo(), datetime.now(UTC)
    with connect(online_url(repo), repo.redis_type) as client:
        found = run(
            symbol, feature, timeframe, at=moment(at, "--at"), tables=settings.tables(), ledger=settings.ledger(),
            client=client, project=repo.project, now=now,
        )  # fmt: skip
    if as_json:
        show.dump(asdict(found))
    else:
        findings.print_explanation(found)


def maintain(
    file_days: Annotated[float, typer.Option(help="How long files that no current version needs are kept.")] = 7,
    quarantine_days: Annotated[float, typer.Option(help="How long rejected rows are kept.")] = 365,
    history_days: Annotated[float, typer.Option(help="How long ended runs and their notes are kept.")] = 90,
    as_json: AsJson = False,
) -> None:
    """Compact and vacuum the offline tables, prune quarantine and ledger; runs and readers go on meanwhile."""
    settings = load_settings()
    try:
        from flows.maintain import Retention

        Retention(
            files=timedelta(days=file_days), quarantine=timedelta(days=quarantine_days),
            history=timedelta(days=history_days),
        )  # fmt: skip
    except (ValueError, OverflowError) as error:
        raise InvalidRequestError(str(error)) from None
    with prefect_engine(settings):
        from flows.maintain import maintain as flow

        with show.progress("maintain"):
            done = flow(file_days=file_days, quarantine_days=quarantine_days, history_days=history_days)
    if as_json:
        show.dump([asdict(one) for one in done])
        return
    columns = {"table": "table", "partitions": "months rewritten", "removed": "files before", "added": "files after",
               "deleted_files": "files deleted", "deleted_rows": "rows deleted", "version": "version"}  # fmt: skip
    show.table("Maintained", [asdict(one) for one in done], columns)


def gaps(
    symbols: Annotated[list[str] | None, typer.Argument(help="Such as EUR/USD; all with bars when not given.")] = None,
    timeframe: Annotated[str, typer.Option(help="1m, 5m, 15m, 30m, 1h, 4h or 1d.")] = "1h",
    start: Annotated[str, typer.Option(help="Only gaps that reach beyond; naive means UTC.")] = "",
    end: Annotated[str, typer.Option(help="Only gaps that begin by then; a date alone means that whole day.")] = "",
    show_all: Annotated[bool, typer.Option("--all", help="Breaks while the market was closed too.")] = False,
    as_json: AsJson = False,
) -> None:
    """Where bars are missing, and whether it was one symbol or the whole feed."""
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
    """How many symbols and timeframes of an unfinished backfill of the same arguments are done."""
    configure_prefect(settings)  # before Prefect is imported
    from flows.backfill.span import backfill_key, span_of

    frames = timeframes or [*catalog.TIMEFRAMES]
    return len(settings.ledger().backfill_done(backfill_key(symbols, frames, span_of(start, end))))


def _us(when: datetime | None) -> int | None:
    return None if when is None else to_us(when)


def _fail(problems: Sequence[tuple[str, str, str]], what: str) -> None:
    for symbol, timeframe, why in problems:
        show.line((what, "bold red"), f" {symbol} {timeframe}".rstrip() + f": {why}", to=show.err)
    if problems:
        raise typer.Exit(1)
