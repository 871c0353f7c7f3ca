"""From values to the frames that callers get: their provenance, how long they may be repeated, what is withheld."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime
from typing import Any

import numpy as np
import pandas as pd

from feature_repo.catalog import BAR_FIELDS, Symbol, Timeframe
from feature_repo.freshness import bars_behind, next_close
from feature_repo.kernel_inputs import kernel_inputs
from feature_repo.stores.codec import FloatArray
from fsclient.completeness import find_missing
from fsclient.compute import Computable
from fsclient.errors import StaleDataError
from fsclient.frames import Int64Array, latest_frame, range_frame
from fsclient.offline import RangeValues
from fsclient.online import NO_BAR, LatestValues
from fsclient.provenance import KEY, Provenance, Source, iso
from fsclient.request import ComputeRequest, LatestRequest, RangeRequest

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
        ages: (n,) float64 bars, NaN where there is no bar.
    """

    request: LatestRequest
    values: FloatArray
    event_us: Int64Array
    ages: FloatArray
    record: Provenance

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

    def frame(self) -> pd.DataFrame:
        """A new frame with its own memory."""
        return range_frame(self.values.opens_us, self.values.columns, self.names, self.record.as_dict())


Answer = LatestAnswer | RangeAnswer


def latest_answer(request: LatestRequest, found: LatestValues, now_us: int, *, source: Source) -> LatestAnswer:
    """A lookup's answer."""
    event_us = found.event_us[:, request.own].min(axis=1)
    ages = _ages(request, event_us, now_us)
    missing = _missing_values(request, found)
    known = event_us[event_us != NO_BAR]
    record = Provenance(
        source=source,
        origin=source,
        as_of=iso(int(known.min())) if len(known) else None,
        age_bars=_oldest(ages),
        complete=not missing,
        missing=missing,
    )
    return LatestAnswer(request=request, values=found.values, event_us=event_us, ages=ages, record=record)


def range_answer(
    request: RangeRequest, values: RangeValues, now_us: int, *, source: Source, names: tuple[str, ...] | None = None
) -> RangeAnswer:
    """A range's answer."""
    missing = find_missing(request, values, now_us)
    event_us = int(values.opens_us[-1]) + request.timeframe.microseconds if len(values.opens_us) else NO_BAR
    record = Provenance(
        source=source,
        origin=source,
        as_of=None if event_us == NO_BAR else iso(event_us),
        age_bars=_age(request.symbol, request.timeframe, event_us, now_us),
        complete=not missing,
        missing=missing,
    )
    return RangeAnswer(values=values, names=names or request.columns, record=record)


def computed_values(what: Computable, request: ComputeRequest, bars: RangeValues) -> RangeValues:
    """The feature over the bars, cut to the range that was asked for."""
    span = request.span
    inputs = kernel_inputs(span.symbol.session, bars.opens_us, {name: bars.columns[name] for name in BAR_FIELDS})
    found = what.run(inputs, request.parameters)
    first = np.searchsorted(bars.opens_us, span.start.value // 1000, side="left")
    return RangeValues(opens_us=bars.opens_us[first:], columns={name: values[first:] for name, values in found.items()})


def _missing_values(request: LatestRequest, found: LatestValues) -> tuple[dict[str, Any], ...]:
    empty = np.isnan(found.values)
    if not empty.any():
        return ()
    missing: list[dict[str, Any]] = []
    for i, j in zip(*np.nonzero(empty), strict=True):
        no_data = found.event_us[i, j] == NO_BAR
        reason = "no_data" if no_data else "warm_up" if found.stored[i, j] else "not_stored"
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
    """How long an answer may be repeated: until the next bar closes, if publishes are heard until then."""
    if not hearing:
        return UNHEARD_S
    if record.as_of is None:
        return ABSENT_S
    if isinstance(request, LatestRequest):
        pairs = {(s.session, v.timeframe) for s in request.symbols for v, _ in request.columns}
    else:
        span = request.span if isinstance(request, ComputeRequest) else request
        if span.end.value // 1000 < _as_of_us(record.as_of):  # a bar that comes later opens after the range
            return CLOSED_S
        pairs = {(span.symbol.session, span.timeframe)}
    until_s = min(next_close(session, tf, now_us) - now_us for session, tf in pairs) / 1e6
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
        events = answer["event_timestamp"].to_numpy(dtype="datetime64[us]").astype(np.int64)
        answer["age_bars"] = ages = _ages(request, events, now_us)
        record["age_bars"] = _oldest(ages)
    else:
        span = request.span if isinstance(request, ComputeRequest) else request
        record["age_bars"] = _age(span.symbol, span.timeframe, _as_of_us(record["as_of"]), now_us)
    return answer


def withhold_expired(answer: pd.DataFrame, max_age_bars: int) -> None:
    """Takes out what is older than the caller accepts: a symbol's values become NaN, told as ``expired``.

    Raises:
        StaleDataError: nothing is left; or a range that stands in for the store's is too old.
    """
    record = answer.attrs[KEY]
    if "age_bars" not in answer.columns:
        if record["stale"] and (record["age_bars"] or 0) > max_age_bars:
            raise StaleDataError(_too_old(record, max_age_bars))
        return
    expired = answer["age_bars"].to_numpy() > max_age_bars
    if not expired.any():
        return
    if expired.all():
        raise StaleDataError(_too_old(record, max_age_bars))
    features = [name for name in answer.columns if name not in ("event_timestamp", "age_bars")]
    answer.loc[expired, features] = np.nan
    record["missing"] = [*record["missing"], *({"symbol": s, "reason": "expired"} for s in answer.index[expired])]
    record["complete"] = False
    kept = answer["age_bars"][~expired].max()
    record["age_bars"] = None if np.isnan(kept) else int(kept)


def _too_old(record: dict[str, Any], max_age_bars: int) -> str:
    return (
        f"the answer is of {record['as_of']}, {record['age_bars']} bars old, and max_age_bars is {max_age_bars}; "
        "see `fstore status` for what is late"
    )


# ----------------------------------------------------------------------------------------------------- times


def _age(symbol: Symbol, timeframe: Timeframe, event_us: int, now_us: int) -> int | None:
    return None if event_us == NO_BAR else bars_behind(symbol.session, timeframe, event_us, now_us)


def _ages(request: LatestRequest, event_us: Int64Array, now_us: int) -> FloatArray:
    pairs = zip(request.symbols, event_us.tolist(), strict=True)
    ages = [_age(symbol, request.timeframe, us, now_us) for symbol, us in pairs]
    return np.array([np.nan if age is None else age for age in ages], dtype=np.float64)


def _oldest(ages: FloatArray) -> int | None:
    known = ages[~np.isnan(ages)]
    return int(known.max()) if len(known) else None


def _as_of_us(as_of: str | None) -> int:
    return NO_BAR if as_of is None else round(datetime.fromisoformat(as_of).timestamp() * 1e6)
