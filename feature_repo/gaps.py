"""Gaps between bars: where bars are missing, and where the market was merely closed."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal, get_args

import numpy as np
import numpy.typing as npt
import pandas as pd

from feature_repo.catalog import Session, Timeframe
from feature_repo.sessions import Times, check_opens, grid_opens, is_open

GapKind = Literal["missing", "across_close", "closed"]


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Gaps:
    """The intervals without bars between a series' first and last bar, ascending; arrays of shape (intervals,).

    Attributes:
        start_us: open of the first missing bar, microseconds since 1970-01-01 UTC; of the first bar skipped if none
            is missing.
        end_us: open of the next bar that exists.
        missing_bars: bars that an open market should have made in between, int64.
        kind: ``missing``: bars are missing while the market was open throughout; ``across_close``: bars are missing
            and the market was closed for a part of the interval; ``closed``: no bar is missing.
    """

    start_us: Times
    end_us: Times
    missing_bars: Times
    kind: npt.NDArray[np.str_]

    def __len__(self) -> int:
        return len(self.kind)

    @property
    def by_kind(self) -> Mapping[GapKind, int]:
        """The number of intervals of each kind."""
        return {kind: int((self.kind == kind).sum()) for kind in get_args(GapKind)}

    @property
    def missing_total(self) -> int:
        """The number of missing bars in all intervals."""
        return int(self.missing_bars.sum())

    def as_frame(self) -> pd.DataFrame:
        """One row per interval: ``start`` and ``end`` (datetime64[us, UTC]), ``missing_bars`` (int64), ``kind``."""
        start, end = (
            pd.DatetimeIndex(times.view("datetime64[us]")).tz_localize("UTC") for times in (self.start_us, self.end_us)
        )
        return pd.DataFrame({"start": start, "end": end, "missing_bars": self.missing_bars, "kind": self.kind})


def find_gaps(opens_us: Times, *, session: Session, timeframe: Timeframe) -> Gaps:
    """The gaps between bars that open at ``opens_us`` (microseconds since 1970-01-01 UTC, ascending, unique).

    The time before the first bar and after the last is not considered. The cost grows with the time covered.

    Raises:
        ValueError: the open times are not ascending, unique and on the timeframe's grid.
    """
    check_opens(session, timeframe, opens_us)
    grid = grid_opens(session, timeframe, int(opens_us[0]), int(opens_us[-1]) + 1) if opens_us.size else opens_us
    expected = is_open(session, grid, timeframe)
    expected_before = np.append(0, np.cumsum(expected))

    position = np.searchsorted(grid, opens_us)
    last_before = np.flatnonzero(np.diff(position) > 1)
    skipped, present = position[last_before] + 1, position[last_before + 1]
    missing = expected_before[present] - expected_before[skipped]
    # After the last expected bar nothing can be missing, so the appended 0 is never used.
    first_missing = np.append(np.flatnonzero(expected), 0)[expected_before[skipped]]
    kinds: tuple[GapKind, GapKind, GapKind] = ("closed", "missing", "across_close")
    return Gaps(
        start_us=grid[np.where(missing > 0, first_missing, skipped)],
        end_us=grid[present],
        missing_bars=missing,
        kind=np.select([missing == 0, missing == present - skipped], kinds[:2], kinds[2]),
    )
