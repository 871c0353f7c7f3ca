"""Latencies counted in fixed buckets of logarithmic width, so that a percentile costs neither memory nor a sort.

The n-th bound is ``LOWEST_S * 2 ** (n / STEPS)``: eight buckets to each doubling, from a microsecond to two minutes. A
percentile is at most 4.5 % off the true one within that range, as in an HDR histogram of about one and a half digits.
"""

from __future__ import annotations

import math
from bisect import bisect_left
from collections.abc import Callable, Sequence
from functools import partial
from itertools import accumulate

LOWEST_S = 1e-6
STEPS = 8
_DOUBLINGS = 27

BOUNDS_S: tuple[float, ...] = tuple(LOWEST_S * 2 ** (n / STEPS) for n in range(_DOUBLINGS * STEPS + 1))
"""Upper bounds, seconds, inclusive, of all buckets but the last, which has none."""
BUCKETS = len(BOUNDS_S) + 1


bucket_of: Callable[[float], int] = partial(bisect_left, BOUNDS_S)
"""The number of the bucket that a duration, seconds, falls into."""


def percentile_s(buckets: Sequence[int], share: float) -> float | None:
    """The duration that ``share`` (0 to 1) of all do not exceed, seconds; None when there are none.

    The geometric middle of the bucket that holds it; beyond the bounds, the bound itself.
    """
    total = sum(buckets)
    if not total:
        return None
    rank = max(1.0, share * total)
    number = next(n for n, seen in enumerate(accumulate(buckets)) if seen >= rank)
    if number == 0:
        return LOWEST_S
    if number == len(BOUNDS_S):
        return BOUNDS_S[-1]
    return math.sqrt(BOUNDS_S[number - 1] * BOUNDS_S[number])
