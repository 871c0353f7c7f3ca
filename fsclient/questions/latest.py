"""A lookup of newest values, checked, with all that can be prepared for it before anything is read."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache

import numpy as np

from feature_repo import catalog
from feature_repo.catalog import BAR_FIELDS, Symbol, Timeframe, View
from feature_repo.stores.redis.codec import doubt_key, field_key, timestamp_key
from fsclient.errors import InvalidRequestError
from fsclient.frames import Int64Array, LatestLayout
from fsclient.questions.arguments import fields_of, list_of, symbol_of, timeframe_of

_HOUR_US = 3_600_000_000
_LISTS = (list, tuple)


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class LatestRequest:
    """The newest values of some features of some symbols.

    Attributes:
        names: the features as they were asked for, ``"4h:sma_200"`` for one of another timeframe.
        columns: for each of them the view and the field.
        views: the distinct views of ``columns``.
        at: (m,) int64, which of ``views`` each column is of.
        fields: the hash fields to read: of the columns, of the views' timestamps, of the timeframes' doubts.
        own: which of ``views`` are of the request's own timeframe; all when none is.
        by_timeframe: which of ``views`` are of each timeframe.
        pairs: every symbol with every timeframe that is asked of it.
        tick_us: bars of all its timeframes close on whole multiples of it, microseconds.
        layout: of the answer's frames.
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
    tick_us: int
    layout: LatestLayout


def latest_request(symbols: Sequence[str] | str, features: Iterable[str], timeframe: object) -> LatestRequest:
    """A checked lookup; a feature may name its own timeframe (``"4h:sma_200"``).

    Raises:
        UnknownSymbolError, UnknownFeatureError: a name is not in the catalog.
        InvalidRequestError: an unknown timeframe, nothing asked for, or one thing asked for twice.
    """
    names, asked = _tuple_of(symbols, "symbols"), _tuple_of(features, "features")
    try:
        return _latest_request(names, asked, timeframe)
    except TypeError:  # something that cannot be a dictionary's key; the checks name it
        return _latest_request.__wrapped__(names, asked, timeframe)


def _tuple_of(names: Iterable[str] | str, what: str) -> tuple[str, ...]:
    if isinstance(names, str):
        return (names,)
    return tuple(names) if type(names) in _LISTS else list_of(names, what)


@lru_cache(maxsize=2048)  # a strategy asks the same questions all day
def _latest_request(symbols: tuple[str, ...], features: tuple[str, ...], timeframe: object) -> LatestRequest:
    own = timeframe_of(timeframe)
    names, columns = _columns(features, own)
    known = tuple(symbol_of(name) for name in symbols)
    for what, asked in (("symbol", [symbol.name for symbol in known]), ("feature", names)):
        if not asked:
            raise InvalidRequestError(f"no {what} was asked for; name at least one, such as EUR/USD and rsi_14")
        if len(set(asked)) != len(asked):
            raise InvalidRequestError(f"{what} {next(n for n in asked if asked.count(n) > 1)!r} was asked for twice")
    views = tuple(dict.fromkeys(view for view, _ in columns))
    by_timeframe: dict[Timeframe, list[int]] = {}
    for i, view in enumerate(views):
        by_timeframe.setdefault(view.timeframe, []).append(i)
    return LatestRequest(
        symbols=known,
        timeframe=own,
        names=tuple(names),
        columns=tuple(columns),
        key=_key(known, own, names, only_own=set(by_timeframe) <= {own}),
        views=views,
        at=np.array([views.index(view) for view, _ in columns]),
        fields=(
            *(field_key(view.name, field) for view, field in columns),
            *(timestamp_key(view.name) for view in views),
            *(doubt_key(tf.name) for tf in by_timeframe),
        ),
        own=np.array(by_timeframe.get(own) or range(len(views))),
        by_timeframe={tf: np.array(at) for tf, at in by_timeframe.items()},
        pairs=frozenset((s.name, tf.name) for s in known for tf in by_timeframe),
        tick_us=min(_HOUR_US, *(tf.microseconds for tf in by_timeframe)),
        layout=LatestLayout([s.name for s in known], names),
    )


def _columns(features: Iterable[str], own: Timeframe) -> tuple[list[str], list[tuple[View, str]]]:
    names: list[str] = []
    columns: list[tuple[View, str]] = []
    for asked in features:
        prefix, colon, rest = str(asked).rpartition(":")
        tf = timeframe_of(prefix) if colon else own
        for field in fields_of((rest,)):
            names.append(f"{prefix}:{field}" if colon else field)
            columns.append((catalog.view("ohlcv" if field in BAR_FIELDS else "indicators", tf.name), field))
    return names, columns


def _key(symbols: Sequence[Symbol], own: Timeframe, names: Sequence[str], *, only_own: bool) -> str:
    """See ``RangeRequest``."""
    about = "|".join(["latest", own.name, *names])
    if len(symbols) == 1:
        return f"{symbols[0].name}|{own.name if only_own else '*'}|{about}"
    return f"*|{about}|of|" + "|".join(s.name for s in symbols)
