"""What a range's answer lacks: bars that an open market made, and values that do not exist yet."""

from __future__ import annotations

from typing import Any

import numpy as np

from feature_repo.sessions import expected_opens
from fsclient.offline import RangeValues
from fsclient.provenance import iso
from fsclient.request import RangeRequest


def find_missing(request: RangeRequest, values: RangeValues, now_us: int) -> tuple[dict[str, Any], ...]:
    """Gaps in open sessions from the range's start to its end (or now), and warm-up, as a provenance tells them."""
    missing: list[dict[str, Any]] = []
    step = request.timeframe.microseconds
    first, last = request.start.value // 1000, min(request.end.value // 1000, now_us - step)
    expected = expected_opens(request.symbol.session, request.timeframe, first, last + 1)
    absent = expected[~np.isin(expected, values.opens_us, assume_unique=True)]
    if len(absent):
        # Runs of absent bars that follow each other among the expected ones are one gap.
        position = np.searchsorted(expected, absent)
        starts = np.flatnonzero(np.diff(position, prepend=position[0] - 2) != 1)
        for begin, end in zip(starts, np.append(starts[1:], len(absent)), strict=True):
            missing.append(
                {
                    "symbol": request.symbol.name,
                    "reason": "gap",
                    "start": iso(int(absent[begin])),
                    "end": iso(int(absent[end - 1])),
                    "bars": int(end - begin),
                }
            )
    for name, column in values.columns.items():
        empty = int(np.isnan(column).sum())
        if empty:
            missing.append({"symbol": request.symbol.name, "feature": name, "reason": "warm_up", "bars": empty})
    return tuple(missing)
