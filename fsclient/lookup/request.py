"""What a caller asks for, checked before anything is read."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import date, datetime
from functools import lru_cache
from typing import Any, TypeAlias

import numpy as np
import numpy.typing as npt
import pandas as pd

from feature_repo import catalog
from feature_repo.catalog import BAR_FIELDS, CatalogError, Symbol, Timeframe, View
from feature_repo.stores.codec import field_key, timestamp_key
from fsclient.errors import InvalidRequestError, UnknownFeatureError, UnknownSymbolError
from fsclient.lookup.compute import Computable, computable

Int64Array = npt.NDArray[np.int64]
When: TypeAlias = str | datetime | date | pd.Timestamp | np.datetime64

_DATE = re.compile(r"\s*(\d{4}([-/.])\d{1,2}\2\d{1,2}|\d{8})(?!\d)\s*", re.ASCII)
_FIRST, _LAST = pd.Timestamp("1678-01-01", tz="UTC"), pd.Timestamp("2262-01-01", tz="UTC")
_DAY_LESS_1_US = pd.Timedelta(days=1) - pd.Timedelta(microseconds=1)


@dataclass(frozen=True, slots=True, kw_only=True)
class RangeRequest:
    """Columns of one symbol and timeframe over a range of bars; both ends inclusive on ``open_time``.

    ``key`` is canonical: two requests for the same thing have the same. Those of one symbol and timeframe begin with
    ``symbol|timeframe|``, of one symbol and several with ``symbol|*|``, of several symbols with ``*|``.
    """

    symbol: Symbol
    timeframe: Timeframe
    start: pd.Timestamp
    end: pd.Timestamp
    columns: tuple[str, ...]
    as_known_at: pd.Timestamp | None = None
    key: str


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class LatestRequest:
    """The newest values of some features of some symbols.

    Attributes:
        names: the features as they were asked for, ``"4h:sma_200"`` for one of another timeframe.
        columns: for each of them the view and the field.
        views: the distinct views of ``columns``.
        at: (m,) int64, which of ``views`` each column is of.
        fields: the hash fields to read: of the columns, then of the views' timestamps.
        own: (k,) int64, the columns of the request's own timeframe; all when there is none.
        by_timeframe: the columns of each timeframe.
        pairs: every symbol with every timeframe that is asked of it.
        index, labels: the answer's row and column labels; nobody can change them.
    """

    symbols: tuple[Symbol, ...]
    timeframe: Timeframe
    names: tuple[str, ...]
    columns: tuple[tuple[View, str], ...]
    key: str
    views: tuple[View, ...]
    at: Int64Array
    fields: tuple[bytes, ...]
    own: Int64Array
    by_timeframe: Mapping[Timeframe, Int64Array]
    pairs: frozenset[tuple[str, str]]
    index: pd.Index
    labels: pd.Index


@dataclass(frozen=True, slots=True, kw_only=True)
class ComputeRequest:
    """A feature to compute over a range, with all of its parameters; ``span.columns`` are the bars' own."""

    what: Computable
    parameters: Mapping[str, Any]
    span: RangeRequest
    key: str


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
    symbol: object,
    start: When,
    end: When,
    timeframe: object,
    columns: Iterable[str] | None = None,
    as_known_at: When | None = None,
) -> RangeRequest:
    """A checked range; ``columns`` None for the bar's own.

    Raises:
        UnknownSymbolError, UnknownFeatureError: a name is not in the catalog.
        InvalidRequestError: an unknown timeframe, an unreadable date, or start after end.
    """
    names = columns if columns is None or isinstance(columns, str) else _names(columns, "indicators")
    folds = getattr(start, "fold", 0), getattr(end, "fold", 0), getattr(as_known_at, "fold", 0)
    asked = (symbol, start, end, timeframe, names, as_known_at, folds)
    try:
        return _range_request(*asked)
    except TypeError:  # something that can't be a dictionary's key; the checks name it
        return _range_request.__wrapped__(*asked)


def _names(given: Iterable[str], what: str) -> tuple[str, ...]:
    try:
        return tuple(given)
    except TypeError:
        raise InvalidRequestError(f"{what} {given!r} is no list of names, such as ['rsi_14']") from None


# A strategy asks the same questions all day. Looked up by type too, as a date is equal to a midnight of NumPy's, and by
# fold: of two equal datetimes one is an hour later, when clocks go back.
@lru_cache(maxsize=2048, typed=True)
def _range_request(
    symbol: object,
    start: When,
    end: When,
    timeframe: object,
    columns: Any,
    as_known_at: When | None,
    _folds: tuple[int, ...],
) -> RangeRequest:
    first, last = moment(start, "start_date"), moment(end, "end_date", end=True)
    if first > last:
        raise InvalidRequestError(f"start_date {first} is after end_date {last}; both ends are inclusive")
    known = None if as_known_at is None else moment(as_known_at, "as_known_at")
    found, tf = symbol_of(symbol), timeframe_of(timeframe)
    fields = BAR_FIELDS if columns is None else fields_of(columns)
    asked = "|".join(["range", str(first.value), str(last.value), str(known and known.value), *fields])
    return RangeRequest(
        symbol=found,
        timeframe=tf,
        start=first,
        end=last,
        columns=fields,
        as_known_at=known,
        key=f"{found.name}|{tf.name}|{asked}",
    )


def latest_request(symbols: Sequence[str] | str, features: Iterable[str], timeframe: object) -> LatestRequest:
    """A checked lookup; a feature may name its own timeframe (``"4h:sma_200"``).

    Raises:
        UnknownSymbolError, UnknownFeatureError, InvalidRequestError: as ``range_request``.
    """
    names = (symbols,) if isinstance(symbols, str) else _names(symbols, "symbols")
    asked = (features,) if isinstance(features, str) else _names(features, "features")
    try:
        return _latest_request(names, asked, timeframe)
    except TypeError:
        return _latest_request.__wrapped__(names, asked, timeframe)


@lru_cache(maxsize=2048)
def _latest_request(symbols: tuple[str, ...], features: tuple[str, ...], timeframe: object) -> LatestRequest:
    own = timeframe_of(timeframe)
    names: list[str] = []
    columns: list[tuple[View, str]] = []
    for asked in features:
        prefix, colon, rest = str(asked).rpartition(":")
        tf = timeframe_of(prefix) if colon else own
        for field in fields_of((rest,)):
            names.append(f"{prefix}:{field}" if colon else field)
            columns.append((catalog.view("ohlcv" if field in BAR_FIELDS else "indicators", tf.name), field))
    found = tuple(symbol_of(s) for s in symbols)
    for what, given in (("symbol", [s.name for s in found]), ("feature", names)):
        if not given:
            raise InvalidRequestError(f"no {what} was asked for; name at least one, such as EUR/USD and rsi_14")
        if len(set(given)) != len(given):
            raise InvalidRequestError(f"{what} {next(n for n in given if given.count(n) > 1)!r} was asked for twice")
    frames = {view.timeframe.name for view, _ in columns} | {own.name}
    about = "|".join(["latest", own.name, *names])
    if len(found) == 1:
        key = f"{found[0].name}|{own.name if len(frames) == 1 else '*'}|{about}"
    else:
        key = f"*|{about}|of|" + "|".join(s.name for s in found)
    views = tuple(dict.fromkeys(view for view, _ in columns))
    cells = [field_key(view.name, field) for view, field in columns]
    by_timeframe: dict[Timeframe, list[int]] = {}
    for i, (view, _) in enumerate(columns):
        by_timeframe.setdefault(view.timeframe, []).append(i)
    return LatestRequest(
        symbols=found,
        timeframe=own,
        names=tuple(names),
        columns=tuple(columns),
        key=key,
        views=views,
        at=np.array([views.index(view) for view, _ in columns]),
        fields=(*cells, *(timestamp_key(view.name) for view in views)),
        own=np.array(by_timeframe.get(own) or range(len(columns))),
        by_timeframe={tf: np.array(at) for tf, at in by_timeframe.items()},
        pairs=frozenset((s.name, tf.name) for s in found for tf in by_timeframe),
        index=_labels([s.name for s in found], "symbol"),
        labels=_labels([*names, "event_timestamp", "age_bars"]),
    )


def _labels(names: Sequence[str], name: str | None = None) -> pd.Index:
    """Labels that every answer shares, and so may not be written, not even through ``.values``."""
    labels = pd.Index(names, dtype=object, name=name)
    labels.values.flags.writeable = False
    return labels


def compute_request(
    feature: str, symbol: object, start: When, end: When, timeframe: object, parameters: Mapping[str, Any] | None
) -> ComputeRequest:
    """A checked computation.

    Raises:
        UnknownSymbolError, UnknownFeatureError, InvalidRequestError: as ``range_request``; and a parameter that the
            feature does not take.
    """
    span = range_request(symbol, start, end, timeframe)
    what = computable(feature)
    given = what.with_parameters(parameters)
    asked = f"compute|{what.identity}|{sorted(given.items())!r}"
    key = f"{span.symbol.name}|{span.timeframe.name}|{asked}|{span.start.value}|{span.end.value}"
    return ComputeRequest(what=what, parameters=given, span=span, key=key)


def closed_part(request: RangeRequest, now_us: int) -> RangeRequest:
    """The range without bars that have not closed: one that a clock ahead of ours has stored is not known yet."""
    last = pd.Timestamp(now_us - request.timeframe.microseconds, unit="us", tz="UTC").as_unit("us")
    return request if request.end <= last else replace(request, end=last)


def moment(value: When, what: str, *, end: bool = False) -> pd.Timestamp:
    """A caller's date as a UTC timestamp in whole microseconds: naive means UTC, an end date alone the whole day.

    Raises:
        InvalidRequestError: it is no date, names no day of the calendar, or lies outside of the years 1678 to 2261.
    """
    day_alone = isinstance(value, date) and not isinstance(value, datetime)
    try:
        if isinstance(value, str):
            found = _DATE.match(value)  # never guessed: 01/02/2018 is two days, and "now" is another each time
            if found is None:
                raise ValueError
            day_alone = found.end() == len(value)
        elif not isinstance(value, date | np.datetime64):
            raise TypeError
        stamp = pd.Timestamp(value)
        stamp = stamp.tz_localize("UTC") if stamp.tzinfo is None else stamp.tz_convert("UTC")
        if not _FIRST <= stamp < _LAST:
            raise ValueError
        stamp = stamp.as_unit("us")
        return stamp + _DAY_LESS_1_US if end and day_alone else stamp
    except (ValueError, TypeError, OverflowError):
        raise InvalidRequestError(
            f"{what} {value!r} is no date from 1678 to 2261; give YYYY-MM-DD, an ISO time, or a datetime"
        ) from None
