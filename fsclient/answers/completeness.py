"""What a range's answer lacks: bars that an open market made, and values that do not exist yet."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np

from feature_repo.catalog import BAR_FIELDS
from feature_repo.sessions import calendar_end, expected_opens
from feature_repo.stores.redis.codec import BoolArray
from fsclient.answers.values import RangeValues
from fsclient.frames import Int64Array
from fsclient.provenance import iso
from fsclient.questions.ranges import RangeRequest


def find_missing(
    request: RangeRequest, values: RangeValues, now_us: int, bar_opens: Callable[[], Int64Array] | None = None
) -> tuple[dict[str, Any], ...]:
    """What a range lacks from its start to its end (or now), as a provenance lists it.

    Args:
        bar_opens: returns the open times (ascending, microseconds UTC) of the bars that are stored in the range, for
            indicators whose bars may be there without them; asked only when something is absent.
    """
    step = request.timeframe.microseconds
    first, last = request.start.value // 1000, min(request.end.value // 1000, now_us - step)
    expected = expected_opens(request.symbol.session, request.timeframe, first, last + 1)
    absent = ~np.isin(expected, values.opens_us, assume_unique=True)
    missing: list[dict[str, Any]] = []
    if absent.any():
        bars = bar_opens() if bar_opens else values.opens_us
        unknown = absent & ~np.isin(expected, bars, assume_unique=True)
        missing += _runs(request, expected, unknown, "gap" if len(bars) else "no_data")
        missing += _runs(request, expected, absent & ~unknown, "not_stored")
    end = calendar_end(request.symbol.session)
    if end is not None and last >= end:  # whether bars are missing there is not known
        span = {"start": iso(max(first, end)), "end": iso(last)}
        missing.append({"symbol": request.symbol.name, "reason": "calendar_ends", **span})
    for name, column in values.columns.items():
        empty, unstored = int(np.isnan(column).sum()), values.unstored.get(name, 0)
        reason = "not_reported" if name in BAR_FIELDS else "warm_up"
        for why, bars_empty in (("not_stored", unstored), (reason, empty - unstored)):
            if bars_empty:
                missing.append({"symbol": request.symbol.name, "feature": name, "reason": why, "bars": bars_empty})
    return tuple(missing)


def is_complete(missing: Sequence[Mapping[str, Any]]) -> bool:
    """Whether nothing is missing but what the source itself does not report."""
    return not missing or all(entry["reason"] == "not_reported" for entry in missing)


def _runs(request: RangeRequest, expected: Int64Array, which: BoolArray, reason: str) -> list[dict[str, Any]]:
    """One entry for each run of expected bars that follow each other."""
    edges = np.flatnonzero(np.diff(which, prepend=False, append=False)).reshape(-1, 2)
    return [
        {
            "symbol": request.symbol.name,
            "reason": reason,
            "start": iso(int(expected[begin])),
            "end": iso(int(expected[end - 1])),
            "bars": int(end - begin),
        }
        for begin, end in edges.tolist()
    ]
