"""Answers that are not what the store says now: how an earlier one is labelled, and what is too old to be served."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd

from fsclient.answers.ages import age_of, as_of_us, closed_since, oldest
from fsclient.errors import StaleDataError
from fsclient.provenance import KEY, from_iso, iso
from fsclient.questions.latest import LatestRequest
from fsclient.questions.ranges import Request


def as_last_good(answer: pd.DataFrame, request: Request, now_us: int) -> pd.DataFrame:
    """An earlier answer, labelled as such, its ages as of now."""
    record = answer.attrs[KEY]
    record |= {"source": "last_good", "stale": True}
    if isinstance(request, LatestRequest):
        answer["age_bars"] += closed_since(request, from_iso(record["read_at"]), now_us)
        record["age_bars"] = oldest(answer["age_bars"].to_numpy())
    else:
        span = request.span
        record["age_bars"] = age_of(span.symbol, span.timeframe, as_of_us(record["as_of"]), now_us)
    return answer


def withhold_expired(answer: pd.DataFrame, request: Request, max_age_bars: int, now_us: int) -> None:
    """Takes out what is older than the caller accepts: a symbol's values become NaN, listed as ``expired``.

    A range is old by its nature, so it is checked against the limit only when it was to reach the present.

    Raises:
        StaleDataError: nothing that is new enough is left.
    """
    record = answer.attrs[KEY]
    if not isinstance(request, LatestRequest):
        span = request.span
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
