"""From values to the frames that callers get: their provenance, how long they may be repeated, what is withheld."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd

from feature_repo.catalog import BAR_FIELDS, Symbol, Timeframe
from feature_repo.freshness import bars_behind, next_close
from feature_repo.kernel_inputs import kernel_inputs
from feature_repo.stores.codec import FloatArray
from fsclient.errors import StaleDataError
from fsclient.lookup.completeness import find_missing, is_complete
from fsclient.lookup.frames import Int64Array, latest_frame, range_frame
from fsclient.lookup.offline import RangeValues
from fsclient.lookup.online import NO_BAR, LatestValues
from fsclient.lookup.request import ComputeRequest, LatestRequest, RangeRequest
from fsclient.provenance import KEY, Provenance, Source, from_iso, iso

Request = LatestRequest | RangeRequest | ComputeRequest

SETTLE_S = 5.0
"""A bar that closed should be published within so many seconds; until then a late answer is asked for again."""
UNHEARD_S = 1.0
"""How long an answer is repeated while publishes cannot be heard."""
ABSENT_S = 2.0
"""How long a symbol without data is remembered as such."""
CLOSED_S = 3600.0
"""How long a range is repeated that can only change by a correction, which is heard."""


# -------------------------------------------------------------------------------------------------- building


@dataclass(frozen=True, slots=True, kw_only=True)
class LatestAnswer:
    """A lookup's answer, from which every caller gets a frame of his own.

    Attributes:
        event_us: (n,) int64, close of each symbol's bar at the request's own timeframe, the oldest if views differ.
        ages: (n,) float64, how many bars the oldest of a symbol's values is behind, each told in bars of its own
            timeframe; NaN where there is no bar.
    """

    request: LatestRequest
    values: FloatArray
    event_us: Int64Array
    ages: FloatArray
    record: Provenance

    @property
    def nbytes(self) -> int:
        return self.values.nbytes

    @property
    def newest(self) -> tuple[Any, ...]:
        """What tells it from an answer of another bar, or of a correction of this one."""
        return self.record.as_of, self.values.tobytes()

    def frame(self) -> pd.DataFrame:
        """A new frame with its own memory."""
        request = self.request
        return latest_frame(request.index, request.labels, self.values, self.event_us, self.ages, self.record.as_dict())


@dataclass(frozen=True, slots=True, kw_only=True)
class RangeAnswer:
    """A range's answer, from which every caller gets a frame of his own."""

    values: RangeValues
    names: tuple[str, ...]
    record: Provenance

    @property
    def nbytes(self) -> int:
        return self.values.opens_us.nbytes * (1 + len(self.names))

    @property
    def newest(self) -> tuple[Any, ...]:
        """What tells it from an answer of another bar, or of a correction of its last one."""
        return self.record.as_of, *(column[-1:].tobytes() for column in self.values.columns.values())

    def frame(self) -> pd.DataFrame:
        """A new frame with its own memory."""
        return range_frame(self.values.opens_us, self.values.columns, self.names, self.record.as_dict())


Answer = LatestAnswer | RangeAnswer


def latest_answer(request: LatestRequest, found: LatestValues, now_us: int, *, source: Source) -> LatestAnswer:
    """A lookup's answer."""
    event_us = found.event_us[:, request.own].min(axis=1)
    ages = _ages(request, found.event_us, now_us)
    missing = _missing_values(request, found)
    known = event_us[event_us != NO_BAR]
    if not len(known):
        known = found.event_us[found.event_us != NO_BAR]
    record = Provenance(
        source=source,
        origin=source,
        read_at=iso(now_us),
        as_of=iso(int(known.min())) if len(known) else None,
        age_bars=_oldest(ages),
        complete=is_complete(missing),
        missing=missing,
    )
    return LatestAnswer(request=request, values=found.values, event_us=event_us, ages=ages, record=record)


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
    missing = find_missing(request, values, now_us, bar_opens)
    event_us = int(values.opens_us[-1]) + request.timeframe.microseconds if len(values.opens_us) else NO_BAR
    record = Provenance(
        source=source,
        origin=source,
        read_at=iso(now_us),
        as_of=None if event_us == NO_BAR else iso(event_us),
        age_bars=_age(request.symbol, request.timeframe, event_us, now_us),
        complete=is_complete(missing),
        missing=missing,
    )
    return RangeAnswer(values=values, names=names or request.columns, record=record)


def computed_values(request: ComputeRequest, bars: RangeValues) -> RangeValues:
    """The feature over the bars, cut to the range that was asked for."""
    span = request.span
    inputs = kernel_inputs(span.symbol.session, bars.opens_us, {name: bars.columns[name] for name in BAR_FIELDS})
    found = request.what.run(inputs, request.parameters)
    first = np.searchsorted(bars.opens_us, span.start.value // 1000, side="left")
    return RangeValues(opens_us=bars.opens_us[first:], columns={name: values[first:] for name, values in found.items()})


def _missing_values(request: LatestRequest, found: LatestValues) -> tuple[dict[str, Any], ...]:
    empty = np.isnan(found.values)
    if not empty.any():
        return ()
    missing: list[dict[str, Any]] = []
    for i, j in zip(*np.nonzero(empty), strict=True):
        if found.event_us[i, j] == NO_BAR:
            reason = "no_data"
        elif not found.stored[i, j]:
            reason = "not_stored"
        else:  # of a bar's own fields only the volume may be unknown
            reason = "not_reported" if request.columns[j][1] in BAR_FIELDS else "warm_up"
        missing.append({"symbol": request.symbols[i].name, "feature": request.names[j], "reason": reason})
    return tuple(missing)


# ------------------------------------------------------------------------------------------------- repeating


def from_cache(answer: pd.DataFrame, request: Request, now_us: int) -> pd.DataFrame:
    """A cached answer, the caller's own already, labelled as such; its age is told as of now."""
    record = answer.attrs[KEY]
    record["source"] = "cache"
    if not isinstance(request, LatestRequest):  # a lookup is not repeated past the next close, so its age stands
        span = request.span if isinstance(request, ComputeRequest) else request
        record["age_bars"] = _age(span.symbol, span.timeframe, _as_of_us(record["as_of"]), now_us)
    return answer


def lifetime_s(request: Request, record: Provenance, now_us: int, *, hearing: bool) -> float:
    """How long an answer may be repeated: until the next bar closes, if publishes are heard until then.

    The next is the first after the answer was read: one that closed meanwhile is not in it.
    """
    if not hearing:
        return UNHEARD_S
    if record.as_of is None:
        return ABSENT_S
    if isinstance(request, LatestRequest):
        pairs = {(s.session, v.timeframe) for s in request.symbols for v, _ in request.columns}
    else:
        span = request.span if isinstance(request, ComputeRequest) else request
        end_us = span.end.value // 1000 + span.timeframe.microseconds
        as_of_us = from_iso(record.as_of)
        if end_us <= now_us and not bars_behind(span.symbol.session, span.timeframe, as_of_us, end_us):
            return CLOSED_S  # no bar can follow the last one in the range
        pairs = {(span.symbol.session, span.timeframe)}
    read_us = from_iso(record.read_at)
    until_s = min(next_close(session, tf, read_us) - now_us for session, tf in pairs) / 1e6
    if record.age_bars in (1, 2, 3):  # the bar that just closed is due any moment
        until_s = min(until_s, SETTLE_S)
    return max(until_s, 0.001)


def prefixes(changed: Iterable[tuple[str, str]]) -> set[str]:
    """The beginnings of the keys of all answers that a publish of these symbols and timeframes may have changed."""
    pairs = set(changed)
    return {"*|"} | {f"{symbol}|{tf}|" for symbol, tf in pairs} | {f"{symbol}|*|" for symbol, _ in pairs}


# --------------------------------------------------------------------------------------------- standing in


def as_last_good(answer: pd.DataFrame, request: Request, now_us: int) -> pd.DataFrame:
    """An earlier answer, labelled as such, its ages as of now."""
    record = answer.attrs[KEY]
    record |= {"source": "last_good", "stale": True}
    if isinstance(request, LatestRequest):
        answer["age_bars"] += _closed_since(request, from_iso(record["read_at"]), now_us)
        record["age_bars"] = _oldest(answer["age_bars"].to_numpy())
    else:
        span = request.span if isinstance(request, ComputeRequest) else request
        record["age_bars"] = _age(span.symbol, span.timeframe, _as_of_us(record["as_of"]), now_us)
    return answer


def withhold_expired(answer: pd.DataFrame, request: Request, max_age_bars: int, now_us: int) -> None:
    """Takes out what is older than the caller accepts: a symbol's values become NaN, told as ``expired``.

    A range is old by its nature, so it is held against the limit only when it was to reach the present.

    Raises:
        StaleDataError: nothing that is new enough is left.
    """
    record = answer.attrs[KEY]
    if not isinstance(request, LatestRequest):
        span = request.span if isinstance(request, ComputeRequest) else request
        reaches_now = span.as_known_at is None and span.end.value // 1000 + span.timeframe.microseconds > now_us
        if reaches_now and (record["age_bars"] or 0) > max_age_bars:
            raise StaleDataError(_too_old(record, max_age_bars))
        return
    ages = answer["age_bars"].to_numpy()
    expired = ages > max_age_bars
    if not expired.any():
        return
    kept = ~expired & ~np.isnan(ages)
    if not kept.any():
        raise StaleDataError(_too_old(record, max_age_bars))
    answer.iloc[expired, : len(request.names)] = np.nan
    record["missing"] = [*record["missing"], *({"symbol": s, "reason": "expired"} for s in answer.index[expired])]
    record["complete"] = False
    record["as_of"] = iso(int(answer["event_timestamp"].to_numpy(dtype="datetime64[us]")[kept].min().astype(np.int64)))
    record["age_bars"] = int(ages[kept].max())


def _too_old(record: dict[str, Any], max_age_bars: int) -> str:
    return (
        f"the answer is of {record['as_of']}, {record['age_bars']} bars old, and max_age_bars is {max_age_bars}; "
        "see `fstore status` for what is late"
    )


# ----------------------------------------------------------------------------------------------------- times


def _age(symbol: Symbol, timeframe: Timeframe, event_us: int, now_us: int) -> int | None:
    return None if event_us == NO_BAR else bars_behind(symbol.session, timeframe, event_us, now_us)


def _ages(request: LatestRequest, event_us: Int64Array, now_us: int) -> FloatArray:
    """For each symbol how many bars its oldest value is behind, each told in bars of its own timeframe."""
    ages = np.full(len(request.symbols), np.nan)
    for timeframe, at in request.by_timeframe.items():
        for i, us in enumerate(event_us[:, at].min(axis=1).tolist()):
            age = _age(request.symbols[i], timeframe, us, now_us)
            if age is not None and not age <= ages[i]:  # NaN is no less
                ages[i] = age
    return ages


def _closed_since(request: LatestRequest, read_us: int, now_us: int) -> Int64Array:
    """For each symbol how many bars have closed since a moment, at the timeframe at which it is the most."""
    return np.array(
        [
            max(bars_behind(symbol.session, tf, read_us - tf.microseconds + 1, now_us) for tf in request.by_timeframe)
            for symbol in request.symbols
        ]
    )


def _oldest(ages: FloatArray) -> int | None:
    known = ages[~np.isnan(ages)]
    return int(known.max()) if len(known) else None


def _as_of_us(as_of: str | None) -> int:
    return NO_BAR if as_of is None else from_iso(as_of)
