"""From a symbol's stored rows to its three online views, in one atomic write.

What is published is read back from the offline store, so that online and offline hold the same bits.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from feature_repo.catalog import VIEW_KINDS, WINDOW_TIME, Timeframe, view
from feature_repo.stores.delta.window import Window
from feature_repo.stores.redis.codec import encode_array, encode_double, field_key, read_revision
from feature_repo.stores.redis.presence import whole_views
from feature_repo.stores.redis.publish import ViewRow, publish


def view_rows(timeframe: Timeframe, window: Window) -> tuple[ViewRow, ...]:
    """The ``ohlcv``, ``indicators`` and ``window`` rows of a symbol's window; the scalars are its last values."""
    rows = []
    for kind in VIEW_KINDS:
        spec = view(kind, timeframe.name)
        values = {
            field_key(spec.name, name): (
                encode_array(window.columns[name]) if spec.is_window else encode_double(float(window.columns[name][-1]))
            )
            for name in spec.fields
        }
        rows.append(ViewRow(view=spec.name, event_us=window.event_us, created_us=window.created_us, values=values))
    return tuple(rows)


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
    """The symbols and timeframes of which the online store lacks what was published, be it one field: it was emptied,
    is another one, or somebody deleted some of it.

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
