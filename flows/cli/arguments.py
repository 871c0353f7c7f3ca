"""What several commands are given alike: names of the catalog, and moments."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime

from feature_repo import catalog
from fsclient.errors import InvalidRequestError


def check_names(symbols: Sequence[str] | None, timeframes: Sequence[str] | None) -> None:
    """Refuses a name that the catalog does not have.

    Raises:
        CatalogError: which one, and what was meant perhaps.
    """
    for name in symbols or ():
        catalog.symbol(name)
    for name in timeframes or ():
        catalog.timeframe(name)


def aware_moment(text: str) -> datetime:
    """A date or time as it was typed; naive means UTC.

    Raises:
        InvalidRequestError: it is none.
    """
    try:
        moment = datetime.fromisoformat(text)
    except ValueError:
        raise InvalidRequestError(f"{text!r} is no date or time; write 2024-01-31 or 2024-01-31T12:00") from None
    return moment if moment.tzinfo else moment.replace(tzinfo=UTC)
