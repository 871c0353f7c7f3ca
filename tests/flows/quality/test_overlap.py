"""How two downloads of one series differ is named: a factor, a shift, a spread."""

from datetime import timedelta

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from feature_repo.catalog import timeframe
from flows.quality.overlap import compare_overlap

HOUR = timeframe("1h")
PRICES = ["open", "high", "low", "close"]


def bars(n=60, *, digits=2, start=1200.0, sigma=0.01, seed=0):
    rng = np.random.default_rng(seed)
    close = start * np.exp(np.cumsum(rng.normal(0, sigma, n)))
    opens = np.append(start, close[:-1])
    frame = pd.DataFrame({
        "open_time": pd.date_range("2024-01-01", periods=n, freq="h", tz="UTC").as_unit("us"),
        "open": opens,
        "high": np.maximum(opens, close) * (1 + rng.exponential(sigma / 2, n)),
        "low": np.minimum(opens, close) * (1 - rng.exponential(sigma / 2, n)),
        "close": close,
        "volume": rng.integers(1, 100, n) * 1e6,
    })  # fmt: skip
    frame[PRICES] = frame[PRICES].round(digits)
    return frame


def scaled(frame, factor, volume_factor=1.0, digits=6):
    frame = frame.copy()
    frame[PRICES] = (frame[PRICES] * factor).round(digits)
    frame["volume"] *= volume_factor
    return frame


@pytest.mark.parametrize("factor", [0.1, 10.0, 0.01, 0.5, 4 / 3, 0.9876])
def test_another_basis_is_one_factor(factor):
    stored = bars()
    overlap = compare_overlap(scaled(stored.iloc[-15:], factor, 1 / factor), stored, HOUR)
    assert (overlap.bars, overlap.differing) == (15, 15)
    assert overlap.is_other_basis
    assert overlap.factor == pytest.approx(factor, rel=1e-5)
    assert overlap.volume_factor == pytest.approx(1 / factor)
    assert f"{overlap.factor:.6g}" in str(overlap)


def test_rounding_to_the_vendors_decimals_hides_no_factor():
    stored = bars(digits=2, start=123.0)
    overlap = compare_overlap(scaled(stored, 0.1, digits=2), stored, HOUR)
    assert overlap.is_other_basis
    assert overlap.factor == pytest.approx(0.1, rel=1e-3)


def test_the_unfinished_last_bar_of_a_download_hides_no_factor():
    stored = bars(40)
    fresh = scaled(stored, 0.25)
    fresh.loc[39, ["close", "high"]] *= 1.02
    assert compare_overlap(fresh, stored, HOUR).factor == pytest.approx(0.25)
    fresh.loc[20:, PRICES] = stored.loc[20:, PRICES]
    assert not compare_overlap(fresh, stored, HOUR).is_other_basis


@pytest.mark.parametrize(("factor", "is_other"), [(0.01, True), (0.5, False), (0.983, False)])
def test_two_bars_show_a_factor_of_ten_only(factor, is_other):
    stored = bars()
    assert compare_overlap(scaled(stored.iloc[-2:], factor), stored, HOUR).is_other_basis is is_other


def test_the_same_bars_in_another_zone_are_a_shift():
    stored = bars(400, digits=5, start=1.1, sigma=0.001)
    fresh = stored.assign(open_time=stored["open_time"] + pd.Timedelta(hours=2))
    overlap = compare_overlap(fresh, stored, HOUR)
    assert overlap.shift == timedelta(hours=2)
    assert str(overlap) == "the same bars stand 2 h later: another time zone"
    rng = np.random.default_rng(1)
    other = fresh.assign(close=fresh["close"] + rng.normal(0, 1e-5, 400))  # of another feed, too
    assert compare_overlap(other, stored, HOUR).shift == timedelta(hours=2)


def test_another_side_of_the_quote_is_a_spread():
    stored = bars(200, digits=5, start=1.1, sigma=0.001)
    fresh = stored.copy()
    fresh[PRICES] += 0.00005 + np.random.default_rng(1).choice([0, 1e-5], (200, 1))
    overlap = compare_overlap(fresh.round(5), stored, HOUR)
    assert not overlap.is_other_basis
    assert overlap.shift == timedelta(0)
    assert (overlap.differing, overlap.higher) == (200, 1.0)
    assert 0.4e-4 < overlap.typical < 0.6e-4
    assert "higher in 100 % of the bars" in str(overlap)


def test_volumes_alone():
    stored = bars()
    overlap = compare_overlap(stored.assign(volume=np.nan), stored, HOUR)
    assert (overlap.differing, overlap.is_other_basis) == (60, False)
    assert str(overlap) == "volumes differ, closes do not"


def test_the_same_bars_do_not_differ():
    stored = bars()
    noise = stored.assign(close=stored["close"] * (1 + 1e-14))
    for fresh in (stored, noise, stored.iloc[5:9]):
        assert compare_overlap(fresh, stored, HOUR).differing == 0
    apart = stored.assign(open_time=stored["open_time"] + pd.Timedelta(days=30))
    assert compare_overlap(apart, stored, HOUR).bars == 0
    assert compare_overlap(stored.iloc[:0], stored, HOUR).bars == 0


def test_prices_below_zero_are_left_out_of_the_search_for_a_factor():
    stored = bars()
    stored[PRICES] -= 1200
    assert compare_overlap(scaled(stored, 0.1), stored, HOUR).factor == pytest.approx(0.1)
    stored[PRICES] = -stored[PRICES].abs() - 1
    assert not compare_overlap(scaled(stored, 0.1), stored, HOUR).is_other_basis


@pytest.mark.parametrize(("n", "of", "too_much"), [(2, 2, False), (3, 3, True), (3, 16, False), (590, 600, True)])
def test_how_many_revisions_are_too_many(n, of, too_much):
    stored = bars(of)
    fresh = stored.copy()
    fresh.loc[: n - 1, "close"] += np.random.default_rng(2).normal(0, 0.5, n) + 0.01
    assert compare_overlap(fresh, stored, HOUR).revises_too_much(0.2) is too_much


@given(seed=st.integers(0, 1000), share=st.floats(0.3, 1.0), size=st.floats(1e-4, 0.05))
@settings(max_examples=50, deadline=None)
def test_differences_without_a_rule_are_no_factor(seed, share, size):
    stored = bars(100, seed=seed)
    rng = np.random.default_rng(seed + 1)
    rows = rng.random(100) < share
    fresh = stored.copy()
    fresh.loc[rows, PRICES] *= np.exp(rng.normal(0, size, (rows.sum(), 4)))
    overlap = compare_overlap(fresh, stored, HOUR)
    assert not overlap.is_other_basis
    assert overlap.differing == rows.sum()
