"""From Feast's data sources to the catalog's views and the tables that hold them."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import overload

from feature_repo.catalog import BAR_FIELDS, VIEW_OF_SOURCE, View
from feature_repo.stores.schemas import Revised


def view_of(source: str) -> View:
    """The view of the source with this name.

    Raises:
        ValueError: the catalog has no such source.
    """
    try:
        return VIEW_OF_SOURCE[source]
    except KeyError:
        raise ValueError(f"{source!r} is no source of the catalog; this store reads its own tables only") from None


def table_of(view: View) -> Revised:
    """The table that holds a view's columns; a window's columns are in both."""
    return "bars" if view.fields == BAR_FIELDS else "indicators"


@overload
def open_of(view: View, close: datetime) -> datetime: ...
@overload
def open_of(view: View, close: datetime | None) -> datetime | None: ...
def open_of(view: View, close: datetime | None) -> datetime | None:
    """The open time of a view's bar that closes at ``close``; a naive moment is UTC."""
    if close is None:
        return None
    aware = close if close.tzinfo else close.replace(tzinfo=UTC)
    return aware - timedelta(seconds=view.timeframe.seconds)
