"""From a symbol's newest rows to its three online views, in one atomic write."""

from __future__ import annotations

from typing import Any

from feature_repo.catalog import VIEW_KINDS, WINDOW_TIME, Timeframe, view
from feature_repo.stores.codec import encode_array, encode_double, field_key
from feature_repo.stores.publish import ViewRow, publish
from feature_repo.stores.window import Window


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


def publish_window(client: Any, project: str, symbol: str, timeframe: Timeframe, window: Window) -> bool:
    """Publishes a window. Returns whether the online store took it; False: it holds that or something newer."""
    if not len(window.columns[WINDOW_TIME]):
        return False
    return any(publish(client, project, symbol, view_rows(timeframe, window)))
