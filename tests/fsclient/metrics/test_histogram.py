from __future__ import annotations

import math
from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from fsclient.metrics.histogram import BOUNDS_S, BUCKETS, LOWEST_S, bucket_of, percentile_s

TOLERANCE = 2 ** (1 / 16) * (1 + 1e-9)
"""Half a bucket's width as a factor: 1.044."""


def counted(durations_s: list[float]) -> list[int]:
    buckets = [0] * BUCKETS
    for duration_s in durations_s:
        buckets[bucket_of(duration_s)] += 1
    return buckets


@given(
    st.lists(st.floats(LOWEST_S, BOUNDS_S[-1]), min_size=1, max_size=200),
    st.sampled_from([0.0, 0.01, 0.5, 0.9, 0.99, 1.0]),
)
def test_a_percentile_is_that_of_the_durations_to_half_a_bucket(durations_s: list[float], share: float) -> None:
    true_s = float(np.quantile(durations_s, share, method="inverted_cdf"))
    found_s = percentile_s(counted(durations_s), share)
    assert found_s is not None
    assert true_s / TOLERANCE <= found_s <= true_s * TOLERANCE


def test_the_bounds_reach_from_a_microsecond_to_two_minutes_in_steps_of_a_tenth() -> None:
    assert BOUNDS_S[0] == 1e-6
    assert BOUNDS_S[-1] > 120
    assert all(1.08 < high / low < 1.10 for low, high in pairwise(BOUNDS_S))


@pytest.mark.parametrize(
    ("duration_s", "told_s"), [(0.0, 1e-6), (-1.0, 1e-6), (1e9, BOUNDS_S[-1]), (math.inf, BOUNDS_S[-1])]
)
def test_what_lies_beyond_the_bounds_counts_at_them(duration_s: float, told_s: float) -> None:
    assert percentile_s(counted([duration_s]), 0.5) == told_s


def test_no_durations_have_no_percentile() -> None:
    assert percentile_s(counted([]), 0.5) is None
