"""Options and arguments that several commands share, and the checks of their values."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from typing import Annotated

import typer

from feature_repo import catalog
from fsclient.errors import InvalidRequestError
from fsclient.questions.arguments import moment as when

TIMEFRAMES = ", ".join(catalog.TIMEFRAMES)

AsJson = Annotated[bool, typer.Option("--json", help="Print JSON, with all digits.")]
Symbol = Annotated[str, typer.Argument(help="A symbol, such as EUR/USD.")]
Symbols = Annotated[list[str] | None, typer.Option("--symbol", help="Only this symbol; may be repeated.")]
Timeframe = Annotated[str, typer.Option(help=f"The bars' timeframe: {TIMEFRAMES}.")]
Timeframes = Annotated[list[str] | None, typer.Option("--timeframe", help="Only this timeframe; may be repeated.")]
Port = Annotated[int, typer.Option(help="Port to listen on; 0 for any free port.", min=0, max=65535)]
Host = Annotated[str, typer.Option(help="Address to listen on; one that other machines can reach requires a key.")]

START_HELP = "First open time; naive times are UTC."
END_HELP = "Last open time, inclusive; a date alone means that whole day."


def check_names(symbols: Sequence[str] | None, timeframes: Sequence[str] | None) -> None:
    """Refuses names that are not in the catalog.

    Raises:
        CatalogError: names the offender and the nearest known name.
    """
    for name in symbols or ():
        catalog.symbol(name)
    for name in timeframes or ():
        catalog.timeframe(name)


def moment(text: str | None, option: str, *, end: bool = False) -> datetime | None:
    """A date or time as typed: naive means UTC, a date alone as an ``end`` means that whole day; None stays None.

    Raises:
        InvalidRequestError: it is not a date; the message names the option.
    """
    return when(text, option, end=end).to_pydatetime() if text else None


def check_range(start: datetime | None, end: datetime | None) -> None:
    """Refuses a range that ends before it starts.

    Raises:
        InvalidRequestError: ``start`` is later than ``end``.
    """
    if start and end and start > end:
        raise InvalidRequestError(f"--start {start.isoformat()} is later than --end {end.isoformat()}")
