"""The indicators of the newest bars are those of an increment, bit by bit."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from feature_repo.catalog import BAR_FIELDS, INDICATOR_FIELDS, SYMBOLS, TIMEFRAMES
from feature_repo.indicators import kernel_inputs
from flows.compute.increment import STATE_FIELDS, TailTooShort, compute_from
from flows.compute.newest import Reaches, newest

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
    n=st.integers(1, 9000), new=st.integers(1, 60), whole=st.booleans(), fall=st.sampled_from([0, 0, 0, 1, 40, 3000]),
)  # fmt: skip
def test_the_newest_bars_have_the_bits_of_an_increment(
    seed: int, digits: int, unknown: float, n: int, new: int, whole: bool, fall: int
) -> None:
    """Whether or not prices fell below zero ``fall`` bars ago."""
    opens, bars = walk(n, seed, digits=digits, unknown=unknown)
    bars[:4, n - fall : n - fall + 2] -= 40_000
    inputs = kernel_inputs(BTC.session, MINUTE, opens, dict(zip(BAR_FIELDS, bars, strict=True)))
    none = {name: np.full(n, np.nan) for name in STATE_FIELDS}
    stored = compute_from(0, inputs, opens, MINUTE, whole=True, stored=none)
    first = max(0, n - new)
    try:
        expected = compute_from(first, inputs, opens, MINUTE, whole=whole, stored=stored)
    except TailTooShort:
        with pytest.raises(TailTooShort):
            newest(first, inputs, opens, MINUTE, whole=whole, stored=stored)
        return
    rows = newest(first, inputs, opens, MINUTE, whole=whole, stored=stored)
    for row, name in enumerate(INDICATOR_FIELDS):
        np.testing.assert_array_equal(rows[row], expected[name], err_msg=name)


@settings(max_examples=10, deadline=None)
@given(seed=st.integers(0, 2**32 - 1), dead=st.sampled_from([0, 0, 500, 1500, 5000]))
def test_what_was_proven_for_one_bar_holds_for_the_next_of_its_stretch(seed: int, dead: int) -> None:
    opens, bars = walk(7000, seed, digits=2, unknown=0.0)
    bars[:4, 7000 - dead :] = bars[3, 7000 - dead - 1]
    inputs = kernel_inputs(BTC.session, MINUTE, opens, dict(zip(BAR_FIELDS, bars, strict=True)))
    none = {name: np.full(7000, np.nan) for name in STATE_FIELDS}
    whole = compute_from(0, inputs, opens, MINUTE, whole=True, stored=none)
    reaches: Reaches = {}
    for n in (6990, 6991, 6992, 7000):
        columns = {name: values[:n] for name, values in inputs.items()}
        stored = {name: whole[name][:n] for name in STATE_FIELDS}
        rows = newest(n - 1, columns, opens[:n], MINUTE, whole=True, stored=stored, reaches=reaches)
        for row, name in enumerate(INDICATOR_FIELDS):
            np.testing.assert_array_equal(rows[row], whole[name][n - 1 : n], err_msg=name)
