"""Callers' names of symbols, timeframes and features, looked up in the catalog."""

from __future__ import annotations

from collections.abc import Iterable

from feature_repo import catalog
from feature_repo.catalog import CatalogError, Symbol, Timeframe
from fsclient.errors import InvalidRequestError, UnknownFeatureError, UnknownSymbolError


def symbol_of(name: object) -> Symbol:
    """The symbol, or ``UnknownSymbolError``."""
    try:
        return catalog.symbol(name)  # type: ignore[arg-type]
    except CatalogError as error:
        raise UnknownSymbolError(str(error)) from None


def timeframe_of(name: object) -> Timeframe:
    """The timeframe, or ``InvalidRequestError``."""
    try:
        return catalog.timeframe(name)  # type: ignore[arg-type]
    except CatalogError as error:
        raise InvalidRequestError(str(error)) from None


def fields_of(names: Iterable[str]) -> tuple[str, ...]:
    """The fields that ``names`` stand for, or ``UnknownFeatureError``."""
    if isinstance(names, str):
        names = (names,)
    try:
        found = catalog.field_names(names)
    except CatalogError as error:
        raise UnknownFeatureError(str(error)) from None
    if not found:
        raise InvalidRequestError("no feature was asked for; name at least one, such as rsi_14")
    return found


def list_of(names: Iterable[str] | str, what: str) -> tuple[str, ...]:
    """Names that a caller gave together, or a single one, or ``InvalidRequestError``."""
    if isinstance(names, str):
        return (names,)
    try:
        return tuple(names)
    except TypeError:
        raise InvalidRequestError(f"{what} {names!r} is not a list of names, such as ['rsi_14']") from None
