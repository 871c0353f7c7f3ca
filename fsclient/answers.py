"""From values to the frames that callers get: their provenance, how long they may be repeated, what is withheld."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from datetime import datetime
from typing import Any

import numpy as np
import pandas as pd

from feature_repo.catalog import BAR_FIELDS, Symbol, Timeframe
from feature_repo.freshness import bars_behind, next_close
from feature_repo.kernel_inputs import kernel_inputs
from fsclient.completeness import find_missing
from fsclient.compute import Computable
from fsclient.errors import StaleDataError
from fsclient.frames import latest_frame, range_frame
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


def latest_answer(request: LatestRequest, found: LatestValues, now_us: int, *, source: Source) -> pd.DataFrame:
    """A lookup's answer. ``event_timestamp`` is that of the request's own timeframe, the oldest if views differ."""
    own = [i for i, (view, _) in enumerate(request.columns) if view.timeframe is request.timeframe]
    event_us = (found.event_us[:, own] if own else found.event_us).min(axis=1)
    ages = [_age(s, request.timeframe, int(us), now_us) for s, us in zip(request.symbols, event_us, strict=True)]
    missing = _missing_values(request, found)
    known = event_us[event_us != NO_BAR]
    record = Provenance(
        source=source,
        origin=source,
        as_of=_iso(int(known.min())) if len(known) else None,
        age_bars=max((age for age in ages if age is not None), default=None),
        complete=not missing,
        missing=missing,
    )
    names = [s.name for s in request.symbols]
    floats = [np.nan if age is None else float(age) for age in ages]
    return latest_frame(names, request.names, found.values, event_us, floats, record)


def range_answer(
    request: RangeRequest, values: RangeValues, now_us: int, *, source: Source, names: Sequence[str] | None = None
) -> pd.DataFrame:
    """A range's answer."""
    missing = find_missing(request, values, now_us)
    event_us = int(values.opens_us[-1]) + request.timeframe.microseconds if len(values.opens_us) else NO_BAR
    record = Provenance(
        source=source,
        origin=source,
        as_of=None if event_us == NO_BAR else _iso(event_us),
        age_bars=_age(request.symbol, request.timeframe, event_us, now_us),
        complete=not missing,
        missing=missing,
    )
    return range_frame(values.opens_us, values.columns, names or request.columns, record)


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


def own_copy(answer: pd.DataFrame) -> pd.DataFrame:
    """A copy for one caller."""
    copied = answer.copy()  # pandas deep-copies attrs
    copied.index = answer.index[:]
    return copied


def from_cache(answer: pd.DataFrame, request: Request, now_us: int) -> pd.DataFrame:
    """A cached answer, the caller's own already, labelled as such; its age is told as of now."""
    record = answer.attrs[KEY]
    record["source"] = "cache"
    if not isinstance(request, LatestRequest):  # a lookup is not repeated past the next close, so its age stands
        span = request.span if isinstance(request, ComputeRequest) else request
        record["age_bars"] = _age(span.symbol, span.timeframe, _as_of_us(record), now_us)
    return answer


def lifetime_s(request: Request, answer: pd.DataFrame, now_us: int, *, hearing: bool) -> float:
    """How long an answer may be repeated: until the next bar closes, if publishes are heard until then."""
    if not hearing:
        return UNHEARD_S
    record = answer.attrs[KEY]
    if record["as_of"] is None:
        return ABSENT_S
    if isinstance(request, LatestRequest):
        pairs = {(s.session, v.timeframe) for s in request.symbols for v, _ in request.columns}
    else:
        span = request.span if isinstance(request, ComputeRequest) else request
        if span.end.value // 1000 + span.timeframe.microseconds <= now_us and span.end.value // 1000 <= _as_of_us(
            record
        ):
            return CLOSED_S
        pairs = {(span.symbol.session, span.timeframe)}
    until_s = min(next_close(session, tf, now_us) - now_us for session, tf in pairs) / 1e6
    if record["age_bars"] in (1, 2, 3):  # the bar that just closed is due any moment
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
        ages = [_age(s, request.timeframe, int(us), now_us) for s, us in zip(request.symbols, events, strict=True)]
        answer["age_bars"] = [np.nan if age is None else float(age) for age in ages]
        record["age_bars"] = max((age for age in ages if age is not None), default=None)
    else:
        span = request.span if isinstance(request, ComputeRequest) else request
        record["age_bars"] = _age(span.symbol, span.timeframe, _as_of_us(record), now_us)
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


def _iso(us: int) -> str:
    return iso(pd.Timestamp(us, unit="us", tz="UTC"))


def _as_of_us(record: dict[str, Any]) -> int:
    if record["as_of"] is None:
        return NO_BAR
    return int(datetime.fromisoformat(record["as_of"]).timestamp() * 1e6)
