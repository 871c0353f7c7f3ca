import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from feature_repo.catalog import INDICATOR_FIELDS, INDICATORS, PRODUCER
from flows.quality import nan_allowed
from flows.quality.warm_up import undefined_bars
from tests.indicator_rows import compute_all


def columns_of(n, volume=1.0, bars_a_day=10):
    close = 1.1 + 0.01 * np.sin(np.arange(n))
    return {
        "open": close,
        "high": close + 0.001,
        "low": close - 0.001,
        "close": close,
        "volume": np.broadcast_to(np.asarray(volume, dtype=float), n).copy(),
        "session_day": np.arange(n) // bars_a_day * 1.0,
    }


@pytest.mark.parametrize("name", ["sma_20", "macd", "adx_14", "returns", "obv"])
def test_the_first_bars_of_history_may_be_nan(name):
    lookback = PRODUCER[name].lookback
    assert np.array_equal(nan_allowed(columns_of(300))[name], np.arange(300) < lookback)


def test_later_bars_may_not_be_nan_wherever_the_columns_begin():
    position = np.arange(50) + 5
    mask = undefined_bars(INDICATORS["sma_20"], columns_of(50), position)
    assert mask.sum() == 14
    assert not nan_allowed(columns_of(50), position=position + 1000)["sma_200"].any()


def test_volume_that_is_never_reported_excuses_what_needs_it():
    masks = nan_allowed(columns_of(300, volume=np.nan))
    excused = {name for name, mask in masks.items() if mask.all()}
    assert excused == {name for i in INDICATORS.values() if "volume" in i.inputs for name in i.outputs}
    assert {"mfi_14", "obv", "vwap"} <= excused


def test_an_unknown_volume_excuses_the_bars_that_warm_up_again():
    columns = columns_of(100)
    columns["volume"][50] = np.nan
    masks = nan_allowed(columns)
    assert np.flatnonzero(masks["mfi_14"]).tolist() == [*range(14), *range(50, 65)]
    assert np.flatnonzero(masks["obv"]).tolist() == [50]
    assert np.flatnonzero(masks["vwap"]).tolist() == [*range(50, 60)]
    assert not masks["sma_5"][4:].any()


def test_vwap_may_be_nan_until_its_day_has_volume():
    columns = columns_of(40)
    columns["volume"][[10, 11, 13]] = 0.0
    assert np.flatnonzero(nan_allowed(columns)["vwap"]).tolist() == [10, 11]


@given(
    volume=st.lists(st.sampled_from([0.0, 0.0, 1.0, 2.0, np.nan]), min_size=1, max_size=120),
    bars_a_day=st.integers(1, 30),
)
@settings(max_examples=60, deadline=None)
def test_whatever_the_kernels_leave_undefined_is_allowed(volume, bars_a_day):
    columns = columns_of(len(volume), volume, bars_a_day)
    masks = nan_allowed(columns)
    assert tuple(masks) == INDICATOR_FIELDS
    for name, values in compute_all(columns).items():
        assert not (np.isnan(values) & ~masks[name]).any(), name
