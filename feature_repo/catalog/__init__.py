"""What exists, as data: timeframes, sessions, symbols, indicators, and the views made of them.

Everything else loops over these tables. Every name of a view, field, source or service is made here once and
looked up here afterwards; no other module builds a name or takes one apart. To add a symbol, an indicator or a
timeframe, add a row.
"""

from __future__ import annotations

from feature_repo.catalog.errors import CatalogError, did_you_mean
from feature_repo.catalog.indicators import (
    BAR_FIELDS,
    INDICATOR_FIELDS,
    INDICATORS,
    PRODUCER,
    Indicator,
    field_names,
)
from feature_repo.catalog.symbols import SESSIONS, SYMBOLS, Session, Symbol, symbol
from feature_repo.catalog.timeframes import TIMEFRAMES, Timeframe, timeframe
from feature_repo.catalog.views import (
    ENTITY,
    PROJECT,
    SERVICES,
    VIEW_KINDS,
    VIEW_OF_SOURCE,
    VIEWS,
    WINDOW_BARS,
    WINDOW_FIELDS,
    WINDOW_TIME,
    View,
    ViewKind,
    view,
)

__all__ = [
    "CatalogError",
    "did_you_mean",
    "TIMEFRAMES",
    "Timeframe",
    "timeframe",
    "SESSIONS",
    "Session",
    "SYMBOLS",
    "Symbol",
    "symbol",
    "INDICATORS",
    "Indicator",
    "BAR_FIELDS",
    "INDICATOR_FIELDS",
    "PRODUCER",
    "field_names",
    "VIEWS",
    "VIEW_KINDS",
    "VIEW_OF_SOURCE",
    "View",
    "ViewKind",
    "view",
    "ENTITY",
    "PROJECT",
    "SERVICES",
    "WINDOW_BARS",
    "WINDOW_FIELDS",
    "WINDOW_TIME",
]
