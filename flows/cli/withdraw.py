"""``fstore withdraw`` and ``fstore sources``: bars taken back, and where the stored ones came from."""

from __future__ import annotations

from dataclasses import asdict
from datetime import UTC, datetime
from typing import Annotated

import typer

from feature_repo import catalog
from flows.cli import show
from flows.cli.arguments import AsJson, check_names, check_range, moment
from flows.cli.jobs import materialized, print_outcomes
from flows.settings import load_settings


def withdraw(
    symbol: Annotated[str, typer.Argument(help="Such as EUR/USD.")],
    reason: Annotated[str, typer.Option(help="Why; it is kept with the bars.")],
    timeframe: Annotated[str | None, typer.Option(help="Only bars of this timeframe.")] = None,
    start: Annotated[str | None, typer.Option(help="First open time; naive is UTC.")] = None,
    end: Annotated[str | None, typer.Option(help="Last open time; a date alone means that whole day.")] = None,
    source: Annotated[
        str,
        typer.Option(help="Only bars from this source: its digest, or how it begins; see `fstore sources`."),
    ] = "",
    as_json: AsJson = False,
) -> None:
    """Take back bars that should never have been, and compute again what depends on them.

    They become revisions: what was known before stays readable. The same bars do not come back with their source.
    """
    from flows.ingest.withdraw import withdraw as run

    check_names([symbol], [timeframe] if timeframe else None)
    first, last = moment(start, "--start"), moment(end, "--end", end=True)
    check_range(first, last)
    settings = load_settings()
    with show.err.status(f"withdrawing bars of {symbol}"):
        withdrawn = run(
            catalog.symbol(symbol),
            reason=reason,
            timeframe=timeframe,
            start=first,
            end=last,
            source=source,
            tables=settings.tables(),
            ledger=settings.ledger(),
            now=datetime.now(UTC),
        )
    outcomes = materialized([symbol], None, settings)
    if as_json:
        show.dump({"withdrawn": [asdict(each) for each in withdrawn], "computed": [asdict(each) for each in outcomes]})
    else:
        rows = [
            asdict(each) | {"span": f"{each.first_open:%Y-%m-%d} to {each.last_open:%Y-%m-%d}"} for each in withdrawn
        ]
        columns = {
            "name": "symbol",
            "span": "open time (UTC)",
            "bars": "withdrawn",
            "replaced": "as before it",
        }
        show.table("Withdrawn", [show.named(row) for row in rows], columns)
        print_outcomes(outcomes)
    if any(outcome.problem for outcome in outcomes):
        raise typer.Exit(1)


def sources(
    symbol: Annotated[str, typer.Argument(help="Such as EUR/USD.")],
    as_json: AsJson = False,
) -> None:
    """List the sources that a symbol's stored bars came from."""
    from flows.inspect.sources import sources_of

    check_names([symbol], None)
    settings = load_settings()
    rows = [asdict(source) for source in sources_of(catalog.symbol(symbol), settings.tables(), settings.ledger())]
    if as_json:
        show.dump(rows)
        return
    for row in rows:
        row["digest"] = row["digest"][:16] or "unknown"
    columns = {
        "timeframe": "timeframe",
        "digest": "source",
        "name": "name",
        "bars": "bars",
        "first_open": "first (UTC)",
        "last_open": "last (UTC)",
        "written": "written (UTC)",
    }
    show.table(f"Sources of {symbol}", rows, columns)
