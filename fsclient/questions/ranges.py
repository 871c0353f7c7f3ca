"""What a caller asks of a range of bars, checked before anything is read."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from functools import lru_cache
from typing import Any, TypeAlias

import pandas as pd

from feature_repo.catalog import BAR_FIELDS, TIMEFRAMES, Symbol, Timeframe
from feature_repo.moments import When
from fsclient.computed.computable import Computable
from fsclient.computed.find import computable
from fsclient.errors import InvalidRequestError
from fsclient.questions.arguments import fields_of, list_of, moment, symbol_of, timeframe_of
from fsclient.questions.latest import LatestRequest


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

    @property
    def span(self) -> RangeRequest:
        """The range of bars: this request itself."""
        return self

    @property
    def pairs(self) -> frozenset[tuple[str, str]]:
        """The symbol with its timeframe."""
        return frozenset({(self.symbol.name, self.timeframe.name)})


@dataclass(frozen=True, slots=True, kw_only=True)
class ComputeRequest:
    """A feature to compute over a range, with all of its parameters; ``span.columns`` are the bars' own.

    Attributes:
        feature: the name by which it was asked for.
    """

    feature: str
    what: Computable
    parameters: Mapping[str, Any]
    span: RangeRequest
    key: str

    @property
    def pairs(self) -> frozenset[tuple[str, str]]:
        """The symbol with its timeframe."""
        return self.span.pairs


Request: TypeAlias = LatestRequest | RangeRequest | ComputeRequest


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
        InvalidRequestError: several symbols, an unknown timeframe, a column of another timeframe, an unreadable date,
            or start after end.
    """
    names = None if columns is None else list_of(columns, "indicators")
    folds = getattr(start, "fold", 0), getattr(end, "fold", 0), getattr(as_known_at, "fold", 0)
    arguments = (symbol, start, end, timeframe, names, as_known_at, folds)
    try:
        return _range_request(*arguments)
    except TypeError:  # something that cannot be a dictionary's key; the checks name it
        return _range_request.__wrapped__(*arguments)


# A strategy asks the same questions all day. Looked up by type too, as a date is equal to a midnight of NumPy's, and by
# fold: of two equal datetimes one is an hour later, when clocks go back.
@lru_cache(maxsize=2048, typed=True)
def _range_request(
    symbol: object,
    start: When,
    end: When,
    timeframe: object,
    columns: tuple[str, ...] | None,
    as_known_at: When | None,
    _folds: tuple[int, ...],
) -> RangeRequest:
    first, last = moment(start, "start_date"), moment(end, "end_date", end=True)
    if first > last:
        raise InvalidRequestError(f"start_date {first} is after end_date {last}; both ends are inclusive")
    known = None if as_known_at is None else moment(as_known_at, "as_known_at")
    of, tf = symbol_of(symbol), timeframe_of(timeframe)
    for name in columns or ():
        _check_timeframe(name, tf)
    fields = BAR_FIELDS if columns is None else fields_of(columns)
    what = "|".join(["range", str(first.value), str(last.value), str(known and known.value), *fields])
    return RangeRequest(
        symbol=of,
        timeframe=tf,
        start=first,
        end=last,
        columns=fields,
        as_known_at=known,
        key=f"{of.name}|{tf.name}|{what}",
    )


def _check_timeframe(column: object, timeframe: Timeframe) -> None:
    prefix, colon, field = str(column).rpartition(":")
    if colon and prefix in TIMEFRAMES:
        elsewhere = "" if prefix == timeframe.name else f" with timeframe={prefix!r} in another call"
        raise InvalidRequestError(
            f"{column!r}: all columns of a range are of its own timeframe, here {timeframe.name}, because a row is one "
            f"bar; ask for {field!r}{elsewhere}, or use get_latest, which mixes timeframes"
        )


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
    complete = what.with_parameters(parameters)
    key = (
        f"{span.symbol.name}|{span.timeframe.name}|compute|{what.identity}|{sorted(complete.items())!r}"
        f"|{span.start.value}|{span.end.value}"
    )
    return ComputeRequest(feature=str(feature), what=what, parameters=complete, span=span, key=key)


def closed_part(request: RangeRequest, now_us: int) -> RangeRequest:
    """The range without bars that have not closed: one that a clock ahead of ours has stored is not known yet."""
    last = pd.Timestamp(now_us - request.timeframe.microseconds, unit="us", tz="UTC").as_unit("us")
    return request if request.end <= last else replace(request, end=last)
