"""Percentiles of many histograms at once."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

from fsclient.metrics.histogram import BOUNDS_S, BUCKETS
from fsclient.metrics.history import COARSE, COARSE_BUCKETS

Floats = npt.NDArray[np.float64]

_UPPER = np.array([*BOUNDS_S, BOUNDS_S[-1]])
_LOWER = np.array([BOUNDS_S[0], *BOUNDS_S])
MIDDLES = np.sqrt(_LOWER * _UPPER)
"""What stands for each bucket, seconds: its geometric middle, as in ``histogram.percentile_s``."""
COARSE_MIDDLES = np.sqrt(_LOWER[::COARSE] * _UPPER[np.minimum(np.arange(COARSE_BUCKETS) * COARSE + 3, BUCKETS - 1)])


def percentiles(histogram: npt.NDArray[Any], share: float) -> Floats:
    """The duration that ``share`` of the calls do not exceed, seconds; NaN where there are no calls.

    Args:
        histogram: (..., buckets), of full or coarse resolution.
    """
    middles = MIDDLES if histogram.shape[-1] == BUCKETS else COARSE_MIDDLES
    total = np.cumsum(histogram, axis=-1, dtype=np.int64)
    rank = np.maximum(1.0, share * total[..., -1:])
    number = np.argmax(total >= rank, axis=-1)
    return np.where(total[..., -1] > 0, middles[number], np.nan)
