"""Callers' arguments as the catalog and the calendar know them: symbols, timeframes, features and dates."""

from __future__ import annotations

from collections.abc import Iterable

import pandas as pd

from feature_repo import catalog
from feature_repo.catalog import CatalogError, Symbol, Timeframe
from feature_repo.moments import When, parse_moment
from fsclient.errors import InvalidRequestError, UnknownFeatureError, UnknownSymbolError


def symbol_of(name: object) -> Symbol:
    """The symbol of that name.

    Raises:
        InvalidRequestError: it is not a name, such as a list of them.
        UnknownSymbolError: the catalog has no symbol of that name.
    """
    if not isinstance(name, str):
        raise InvalidRequestError(
            f"a symbol is one name, such as 'EUR/USD', not {name!r}; for several, ask for each in a call of its own "
            "(get_latest takes a list of names)"
        )
    try:
        return catalog.symbol(name)
    except CatalogError as error:
        raise UnknownSymbolError(str(error)) from None


def timeframe_of(name: object) -> Timeframe:
    """The timeframe of that name, or ``InvalidRequestError``."""
    try:
        return catalog.timeframe(name)  # type: ignore[arg-type]
    except CatalogError as error:
        raise InvalidRequestError(str(error)) from None


def fields_of(names: Iterable[str]) -> tuple[str, ...]:
    """The fields that ``names`` stand for, or ``UnknownFeatureError``."""
    try:
        fields = catalog.field_names(names)
    except CatalogError as error:
        raise UnknownFeatureError(str(error)) from None
    if not fields:
        raise InvalidRequestError("no feature was asked for; name at least one, such as rsi_14")
    return fields


def list_of(names: Iterable[str] | str, what: str) -> tuple[str, ...]:
    """A caller's list of names, or single name, as a list; or ``InvalidRequestError``."""
    if isinstance(names, str):
        return (names,)
    try:
        return tuple(names)
    except TypeError:
        raise InvalidRequestError(f"{what} {names!r} is not a list of names, such as ['rsi_14']") from None


def moment(value: When, what: str, *, end: bool = False) -> pd.Timestamp:
    """A caller's date as ``feature_repo.moments.parse_moment`` reads it.

    Raises:
        InvalidRequestError: it is not a date; the message names ``what``.
    """
    try:
        return parse_moment(value, end=end)
    except ValueError as error:
        raise InvalidRequestError(f"{what} {error}") from None
