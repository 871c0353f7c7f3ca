"""Parameters of flows: their types are the JSON schema that Prefect's form is made of."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Annotated, Any

from pydantic import Field

from feature_repo import catalog


def _enum(names: Iterable[str]) -> Any:
    return Field(json_schema_extra={"enum": [*names]})


SymbolName = Annotated[str, _enum(catalog.SYMBOLS)]
"""A symbol of the catalog, chosen from a list."""

TimeframeName = Annotated[str, _enum(catalog.TIMEFRAMES)]
"""A timeframe of the catalog, as the form offers it."""

Symbols = Annotated[list[SymbolName] | None, Field(title="Symbols")]
Timeframes = Annotated[list[TimeframeName] | None, Field(title="Timeframes")]


def symbols_asked(symbols: Iterable[str] | None) -> list[str]:
    """The symbols that were asked for, each once, in their order; none when all are meant.

    Raises:
        CatalogError: one is not in the catalog.
    """
    return list(dict.fromkeys(catalog.symbol(name).name for name in symbols or ()))


def timeframes_asked(timeframes: Iterable[str] | None) -> list[str]:
    """The timeframes that were asked for, from the shortest; all of the catalog when none were named.

    Raises:
        CatalogError: one is not in the catalog.
    """
    asked = {catalog.timeframe(name).name for name in timeframes or ()}
    return [name for name in catalog.TIMEFRAMES if not asked or name in asked]
