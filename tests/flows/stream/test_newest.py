"""The hot path's indicators are those of the increments, bit by bit; its gate is the gate."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from feature_repo.catalog import BAR_FIELDS, INDICATOR_FIELDS, SYMBOLS, TIMEFRAMES
from feature_repo.kernel_inputs import kernel_inputs
from flows.compute.increment import STATE_FIELDS, TailTooShort, compute_from
from flows.quality import nan_allowed
from flows.stream.newest import newest
from flows.stream.series import Series

MINUTE, BTC = TIMEFRAMES["1m"], SYMBOLS["BTC/USD"]
START_US = 1_700_000_040_000_000


def walk(n: int, seed: int, *, digits: int, unknown: float) -> tuple[Any, Any]:
    """Opens and (``BAR_FIELDS``, n) of a random walk with holes, some of its volumes unknown."""
    rng = np.random.default_rng(seed)
    close = np.round(30_000 * np.exp(np.cumsum(rng.normal(0, 3e-4, n))), digits)
    spread = close * rng.uniform(0, 2e-4, (2, n))
    volume = np.round(rng.lognormal(1, 2, n), 6)
    volume[rng.random(n) < unknown] = np.nan
    opens = START_US + np.cumsum(rng.choice([1, 1, 1, 1, 3], n)) * MINUTE.microseconds
    return opens, np.stack([close, close + spread[0], close - spread[1], close, volume])


@settings(max_examples=20, deadline=None)
@given(
    seed=st.integers(0, 2**32 - 1), digits=st.sampled_from([0, 2, 8]), unknown=st.sampled_from([0.0, 0.0, 1e-3, 1.0]),
    n=st.integers(1, 9000), new=st.integers(1, 60), whole=st.booleans(),
)  # fmt: skip
def test_the_newest_bars_have_the_bits_of_an_increment(
    seed: int, digits: int, unknown: float, n: int, new: int, whole: bool
) -> None:
    opens, bars = walk(n, seed, digits=digits, unknown=unknown)
    inputs = kernel_inputs(BTC.session, opens, dict(zip(BAR_FIELDS, bars, strict=True)))
    none = {name: np.full(n, np.nan) for name in STATE_FIELDS}
    stored = compute_from(0, inputs, opens, MINUTE, whole=True, stored=none)
    first = max(0, n - new)
    try:
        expected = compute_from(first, inputs, opens, MINUTE, whole=whole, stored=stored)
    except TailTooShort:
        with pytest.raises(TailTooShort):
            newest(first, inputs, opens, MINUTE, whole=whole, stored=stored)
        return
    found = newest(first, inputs, opens, MINUTE, whole=whole, stored=stored)
    for row, name in enumerate(INDICATOR_FIELDS):
        np.testing.assert_array_equal(found[row], expected[name], err_msg=name)


@settings(max_examples=8, deadline=None)
@given(
    seed=st.integers(0, 2**32 - 1),
    unknown=st.sampled_from([0.0, 0.02, 1.0]),
    parts=st.lists(st.integers(1, 40), min_size=1, max_size=12),
)
def test_a_series_goes_on_as_if_it_had_had_all_bars(seed: int, unknown: float, parts: list[int]) -> None:
    """And knows where its newest values may be unknown."""
    n = sum(parts)
    opens, bars = walk(n, seed, digits=2, unknown=unknown)
    series = Series(BTC, MINUTE, None, opens_us=opens[:0], bars=bars[:, :0], state=np.empty((3, 0)), whole=True,
                    window=None, settled_us=0)  # fmt: skip
    inputs = kernel_inputs(BTC.session, opens, dict(zip(BAR_FIELDS, bars, strict=True)))
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
