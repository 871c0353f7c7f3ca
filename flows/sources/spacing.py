"""Whether bars are as long as stated."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
import pandas as pd

from feature_repo.catalog import TIMEFRAMES, Timeframe
from flows.sources.error import SourceError

_ENOUGH = 12
_SHORTER = 0.05
_TYPICAL = 0.5


def check_spacing(open_times: pd.Series, timeframe: Timeframe, file: str) -> None:
    """Refuses bars that are longer than stated: an hour's high would be known a minute after its open.

    Such bars follow each other at more than the timeframe: one distance is usual (that of half of them, and hardly any
    is shorter) and too long. A market that rarely trades leaves bars out too, but at no usual distance. Fewer than a
    dozen show nothing.

    Args:
        open_times: datetime64[us, UTC], in any order.

    Raises:
        SourceError: the bars are of a longer timeframe.
    """
    opens = np.unique(open_times.dropna().to_numpy(dtype="datetime64[us]").view(np.int64))
    steps: npt.NDArray[np.int64] = np.diff(opens)
    if len(steps) < _ENOUGH:
        return
    usual = int(np.median(steps))
    if usual <= timeframe.microseconds or np.mean(steps < usual) > _SHORTER or np.mean(steps == usual) < _TYPICAL:
        return
    longer = next((tf.name for tf in TIMEFRAMES.values() if tf.microseconds == usual), None)
    apart = longer or f"{usual // 60_000_000:,} min"
    raise SourceError(
        f"its bars are {apart} apart, so they are not {timeframe.name} bars: each would be known before it had closed",
        remedy=f"Use --timeframe {longer}." if longer else f"There are {', '.join(TIMEFRAMES)}.",
        file=file,
    )
