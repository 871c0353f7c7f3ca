"""From values to answers: what callers get frames of, each with the record of where it comes from."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from functools import lru_cache
from math import isnan
from typing import Any, TypeAlias

import numpy as np
import pandas as pd

from feature_repo.catalog import BAR_FIELDS
from feature_repo.stores.redis.codec import FloatArray
from fsclient.answers.ages import Ages, age_of, ages_of
from fsclient.answers.completeness import find_missing, is_complete
from fsclient.answers.values import NO_BAR, LatestValues, RangeValues
from fsclient.cache.isolation import Sealed
from fsclient.frames import Int64Array, Moments, range_frame, utc_index
from fsclient.provenance import Provenance, Source, iso
from fsclient.questions.latest import LatestRequest
from fsclient.questions.ranges import RangeRequest

_RECORD_BYTES = 1_000  # about what a provenance takes


@dataclass(frozen=True, slots=True, kw_only=True)
class LatestAnswer(Sealed):
    """A lookup's answer, from which every caller gets a frame of its own.

    Attributes:
        floats: (m + 1, n) float64, never written: one row per feature, then the ages in bars.
        read_us: the record's ``read_at``, microseconds since 1970-01-01 UTC.
        newest: the values as bytes: they differ between two bars, and after a correction of one.
        nbytes: about what it takes in memory.
    """

    request: LatestRequest
    floats: FloatArray
    moments: Moments
    record: Provenance
    read_us: int
    newest: bytes = field(init=False)
    nbytes: int = field(init=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "newest", self.floats[:-1].tobytes())
        object.__setattr__(self, "nbytes", _RECORD_BYTES + self.floats.nbytes)

    def fresh(self) -> pd.DataFrame:
        """A new frame with its own memory."""
        return self.request.layout.frame(self.floats, self.moments, self.record.as_dict())


@dataclass(frozen=True, slots=True, kw_only=True)
class RangeAnswer(Sealed):
    """A range's answer, from which every caller gets a frame of its own.

    Attributes:
        values: (m, n) float64, never written: one row per column.
        read_us: the record's ``read_at``, microseconds since 1970-01-01 UTC.
        newest: the last bar's values as bytes: they differ between two bars, and after a correction of one.
        nbytes: about what it takes in memory.
    """

    index: pd.DatetimeIndex
    names: tuple[str, ...]
    values: FloatArray
    record: Provenance
    read_us: int
    newest: bytes = field(init=False)
    nbytes: int = field(init=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "newest", self.values[:, -1:].tobytes())
        object.__setattr__(self, "nbytes", _RECORD_BYTES + self.values.nbytes + 8 * len(self.index))

    def fresh(self) -> pd.DataFrame:
        """A new frame with its own memory."""
        return range_frame(self.index, self.names, self.values, self.record.as_dict())


Answer: TypeAlias = LatestAnswer | RangeAnswer


def latest_answer(request: LatestRequest, values: LatestValues, now_us: int, *, source: Source) -> LatestAnswer:
    """A lookup's answer."""
    times = ages_of(request, values.event_us.tobytes(), now_us // request.tick_us)
    alone = len(request.symbols) == 1  # then the reader returns the same object until the stored bytes change
    floats, missing = (_table if alone else _table.__wrapped__)(request, values, times)
    record = Provenance.of_read(
        source,
        now_us,
        as_of=times.as_of,
        age_bars=times.age_bars,
        complete=not missing or is_complete(missing),
        missing=missing,
        doubt=values.doubt,
        recomputed=tuple(symbol.name for symbol in request.symbols) if source == "recomputed" else (),
    )
    return LatestAnswer(request=request, floats=floats, moments=times.moments, record=record, read_us=now_us)


def range_answer(
    request: RangeRequest,
    values: RangeValues,
    now_us: int,
    *,
    source: Source,
    names: tuple[str, ...] | None = None,
    bar_opens: Callable[[], Int64Array] | None = None,
) -> RangeAnswer:
    """A range's answer; ``bar_opens`` as ``find_missing`` takes it."""
    names = names or request.columns
    table = np.empty((len(names), len(values.opens_us)))
    for row, name in zip(table, names, strict=True):
        row[:] = values.columns[name]
    missing = find_missing(request, values, now_us, bar_opens)
    event_us = int(values.opens_us[-1]) + request.timeframe.microseconds if len(values.opens_us) else NO_BAR
    as_of = None if event_us == NO_BAR else iso(event_us)
    age_bars = age_of(request.symbol, request.timeframe, event_us, now_us)
    complete = is_complete(missing)
    record = Provenance.of_read(
        source, now_us, as_of=as_of, age_bars=age_bars, complete=complete, missing=missing, doubt=values.doubt
    )
    index = utc_index(values.opens_us, "open_time")
    return RangeAnswer(index=index, names=names, values=table, record=record, read_us=now_us)


@lru_cache(maxsize=1024)
def _table(request: LatestRequest, values: LatestValues, times: Ages) -> tuple[FloatArray, tuple[dict[str, Any], ...]]:
    """A ``LatestAnswer``'s floats, and what is missing of them."""
    n, m = values.values.shape
    floats = np.empty((m + 1, n))
    floats[:m], floats[m] = values.values.T, times.ages
    floats.flags.writeable = False
    return floats, _missing_values(request, values)


def _missing_values(request: LatestRequest, values: LatestValues) -> tuple[dict[str, Any], ...]:
    if not isnan(np.vdot(values.values, values.values)):  # a sum of squares is NaN only with a NaN among them
        return ()
    empty = np.isnan(values.values)
    missing: list[dict[str, Any]] = []
    for i, j in zip(*np.nonzero(empty), strict=True):
        if values.event_us[i, request.at[j]] == NO_BAR:
            reason = "no_data"
        elif not values.stored[i, j]:
            reason = "not_stored"
        else:  # of a bar's own fields only the volume may be unknown
            reason = "not_reported" if request.columns[j][1] in BAR_FIELDS else "warm_up"
        missing.append({"symbol": request.symbols[i].name, "feature": request.names[j], "reason": reason})
    return tuple(missing)
