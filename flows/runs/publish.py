"""From a symbol's stored rows to its three online views, in one atomic write.

What is published is read back from the offline store, so that online and offline hold the same bits.
"""

from __future__ import annotations

from collections.abc import Mapping
from functools import cache
from typing import Any

from feature_repo.catalog import VIEW_KINDS, WINDOW_TIME, Timeframe, view
from feature_repo.stores.redis.codec import encode_arrays, encode_doubles, field_key, read_revision
from feature_repo.stores.redis.presence import whole_views
from feature_repo.stores.redis.publish import ViewRow, publish
from feature_repo.stores.window import Window


def view_rows(timeframe: Timeframe, window: Window) -> tuple[ViewRow, ...]:
    """The ``ohlcv``, ``indicators`` and ``window`` rows of a symbol's window; the scalars are its last values."""
    rows = []
    for name, is_window, fields in _layout(timeframe.name):
        columns = [window.columns[field] for field in fields.values()]
        encoded = encode_arrays(columns) if is_window else encode_doubles([column[-1] for column in columns])
        values = dict(zip(fields, encoded, strict=True))
        rows.append(ViewRow(view=name, event_us=window.event_us, created_us=window.created_us, values=values))
    return tuple(rows)


@cache
def _layout(timeframe: str) -> tuple[tuple[str, bool, Mapping[bytes, str]], ...]:
    """The views of a timeframe: name, whether it holds windows, and the online store's keys of its fields."""
    views = [view(kind, timeframe) for kind in VIEW_KINDS]
    return tuple((v.name, v.is_window, {field_key(v.name, field): field for field in v.fields}) for v in views)


def publish_window(
    client: Any, project: str, symbol: str, timeframe: Timeframe, window: Window, *, fence: int | None = None
) -> bool:
    """Publishes a window. Returns whether the online store took it; False: it holds all of that or something newer.

    Raises:
        FencedOutError: a later run, with a higher fence, has published the symbol.
    """
    if not len(window.columns[WINDOW_TIME]):
        return False
    return any(publish(client, project, symbol, view_rows(timeframe, window), fence=fence))


def lost_views(client: Any, project: str, closes_us: Mapping[tuple[str, str], int]) -> list[tuple[str, str]]:
    """The symbols and timeframes for which the online store lacks anything that was published, even one field: it was
    emptied, replaced by another, or partly deleted.

    Args:
        closes_us: symbol and timeframe -> close of the newest bar that was published, microseconds since 1970-01-01
            UTC.
    """
    whole = whole_views(client, project, closes_us)
    return [
        key
        for key, close_us in closes_us.items()
        if key not in whole or any(read_revision(revision)[0] < close_us for revision in whole[key])
    ]
