"""The views that features are served from, and the services made of them. Names are made here and nowhere else."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Literal

from feature_repo.catalog.indicators import BAR_FIELDS, INDICATOR_FIELDS
from feature_repo.catalog.timeframes import TIMEFRAMES, Timeframe, timeframe

PROJECT = "fstore"
ENTITY = "symbol"
WINDOW_BARS = 512
"""How many closed bars the online window of a symbol and timeframe holds."""
WINDOW_TIME = "open_time"
"""The window's time column: open times of its bars, seconds since 1970-01-01 UTC, as float64 (exact to 2**53)."""
WINDOW_FIELDS: tuple[str, ...] = (WINDOW_TIME, *BAR_FIELDS, *INDICATOR_FIELDS)

ViewKind = Literal["ohlcv", "indicators", "window"]
VIEW_KINDS: tuple[ViewKind, ...] = ("ohlcv", "indicators", "window")


@dataclass(frozen=True, slots=True, kw_only=True)
class View:
    """One Feast feature view: its name, its source's name, and its fields (float64, or arrays of it in a window)."""

    name: str
    source: str
    kind: ViewKind
    timeframe: Timeframe
    fields: tuple[str, ...]

    @property
    def is_window(self) -> bool:
        return self.kind == "window"


_FIELDS: Mapping[ViewKind, tuple[str, ...]] = {
    "ohlcv": BAR_FIELDS,
    "indicators": INDICATOR_FIELDS,
    "window": WINDOW_FIELDS,
}

VIEWS: Mapping[str, View] = MappingProxyType(
    {
        v.name: v
        for tf in TIMEFRAMES.values()
        for kind in VIEW_KINDS
        for v in (
            View(
                name=f"{kind}_{tf.name}",
                source=f"{kind}_{tf.name}_source",
                kind=kind,
                timeframe=tf,
                fields=_FIELDS[kind],
            ),
        )
    }
)
VIEW_OF_SOURCE: Mapping[str, View] = MappingProxyType({v.source: v for v in VIEWS.values()})
_VIEW_OF: Mapping[tuple[ViewKind, str], View] = {(v.kind, v.timeframe.name): v for v in VIEWS.values()}


def view(kind: ViewKind, timeframe_name: str) -> View:
    """The view of a kind at a timeframe."""
    return _VIEW_OF[kind, timeframe(timeframe_name).name]


SERVICES: Mapping[str, tuple[str, ...]] = MappingProxyType(
    {
        # everything of one timeframe, newest closed bar; and a mix of timeframes as a strategy reads them
        **{f"latest_{tf}": (f"ohlcv_{tf}", f"indicators_{tf}") for tf in TIMEFRAMES},
        **{f"window_service_{tf}": (f"window_{tf}",) for tf in TIMEFRAMES},
    }
)
"""Feature services: name -> the views they serve."""
