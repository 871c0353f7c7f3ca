"""What a caller asks for, checked before anything is read."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import date, datetime
from typing import TypeAlias

import pandas as pd

from feature_repo import catalog
from feature_repo.catalog import BAR_FIELDS, CatalogError, Symbol, Timeframe, View
from fsclient.errors import InvalidRequestError, UnknownFeatureError, UnknownSymbolError

When: TypeAlias = str | datetime | date | pd.Timestamp

_DATE_ALONE = re.compile(r"\s*\d{4}-\d{1,2}-\d{1,2}\s*|\s*\d{8}\s*", re.ASCII)


@dataclass(frozen=True, slots=True, kw_only=True)
class RangeRequest:
    """Columns of one symbol and timeframe over a range of bars; both ends inclusive on ``open_time``."""

    symbol: Symbol
    timeframe: Timeframe
    start: pd.Timestamp
    end: pd.Timestamp
    columns: tuple[str, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class LatestRequest:
    """The newest values of some features of some symbols.

    Attributes:
        names: the features as they were asked for, ``"4h:sma_200"`` for one of another timeframe.
        columns: for each of them the view and the field.
    """

    symbols: tuple[Symbol, ...]
    timeframe: Timeframe
    names: tuple[str, ...]
    columns: tuple[tuple[View, str], ...]


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


def range_request(
    symbol: object, start: When, end: When, timeframe: object, columns: Iterable[str] | None = None
) -> RangeRequest:
    """A checked range; ``columns`` None for the bar's own.

    Raises:
        UnknownSymbolError, UnknownFeatureError: a name is not in the catalog.
        InvalidRequestError: an unknown timeframe, an unreadable date, or start after end.
    """
    first, last = moment(start, "start_date"), moment(end, "end_date", end=True)
    if first > last:
        raise InvalidRequestError(f"start_date {first} is after end_date {last}; both ends are inclusive")
    return RangeRequest(
        symbol=symbol_of(symbol),
        timeframe=timeframe_of(timeframe),
        start=first,
        end=last,
        columns=BAR_FIELDS if columns is None else fields_of(columns),
    )


def latest_request(symbols: Sequence[str] | str, features: Iterable[str], timeframe: object) -> LatestRequest:
    """A checked lookup; a feature may name its own timeframe (``"4h:sma_200"``).

    Raises:
        UnknownSymbolError, UnknownFeatureError, InvalidRequestError: as ``range_request``.
    """
    if isinstance(symbols, str):
        symbols = (symbols,)
    if isinstance(features, str):
        features = (features,)
    own = timeframe_of(timeframe)
    names: list[str] = []
    columns: list[tuple[View, str]] = []
    for asked in features:
        prefix, colon, rest = str(asked).rpartition(":")
        tf = timeframe_of(prefix) if colon else own
        for field in fields_of((rest,)):
            names.append(f"{prefix}:{field}" if colon else field)
            columns.append((catalog.view("ohlcv" if field in BAR_FIELDS else "indicators", tf.name), field))
    if not names:
        raise InvalidRequestError("no feature was asked for; name at least one, such as close or rsi_14")
    if len(set(names)) != len(names):
        twice = next(n for n in names if names.count(n) > 1)
        raise InvalidRequestError(f"feature {twice!r} was asked for twice")
    return LatestRequest(
        symbols=tuple(symbol_of(s) for s in symbols), timeframe=own, names=tuple(names), columns=tuple(columns)
    )


def moment(value: When, what: str, *, end: bool = False) -> pd.Timestamp:
    """A caller's date as a UTC timestamp in whole microseconds: naive means UTC, an end date alone the whole day.

    Raises:
        InvalidRequestError: it is no date.
    """
    whole_day = (isinstance(value, str) and _DATE_ALONE.fullmatch(value) is not None) or (
        isinstance(value, date) and not isinstance(value, datetime)
    )
    try:
        stamp = pd.Timestamp(value)
        if stamp is pd.NaT:
            raise ValueError
        stamp = stamp.tz_localize("UTC") if stamp.tzinfo is None else stamp.tz_convert("UTC")
        stamp = stamp.as_unit("us")
        return stamp + pd.Timedelta(days=1) - pd.Timedelta(microseconds=1) if end and whole_day else stamp
    except (ValueError, TypeError, OverflowError):
        raise InvalidRequestError(f"{what} {value!r} is no date; give YYYY-MM-DD, an ISO time, or a datetime") from None
