"""What the stores hold, as arrays: the newest values, a range of bars, and the online window that may answer one."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

import numpy as np

from feature_repo.stores.redis.codec import BoolArray, FloatArray
from fsclient.frames import Int64Array
from fsclient.questions.ranges import RangeRequest

NO_BAR = np.iinfo(np.int64).min
"""``event_us`` of a view that holds nothing."""
Doubt = tuple[dict[str, str], ...]
"""Why values are in doubt, each ``{"symbol", "timeframe", "reason"}``; empty when they are not."""


@dataclass(frozen=True, slots=True, kw_only=True)
class RangeValues:
    """Columns of one symbol and timeframe, ascending.

    Attributes:
        opens_us: (n,) int64 open times, microseconds UTC.
        columns: field -> (n,) float64, NaN in warm-up.
        unstored: field -> how many of its NaN are indicators that were never stored.
    """

    opens_us: Int64Array
    columns: Mapping[str, FloatArray]
    unstored: Mapping[str, int] = field(default_factory=dict)
    doubt: Doubt = ()


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class LatestValues:
    """The newest values of m features of n symbols, in v views.

    Attributes:
        values: (n, m) float64, NaN where there is none.
        stored: (n, m) bool, whether the online store holds the feature (a NaN of warm-up is held).
        event_us: (n, v) int64, close of the bar that each view holds, microseconds UTC; ``NO_BAR`` where none.
    """

    values: FloatArray
    stored: BoolArray
    event_us: Int64Array
    doubt: Doubt = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class WindowValues:
    """Columns of a symbol's online window, oldest bar first, read-only.

    Attributes:
        event_us: close of the newest bar, microseconds UTC.
        opens_us: (n,) int64 open times, microseconds UTC.
        columns: field -> (n,) float64; a field that was never published is absent.
    """

    event_us: int
    opens_us: Int64Array
    columns: Mapping[str, FloatArray]
    doubt: Doubt = ()

    def covers(self, request: RangeRequest) -> bool:
        """Whether it holds every stored bar of the range: it reaches back to the start, with all columns."""
        reaches = len(self.opens_us) > 0 and int(self.opens_us[0]) <= request.start.value // 1000
        return reaches and all(name in self.columns for name in request.columns)

    def cut(self, request: RangeRequest) -> RangeValues:
        """The range's part of it."""
        return self._between(request.start.value // 1000, request)

    def extend(self, stored: RangeValues, request: RangeRequest) -> RangeValues:
        """``stored`` with the bars that follow its last and only this window has: the offline store may lag."""
        if not all(name in self.columns for name in request.columns):
            return stored
        known = int(stored.opens_us[-1]) if len(stored.opens_us) else None
        if known is None or known < int(self.opens_us[0]):
            return stored  # between the two, bars could be missing that neither of them shows
        newer = self._between(max(known + 1, request.start.value // 1000), request)
        if not len(newer.opens_us):
            return stored
        columns = {name: np.concatenate([stored.columns[name], newer.columns[name]]) for name in request.columns}
        opens = np.concatenate([stored.opens_us, newer.opens_us])
        return RangeValues(opens_us=opens, columns=columns, unstored=stored.unstored, doubt=self.doubt)

    def _between(self, start_us: int, request: RangeRequest) -> RangeValues:
        first = np.searchsorted(self.opens_us, start_us, side="left")
        last = np.searchsorted(self.opens_us, request.end.value // 1000, side="right")
        columns = {name: self.columns[name][first:last] for name in request.columns}
        return RangeValues(opens_us=self.opens_us[first:last], columns=columns, doubt=self.doubt)
