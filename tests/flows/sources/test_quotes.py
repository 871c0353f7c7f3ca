"""Mid prices of bid and ask bars."""

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from flows.sources.quotes import crossed_prices, mid, pair

HEADER = "time,open,high,low,close\n"
SIDES = ",".join(f"{side}_{price}" for side in ("bid", "ask") for price in ("open", "high", "low", "close"))


def test_both_sides_in_one_file(read):
    text = f"time,{SIDES}\n2014-01-01T22:00:00Z,1.37869,1.37869,1.37353,1.37588,1.37889,1.37889,1.37496,1.37665\n"
    bar = read(text).frame.iloc[0]
    assert bar[["open", "high", "low", "close"]].tolist() == [1.37879, 1.37879, 1.374245, 1.376265]
    assert np.isnan(bar["volume"])


def test_an_ask_file_beside_the_bid_file(read):
    bid = HEADER + "2020-01-01 00:00,1.1,1.3,1.0,1.2\n2020-01-01 01:00,1,1,1,1\n2020-01-01 02:00,1,1,1,1.00002\n"
    ask = HEADER + "2020-01-01 03:00,2,2,2,2\n2020-01-01 02:00,1,1,1,1.00001\n2020-01-01 00:00,1.10003,1.3,1.0,1.2\n"
    source = read(bid, ask=ask)
    assert source.frame[["open", "close", "file", "line"]].to_numpy().tolist() == [[1.100015, 1.2, "bars.csv", 2]]
    rejected = source.rejected.set_index("rule")
    assert rejected.loc["no_matching_ask", ["file", "line", "raw"]].tolist() == [
        "bars.csv",
        3,
        "2020-01-01 01:00,1,1,1,1",
    ]
    assert rejected.loc["no_matching_bid", ["file", "line", "raw"]].tolist() == [
        "ask.csv",
        2,
        "2020-01-01 03:00,2,2,2,2",
    ]
    crossed = rejected.loc["ask_below_bid"]
    assert (crossed["line"], crossed["open_time"]) == (4, pd.Timestamp("2020-01-01 02:00", tz="UTC"))
    assert crossed["detail"] == "ask close 1.00001 is below bid close 1.00002"
    assert source.notes.rows_read == 6
    assert source.notes.files == ("bars.csv", "ask.csv")


@pytest.mark.parametrize(
    ("bid", "ask", "detail"),
    [
        ("1.1000,1.1010,1.0990,1.1000", "1.0900,1.1012,1.0900,1.1002", "ask open 1.09 is below bid open 1.1"),
        ("1.1000,1.1950,1.0990,1.1000", "1.1002,1.1012,1.0992,1.1002", "ask high 1.1012 is below bid high 1.195"),
        ("1.1000,1.1010,1.0990,1.1000", "1.1002,1.1012,1.0200,1.1002", "ask low 1.02 is below bid low 1.099"),
        ("1.1000,1.1010,1.0990,1.1003", "1.1002,1.1012,1.0992,1.1002", "ask close 1.1002 is below bid close 1.1003"),
    ],
)
def test_a_quote_that_crossed_inside_a_bar_shows_in_any_of_its_prices(read, bid, ask, detail):
    """One file or two: the mid of such a bar would be a price that never was."""
    good = "1.1000,1.1010,1.0990,1.1000", "1.1002,1.1012,1.0992,1.1002"
    both = f"time,{SIDES}\n2020-01-01 00:00,{bid},{ask}\n2020-01-01 01:00,{','.join(good)}\n"
    sides = [
        f"{HEADER}2020-01-01 00:00,{of_bad}\n2020-01-01 01:00,{of_good}\n"
        for of_bad, of_good in zip((bid, ask), good, strict=True)
    ]
    for source in (read(both), read(sides[0], ask=sides[1])):
        assert source.frame["open_time"].dt.hour.tolist() == [1]
        assert source.rejected[["rule", "detail", "line"]].to_numpy().tolist() == [["ask_below_bid", detail, 2]]


def test_sides_that_are_not_of_one_moment_cross_slightly_and_are_kept(read):
    """As in FXCM's minutes: the open repeats the last close of each side, a high was quoted on one side first."""
    bid, ask = "1.10002,1.10100,1.09900,1.10000", "1.10000,1.10097,1.09897,1.10001"
    source = read(f"time,{SIDES}\n2020-01-01 00:00,{bid},{ask}\n")
    assert source.frame["high"].tolist() == [1.100985]
    assert source.rejected.empty


def test_an_equal_ask_is_not_below(read):
    assert len(read(HEADER + "2020-01-01,1,1,1,1\n", ask=HEADER + "2020-01-01,1,1,1,1\n").frame) == 1
    spelled = HEADER + "2020-01-01,1.1,1.1,1.1,1.1\n"
    assert len(read(spelled.replace("1.1,", "1.1000000000000003,"), ask=spelled).frame) == 1


def test_a_missing_price_is_left_to_the_gate(read):
    source = read(HEADER + "2020-01-01,1,1,1,\n", ask=HEADER + "2020-01-01,1,1,1,1\n")
    assert np.isnan(source.frame["close"][0])


def test_the_volume_is_the_bids(read):
    text = HEADER.strip() + ",volume\n2020-01-01,1,1,1,1,"
    assert read(text + "7\n", ask=text + "9\n").frame["volume"][0] == 7


def test_sides_named_as_such_in_their_own_files(read):
    bid, ask = (
        f"time,{','.join(f'{side}_{p}' for p in ('open', 'high', 'low', 'close'))}\n" for side in ("bid", "ask")
    )
    assert read(bid + "2020-01-01,1,1,1,1\n", ask=ask + "2020-01-01,2,2,2,2\n").frame["close"][0] == 1.5


def test_decimals_follow_the_symbol(read):
    row = "2020-01-01,90.001,90.001,90.001,90.0011\n"
    assert read(HEADER + row, ask=HEADER + row, symbol_name="USD/JPY").frame["close"][0] == 90.0011
    row = "2020-01-01,90.001,90.001,90.001,90.00114\n"
    assert read(HEADER + row, ask=HEADER + row, symbol_name="USD/JPY").frame["close"][0] == 90.0011


def test_a_conflict_within_one_side_stays_to_be_seen(read):
    bid = HEADER + "2020-01-01,1,1,1,1\n2020-01-01,1,1,1,1.5\n"
    source = read(bid, ask=HEADER + "2020-01-01,2,2,2,2\n")
    assert source.frame["close"].tolist() == [1.5, 1.75]


_side = st.lists(st.integers(0, 5), max_size=10)


@settings(max_examples=60, deadline=None)
@given(_side, _side)
def test_every_row_of_both_sides_finds_its_place(bid_hours, ask_hours):
    def rows(hours, price):
        times = pd.to_datetime(pd.Series(hours, dtype="int64"), unit="h", utc=True).astype("datetime64[us, UTC]")
        values = np.arange(len(hours)) + price
        return pd.DataFrame({"open_time": times, **dict.fromkeys(("open", "high", "low", "close"), values)})

    bid, ask = rows(bid_hours, 0.0), rows(ask_hours, 100.0)
    pairs, no_ask, no_bid = pair(bid, ask)
    shared = set(bid_hours) & set(ask_hours)
    assert sorted({*pairs["close"], *no_ask["close"]}) == bid["close"].tolist()
    assert sorted({*pairs["ask_close"], *no_bid["close"]}) == ask["close"].tolist()
    assert len(pairs) == sum(max(bid_hours.count(hour), ask_hours.count(hour)) for hour in shared)
    assert (pairs["open_time"] == ask["open_time"].iloc[(pairs["ask_close"] - 100).astype(int)].to_numpy()).all()
    mids = mid(pairs, 5)
    assert not crossed_prices(pairs).any()
    assert (mids["close"] == (pairs["close"] + pairs["ask_close"]) / 2).all()


@pytest.mark.parametrize("text", ["2020-01-01 00:00,1,1,1,1\n2020-01-01 00:00,1,1,1,1\n"])
def test_duplicates_of_each_side_collapse_before_they_are_paired(read, text):
    source = read(HEADER + text, ask=HEADER + text)
    assert (len(source.frame), source.notes.duplicates) == (1, 2)
