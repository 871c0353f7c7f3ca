"""One piece of work: which series, from which bar on, and the stored rows that it needs."""

from __future__ import annotations

from dataclasses import dataclass

import pyarrow as pa

from feature_repo.catalog import BAR_FIELDS, Symbol, Timeframe
from feature_repo.series import Series

BAR_COLUMNS = (*BAR_FIELDS, "source_bars", "expected_bars")
"""What a stored bar is made of; the last two are null when it was ingested."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Job:
    """One series with work to do.

    Attributes:
        source: the ingested timeframe that the bars are derived from; None when they are ingested themselves.
        since_us: open of the first bar that must be made or computed again, microseconds since 1970-01-01 UTC; None:
            all of history.
        first_us: where the source's history begins, same unit.
        seen_us: the newest source revision that the job takes into account, same unit.
        withdraws: whether bars of the symbol were withdrawn: all of history is computed again, stored rows that come
            out differently by a rounding are revised too, and those that no longer come out are withdrawn.
    """

    series: Series
    source: Timeframe | None
    since_us: int | None
    first_us: int
    seen_us: int
    withdraws: bool = False

    @property
    def symbol(self) -> Symbol:
        """The series' symbol."""
        return self.series.symbol

    @property
    def timeframe(self) -> Timeframe:
        """The series' timeframe: the target when bars are derived."""
        return self.series.timeframe


@dataclass(frozen=True, slots=True, kw_only=True)
class History:
    """The stored rows that a job needs: newest revisions, ascending, of its symbol alone.

    Attributes:
        source: source bars from the job's beginning on; None when its bars are ingested.
        bars: its timeframe's stored bars, from the tail's beginning on.
        features: its stored indicator rows from the job's beginning on.
        state: the cumulative indicators' stored values, from the tail's beginning on.
        whole: whether ``bars`` begin where the symbol's history does.
    """

    source: pa.Table | None
    bars: pa.Table
    features: pa.Table
    state: pa.Table
    whole: bool
