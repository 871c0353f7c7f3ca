"""Errors of unit and basis are distinguished from real moves by the neighbours and the symbol's own volatility."""

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from flows.quality.units import is_suspect, unit_factors

PRICES = ["open", "high", "low", "close"]


def walk(n, *, sigma=0.02, start=50.0, seed=0, first="2024-01-01", tails=False):
    """n daily bars of a random walk, ``sigma`` per bar, each of which opens where the last one closed, nearly."""
    rng = np.random.default_rng(seed)
    steps = rng.standard_t(3, n) / np.sqrt(3) if tails else rng.normal(0, 1, n)
    close = start * np.exp(np.cumsum(sigma * steps))
    opens = np.append(start, close[:-1]) * np.exp(rng.normal(0, sigma / 4, n))
    edges = np.vstack([opens, close])
    return pd.DataFrame({
        "open_time": pd.date_range(first, periods=n, freq="D", tz="UTC").as_unit("us"),
        "open": opens,
        "high": edges.max(axis=0) * np.exp(np.abs(rng.normal(0, sigma / 2, n))),
        "low": edges.min(axis=0) * np.exp(-np.abs(rng.normal(0, sigma / 2, n))),
        "close": close,
        "volume": 1000.0,
    })  # fmt: skip


def times(frame, rows, factor, names=PRICES):
    """The frame with the prices of some rows multiplied."""
    frame = frame.copy()
    frame.loc[rows, names] *= factor
    return frame


def wrong(factors):
    return np.flatnonzero(factors != 1).tolist()


# --------------------------------------------------------------------------------------------- there and back


@pytest.mark.parametrize("factor", [10, 100, 1000, 0.1, 0.01, 1e-4, 5, 0.5, 0.4714])
@pytest.mark.parametrize("length", [1, 3, 9])
def test_a_stretch_in_another_unit_is_found(factor, length):
    rows = slice(30, 30 + length - 1)
    factors = unit_factors(times(walk(90), rows, factor))
    assert wrong(factors) == [*range(30, 30 + length)]
    assert np.allclose(factors[30 : 30 + length], factor, rtol=0.1)


@pytest.mark.parametrize("row", [0, 1, 58, 59])
def test_at_the_ends_of_a_batch_too(row):
    assert wrong(unit_factors(times(walk(60), row, 100))) == [row]


def test_several_stretches_of_one_batch_are_found_each_by_itself():
    frame = times(times(times(walk(90), slice(20, 22), 15), 40, 15), slice(60, 61), 0.01)
    assert wrong(unit_factors(frame)) == [20, 21, 22, 40, 60, 61]


def test_a_stretch_within_a_stretch():
    frame = times(times(walk(90), slice(20, 39), 100), slice(25, 27), 10)
    factors = unit_factors(frame)
    assert wrong(factors) == [*range(20, 40)]
    assert np.allclose(factors[25:28], 1000, rtol=0.1)


def test_prices_that_never_move_are_compared_as_well():
    frame = walk(23)
    frame[PRICES] = 0.1455
    assert wrong(unit_factors(times(frame, slice(4, 12), 100))) == [*range(4, 13)]


# ------------------------------------------------------------------------------------------------------ for good


@pytest.mark.parametrize("factor", [100, 0.01, 10, 20, 5, 1 / 7])
def test_of_a_lasting_change_the_newer_unit_is_right(factor):
    frame = times(walk(60, sigma=0.015), slice(0, 39), factor)
    factors = unit_factors(frame)
    assert wrong(factors) == [*range(40)]
    assert np.allclose(factors[:40], factor, rtol=0.1)


def test_a_unit_that_has_not_lasted_yet_is_wrong():
    assert wrong(unit_factors(times(walk(60), slice(57, 59), 100))) == [57, 58, 59]


def test_without_a_trade_no_factor_is_a_move():
    frame = walk(23)
    frame[PRICES], frame["volume"] = 0.053, 0.0
    leap = times(frame, slice(15, 22), 2.27)
    assert wrong(unit_factors(leap)) == [*range(15)]
    assert wrong(unit_factors(leap.assign(volume=1000.0))) == []


# ------------------------------------------------------------------------------------------- what is stored decides


@pytest.mark.parametrize("batch", [slice(40, 60), slice(0, 20), slice(59, 60)])
def test_the_unit_of_the_stored_bars_is_right(batch):
    frame = walk(60)
    rows = frame.index[batch]
    fresh = times(frame, rows, 100).loc[rows].reset_index(drop=True)
    stored = frame.drop(rows)
    assert wrong(unit_factors(fresh, stored)) == [*range(len(rows))]
    assert wrong(unit_factors(frame.loc[rows].reset_index(drop=True), stored)) == []


def test_a_wrong_bar_that_is_stored_makes_no_good_one_wrong():
    frame = times(walk(60), 30, 100)
    fresh, stored = frame.iloc[31:].reset_index(drop=True), frame.iloc[:31]
    assert wrong(unit_factors(fresh, stored)) == []


# ----------------------------------------------------------------------------------------------- within one bar


@pytest.mark.parametrize("names", [["low"], ["low", "close"], ["high"], ["open", "high"]])
def test_a_bar_torn_between_two_units(names):
    factor = 100 if "high" in names else 0.01
    factors = unit_factors(times(walk(60), 30, factor, names))
    assert wrong(factors) == [30]
    assert np.isinf(factors[30])


def test_a_rise_within_a_bar_that_goes_on_is_a_rise():
    frame = walk(60)
    frame.loc[30, ["high", "close"]] = frame.loc[30, "open"] * 10.0
    frame.loc[31:, PRICES] *= 10.0
    assert wrong(unit_factors(frame)) == []


# -------------------------------------------------------------------------------------------------- real moves


def test_a_central_bank_lets_go_of_its_rate():
    """As the franc on 2015-01-15: -16.6 % in one hour of a pair that moves 0.05 % an hour, and on from there."""
    frame = walk(400, sigma=0.0005, start=1.0185)
    frame.loc[200:, PRICES] *= 1 - 0.166
    frame.loc[200, ["open", "high"]] = frame.loc[199, "close"]
    frame.loc[200, "low"] *= 0.87
    assert wrong(unit_factors(frame)) == []
    gap = frame.copy()  # and if not a single quote was seen on the way
    gap.loc[200, ["open", "high"]] = gap.loc[200, "close"]
    gap.loc[200, "low"] = gap.loc[200, "close"] * 0.999
    assert wrong(unit_factors(gap)) == []


@pytest.mark.parametrize("factor", [0.1, 0.105, 0.2, 0.5, 4.0])
def test_a_collapse_is_real_whatever_its_size(factor):
    """A trial fails: the share opens far lower, is traded wildly all day, and stays where it came to rest."""
    frame = times(walk(60, sigma=0.05), slice(30, 59), factor)
    frame.loc[30, "high"] = frame.loc[30, ["open", "close"]].max() * 1.5
    frame.loc[30, "low"] = frame.loc[30, ["open", "close"]].min() * 0.7
    assert wrong(unit_factors(frame)) == []


def test_a_quiet_fall_by_no_round_factor_is_real():
    assert wrong(unit_factors(times(walk(60, sigma=0.01), slice(30, 59), 0.55))) == []


def test_a_flash_crash_is_real():
    frame = walk(60, sigma=0.001)
    frame.loc[30, "low"] *= 0.3
    frame.loc[31, ["open", "low"]] *= 0.6
    assert wrong(unit_factors(frame)) == []


@given(seed=st.integers(0, 10_000), sigma=st.sampled_from([1e-4, 0.002, 0.02, 0.08]), n=st.integers(1, 300))
@settings(max_examples=80, deadline=None)
def test_no_bar_of_a_walk_with_fat_tails_is_wrong(seed, sigma, n):
    frame = walk(n, sigma=sigma, seed=seed, tails=True)
    assert wrong(unit_factors(frame)) == []
    assert wrong(unit_factors(frame.iloc[n // 2 :], frame.iloc[: n // 2])) == []


@given(
    seed=st.integers(0, 10_000),
    sigma=st.sampled_from([1e-4, 0.002, 0.02]),
    factor=st.sampled_from([1000.0, 100.0, 10.0, 0.1, 0.01]),
    scale=st.sampled_from([1e-6, 1.0, 1e6]),
    row=st.integers(0, 99),
    length=st.integers(1, 30),
)
@settings(max_examples=80, deadline=None)
def test_a_factor_of_ten_is_found_wherever_it_is_and_whatever_the_scale(seed, sigma, factor, scale, row, length):
    series = walk(164, sigma=sigma, seed=seed, start=100 * scale)
    stored, frame = series.iloc[:64], series.iloc[64:].reset_index(drop=True)
    fresh = times(frame, slice(row, min(row + length, 100) - 1), factor)
    assert wrong(unit_factors(fresh, stored)) == [*range(row, min(row + length, 100))]


# ---------------------------------------------------------------------------------------------------- odd input


def test_what_is_no_bar_is_left_out_of_the_comparison():
    frame = times(walk(60), 30, 100)
    frame.loc[10, "close"] = np.nan
    frame.loc[11, "low"] = -1.0
    frame.loc[12, "open_time"] = pd.NaT
    frame.loc[13, "open_time"] = frame.loc[2, "open_time"]
    frame.loc[14, "high"] = np.inf
    assert wrong(unit_factors(frame)) == [30]


@pytest.mark.parametrize("n", [0, 1, 2])
def test_few_bars(n):
    assert unit_factors(walk(n)).tolist() == [1.0] * n
    assert unit_factors(walk(n), walk(0)).tolist() == [1.0] * n


def test_live_bars_are_suspect_when_they_leap():
    frame = walk(60)
    bars = frame[[*PRICES, "volume"]].to_numpy().T
    assert not is_suspect(bars[3, 0], bars[:, 1:])
    assert is_suspect(bars[3, 0], bars[:, 1:] * 100)
    assert is_suspect(bars[3, 0], times(frame, 5, 0.01, ["low"])[[*PRICES, "volume"]].to_numpy().T[:, 1:])
    assert not is_suspect(-3.0, -bars[:, 1:])
