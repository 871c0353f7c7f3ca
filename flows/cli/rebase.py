"""``fstore rebase``: stored bars brought into another basis, and everything that depends on them computed again."""

from __future__ import annotations

from dataclasses import asdict
from datetime import UTC, datetime
from typing import Annotated

import typer

from feature_repo import catalog
from flows.cli import show
from flows.cli.arguments import AsJson, Timeframes, check_names, moment
from flows.cli.jobs import materialized, print_outcomes
from flows.settings import load_settings
from fsclient.errors import InvalidRequestError


def rebase(
    symbol: Annotated[str, typer.Argument(help="Such as NVDA.")],
    factor: Annotated[float, typer.Option(help="What prices are multiplied by: 0.1 after a split of 10 for 1.")],
    before: Annotated[str, typer.Option(help="Bars that open before this moment; naive is UTC.")],
    volume_factor: Annotated[float, typer.Option(help="What volumes are multiplied by: 10 after that split.")] = 1.0,
    timeframe: Timeframes = None,  # every ingested one
    as_json: AsJson = False,
) -> None:
    """Bring stored bars into another basis, as after a split, and compute again what depends on them.

    The bars become revisions; what was known before stays readable.
    """
    from flows.ingest.rebase import rebase as run

    check_names([symbol], timeframe)
    for option, value in (("--factor", factor), ("--volume-factor", volume_factor)):
        if not 0 < value < float("inf"):
            raise InvalidRequestError(f"{option} must be a number above zero, not {value:g}")
    settings = load_settings()
    with show.err.status(f"rebasing {symbol}"):
        rebased = run(
            catalog.symbol(symbol),
            factor=factor,
            volume_factor=volume_factor,
            before=moment(before, "--before") or datetime.now(UTC),
            timeframes=timeframe,
            tables=settings.tables(),
            ledger=settings.ledger(),
            now=datetime.now(UTC),
        )
    outcomes = materialized([symbol], None, settings)
    if as_json:
        show.dump({"rebased": [asdict(each) for each in rebased], "computed": [asdict(each) for each in outcomes]})
    else:
        rows = [asdict(each) | {"span": f"{each.first_open:%Y-%m-%d} to {each.last_open:%Y-%m-%d}"} for each in rebased]
        columns = {"name": "symbol", "span": "open time (UTC)", "revised": "revised"}
        show.table(f"Rebased by {factor:g}", [show.named(row) for row in rows], columns)
        print_outcomes(outcomes)
    if any(outcome.problem for outcome in outcomes):
        raise typer.Exit(1)
