"""Parameters of the deployed flows: their types are the JSON schema that Prefect's form is made of."""

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
"""A timeframe of the catalog, likewise."""
