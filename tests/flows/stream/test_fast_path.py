"""A series in memory continues as if it had received all bars at once."""

from __future__ import annotations

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from feature_repo.catalog import BAR_FIELDS, INDICATOR_FIELDS
from feature_repo.indicators import kernel_inputs
from flows.compute.increment import STATE_FIELDS, compute_from
from flows.quality import nan_allowed
from flows.stream.fast_path import LiveSeries
from tests.flows.compute.test_newest import BTC, MINUTE, walk


@settings(max_examples=8, deadline=None)
@given(
    seed=st.integers(0, 2**32 - 1),
    unknown=st.sampled_from([0.0, 0.02, 1.0]),
    parts=st.lists(st.integers(1, 40), min_size=1, max_size=12),
)
def test_bars_in_parts_have_the_bits_of_all_at_once(seed: int, unknown: float, parts: list[int]) -> None:
    """And the series knows where its newest values may be undefined."""
    n = sum(parts)
    opens, bars = walk(n, seed, digits=2, unknown=unknown)
    series = LiveSeries(BTC, MINUTE, None, opens_us=opens[:0], bars=bars[:, :0], state=np.empty((3, 0)), whole=True,
                    window=None, settled_us=0)  # fmt: skip
    inputs = kernel_inputs(BTC.session, MINUTE, opens, dict(zip(BAR_FIELDS, bars, strict=True)))
    none = {name: np.full(n, np.nan) for name in STATE_FIELDS}
    expected = compute_from(0, inputs, opens, MINUTE, whole=True, stored=none)
    allowed = nan_allowed(inputs)
    at = 0
    for part in parts:
        features = series.extend(opens[at : at + part], bars[:, at : at + part])
        may_be_nan = series.may_be_nan(features)
        for row, name in enumerate(INDICATOR_FIELDS):
            np.testing.assert_array_equal(features[row], expected[name][at : at + part], err_msg=name)
            if np.isnan(features[row]).any() and may_be_nan is not None:
                np.testing.assert_array_equal(may_be_nan[row], allowed[name][at : at + part], err_msg=name)
        at += part
