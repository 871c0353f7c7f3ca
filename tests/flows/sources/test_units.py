"""The unit of prices: points are found where there is no doubt, and asked about where there is."""

from __future__ import annotations

from collections.abc import Callable
from decimal import Decimal

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from feature_repo.catalog import symbol
from flows.sources import SourceBars, SourceError, SourceOptions
from flows.sources.units import in_units, price_factor

Read = Callable[..., SourceBars]
HEAD = "time,open,high,low,close,volume\n"


def rows(*bars: str) -> str:
    return HEAD + "".join(f"2020-01-0{day},{bar},7\n" for day, bar in enumerate(bars, start=1))


def test_points_with_float_noise_become_the_prices_they_are(read: Read) -> None:
    source = read(rows("103428.00000000001,103430.0,103176.0,103258.99999999999"))
    assert source.frame[["open", "high", "low", "close"]].to_numpy().tolist() == [[1.03428, 1.0343, 1.03176, 1.03259]]
    assert source.notes.detected["unit"] == "points of 0.00001 (detected)"


@pytest.mark.parametrize(
    ("name", "bar", "close"),
    [("USD/JPY", "91715,91717,91653,91655", 91.655), ("XAU/USD", "1234567,1234999,1230000,1234000", 1234.0)],
)
def test_points_follow_the_decimals_of_the_symbol(read: Read, name: str, bar: str, close: float) -> None:
    assert read(rows(bar), symbol_name=name).frame["close"].tolist() == [close]


@pytest.mark.parametrize(
    ("name", "bar"),
    [
        ("EUR/USD", "1.03428,1.03430,1.03176,1.03259"),
        ("EUR/USD", "1,2,1,1"),  # whole, and plausible as they are
        ("BTC/USD", "42100,42200,42000,42150"),  # plausible either way: as they are
        ("EUR/USD", "1034.28,1034.30,1031.76,1032.59"),  # not whole: the gate's bounds refuse it
        ("EUR/USD", "9999999999,9999999999,9999999999,9999999999"),  # fits in no unit: so do they
        ("EUR/USD", "nan,nan,nan,nan"),
        ("EUR/USD", "0,0,0,0"),
    ],
)
def test_what_is_no_point_stays_as_it_is(read: Read, name: str, bar: str) -> None:
    source = read(rows(bar), symbol_name=name)
    np.testing.assert_array_equal(
        source.frame[["open", "high", "low", "close"]].to_numpy()[0], [float(n) for n in bar.split(",")]
    )
    assert "unit" not in source.notes.detected


@pytest.mark.parametrize(
    ("bars", "why", "option"),
    [
        (("103428,103430,103176,103259", "103428,999999999,103176,103259"), "7 of 8 prices", "--unit 0.00001"),
        (("10342,10343,10317,10325",), "only when divided by 10,000", "--unit 0.0001"),
    ],
    ids=["one spike among points", "points of four decimals"],
)
def test_doubt_is_an_error_that_names_the_option(read: Read, bars: tuple[str, ...], why: str, option: str) -> None:
    with pytest.raises(SourceError) as caught:
        read(rows(*bars))
    assert why in str(caught.value)
    assert option in str(caught.value)
    assert "--unit 1 if" in str(caught.value)
    assert str(caught.value).startswith("bars.csv, line 1:")


def test_a_stated_unit_is_taken(read: Read) -> None:
    stated = read(rows("10342,10343,10317,10325"), unit=0.0001, volume_unit=100_000)
    assert stated.frame[["open", "volume"]].to_numpy().tolist() == [[1.0342, 700_000]]
    assert stated.notes.detected["unit"] == "times 0.0001 (as stated)"
    assert read(rows("103428,103430,103176,103259"), unit=1).frame["open"].tolist() == [103428]


@pytest.mark.parametrize("unit", [0.0, -1.0, float("inf"), float("nan")])
def test_a_unit_is_above_zero(unit: float) -> None:
    with pytest.raises(SourceError, match=r"--unit .* cannot be"):
        SourceOptions(unit=unit)
    with pytest.raises(SourceError, match=r"--volume-unit .* cannot be"):
        SourceOptions(volume_unit=unit)


def test_bid_and_ask_have_one_unit(read: Read) -> None:
    text = (
        "time,bid_open,bid_high,bid_low,bid_close,ask_open,ask_high,ask_low,ask_close\n"
        "2020-01-01,103428,103430,103176,103258,103430,103432,103178,103260\n"
    )
    assert read(text).frame["close"].tolist() == [1.03259]


@given(points=st.integers(1, 10**12), noise=st.integers(-2, 2), decimals=st.integers(1, 8))
def test_points_are_correct_decimals(points: int, noise: int, decimals: int) -> None:
    """Also when the float was next to, or next but one to, the whole number."""
    noisy = np.array([points], np.float64)
    for _ in range(abs(noise)):
        noisy = np.nextafter(noisy, np.inf * noise)
    assert in_units(noisy, 10.0**-decimals)[0] == float(Decimal(points).scaleb(-decimals))


@given(prices=st.lists(st.integers(30_000, 350_000), min_size=1))
def test_whole_prices_beyond_the_bounds_are_points(prices: list[int]) -> None:
    factor, _ = price_factor(np.array(prices, float), symbol("EUR/USD"), None, SourceError)  # type: ignore[arg-type]
    assert factor == 10.0**-5
