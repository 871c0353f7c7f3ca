"""What several commands are given alike: names of the catalog, and moments."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime

from feature_repo import catalog
from fsclient.errors import InvalidRequestError
from fsclient.questions.arguments import moment as when


def check_names(symbols: Sequence[str] | None, timeframes: Sequence[str] | None) -> None:
    """Refuses a name that the catalog does not have.

    Raises:
        CatalogError: which one, and what was meant perhaps.
    """
    for name in symbols or ():
        catalog.symbol(name)
    for name in timeframes or ():
        catalog.timeframe(name)


def moment(text: str | None, option: str, *, end: bool = False) -> datetime | None:
    """A date or time as it was typed: naive means UTC, a date alone as an ``end`` that whole day. None: not given.

    Raises:
        InvalidRequestError: it is no date; the message names the option.
    """
    return when(text, option, end=end).to_pydatetime() if text else None


def check_range(start: datetime | None, end: datetime | None) -> None:
    """Refuses a range that ends before it begins.

    Raises:
        InvalidRequestError: it does.
    """
    if start and end and start > end:
        raise InvalidRequestError(f"--start {start.isoformat()} is later than --end {end.isoformat()}")
