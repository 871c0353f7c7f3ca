"""Ticks to bars."""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from feature_repo.catalog import symbol, timeframe
from flows.sources import SourceBars, SourceError, SourceOptions, read_bars
from flows.sources.ticks import bars_of_ticks

Read = Callable[..., SourceBars]
END = datetime(2024, 1, 8, 10, tzinfo=UTC)

QUOTES = """time,bid,ask
2024-01-08T09:00:00.100Z,1.10010,1.10020
2024-01-08T09:00:00.100Z,1.10000,1.10030
2024-01-08T09:00:59.999Z,1.10015,1.10025
2024-01-08T09:02:00.000Z,1.10040,1.10050
2024-01-08T09:02:30.000Z,1.10060,1.10070
"""
TRADES = """time,price,size
2024-01-08T09:00:10Z,42000,0.5
2024-01-08T09:00:20Z,42010,0.25
2024-01-08T09:01:00Z,41990,1
"""


def test_quotes_become_bars_of_the_mid(read: Read) -> None:
    source = read(QUOTES, timeframe_name="1m", end=END)
    bars = source.frame.set_index(source.frame["open_time"].dt.strftime("%H:%M"))
    assert bars.index.tolist() == ["09:00", "09:02"], "a minute without a tick has no bar"
    # Of each side's own bar the mid: bid 1.1001 1.10015 1.1 1.10015, ask 1.1002 1.1003 1.1002 1.10025.
    assert bars.loc["09:00", ["open", "high", "low", "close"]].tolist() == [1.10015, 1.100225, 1.1001, 1.1002]
    assert bars["volume"].isna().all()
    assert bars["line"].tolist() == [2, 5], "a bar's line is that of its first tick"
    assert source.notes.detected["stamp"] == "ticks"
    assert source.notes.rows_read == 5


def test_trades_become_bars_with_their_volume(read: Read) -> None:
    source = read(TRADES, timeframe_name="1m", symbol_name="BTC/USD", end=END)
    assert source.frame[["open", "high", "low", "close", "volume"]].to_numpy().tolist() == [
        [42000, 42010, 42000, 42010, 0.75],
        [41990, 41990, 41990, 41990, 1],
    ]


def test_ticks_of_one_time_count_in_the_order_of_the_file(read: Read) -> None:
    text = "time,price\n" + "".join(f"2024-01-08T09:00:00.5Z,{price}\n" for price in (1.3, 1.1, 1.2))
    bar = read(text, timeframe_name="1m", end=END).frame.iloc[0]
    assert bar[["open", "close"]].tolist() == [1.3, 1.2]


def test_the_bar_in_which_ticks_are_cut_off_is_held_back(read: Read) -> None:
    source = read(QUOTES, timeframe_name="1m")
    assert (len(source.frame), source.notes.unfinished) == (1, 1)
    assert len(read(QUOTES, timeframe_name="1m", end=datetime(2024, 1, 8, 9, 2, 59, tzinfo=UTC)).frame) == 1
    assert read(QUOTES, timeframe_name="1m", end=datetime(2024, 1, 8, 9, 3, tzinfo=UTC)).notes.unfinished == 0


@pytest.mark.parametrize(
    ("last", "tf", "unfinished"),
    [
        ("2024-01-08T23:59:31Z", "1m", 0),  # the day's last minute
        ("2024-01-08T23:59:31Z", "1h", 0),
        ("2024-01-08T12:00:00Z", "1d", 1),  # half of a day
        ("2024-01-08T23:58:31Z", "1m", 1),  # perhaps cut off
        ("2024-01-12T21:59:59Z", "1m", 0),  # Friday 17:00 New York
        ("2024-01-12T21:59:59Z", "1d", 0),
    ],
)
def test_ticks_that_reach_the_end_of_a_day_are_whole(read: Read, last: str, tf: str, unfinished: int) -> None:
    text = f"time,bid,ask\n2024-01-08T01:00:00Z,1.1,1.2\n{last},1.1,1.2\n"
    assert read(text, timeframe_name=tf).notes.unfinished == unfinished


def test_what_was_written_before_its_bar_closed_is_not_whole() -> None:
    ticks = pd.DataFrame({"open_time": pd.to_datetime(["2024-01-08T23:59:31Z"]).as_unit("us"), "price": [1.1],
                          "volume": [np.nan], "file": ["a"], "line": [1]})  # fmt: skip
    about = {"symbol": symbol("EUR/USD"), "timeframe": timeframe("1m")}
    for second, unfinished in ((40, 1), (60, 0)):
        written = datetime(2024, 1, 8, 23, 59, tzinfo=UTC) + pd.Timedelta(seconds=second)
        assert bars_of_ticks(ticks, **about, written_at=written)[1] == unfinished  # type: ignore[arg-type]


def test_a_side_that_did_not_change_is_as_it_was(read: Read) -> None:
    """As MetaTrader 5 exports ticks: a side that stays is left empty."""
    text = (
        "<DATE>\t<TIME>\t<BID>\t<ASK>\t<LAST>\t<VOLUME>\t<FLAGS>\n"
        "2024.01.08\t09:00:00.100\t1.10000\t\t\t\t2\n"  # no ask yet
        "2024.01.08\t09:00:00.200\t\t1.10020\t\t\t4\n"
        "2024.01.08\t09:00:01.000\t1.10010\t\t\t\t2\n"
    )
    source = read(text, timeframe_name="1m", end=END)
    assert source.notes.detected["format"] == "mt5"
    assert source.frame[["open", "close"]].to_numpy().tolist() == [[1.1001, 1.10015]]
    assert source.rejected["line"].tolist() == [2]
    assert source.rejected["detail"].tolist() == ["the tick has no price, nor any before it"]


def test_histdatas_ticks_are_known(read: Read) -> None:
    source = read(
        "20120201 000003660,1.306600,1.306770,0\n20120201 000103973,1.306580,1.306750,0\n", timeframe_name="1m"
    )
    assert source.notes.detected["format"] == "histdata"
    assert source.frame["open_time"].tolist() == [pd.Timestamp("2012-02-01 05:00", tz="UTC")]
    assert source.frame["close"].tolist() == [1.306685]
    side = read("20121202 170010;1.035400;0\n20121202 170117;1.035550;0\n", timeframe_name="1m")
    assert side.frame[["open_time", "close"]].to_numpy().tolist() == [
        [pd.Timestamp("2012-12-02 22:00", tz="UTC"), 1.0354]
    ]


def test_two_files_of_one_side_each(read: Read) -> None:
    bid = "time,price\n2024-01-08T09:00:01Z,1.1000\n2024-01-08T09:01:01Z,1.1010\n"
    ask = "time,price\n2024-01-08T09:00:02Z,1.1002\n2024-01-08T09:01:01Z,1.1012\n"
    assert read(bid, ask=ask, timeframe_name="1m", end=END).frame["close"].tolist() == [1.1001, 1.1011]


def test_a_crossed_bar_is_rejected_as_one_of_bars_is(read: Read) -> None:
    source = read("time,bid,ask\n2024-01-08T09:00:01Z,1.2,1.1\n", timeframe_name="1m", end=END)
    assert source.rejected["rule"].tolist() == ["ask_below_bid"]


def test_a_crossed_quote_inside_a_bar_is_rejected_by_itself(read: Read) -> None:
    """Also where its feed leaves the other side empty, until the side that crosses is quoted again."""
    rows = [(1, "1.1000", "1.1002"), (2, "1.1900", ""), (3, "", "1.1003"), (4, "1.1001", ""), (70, "1.1", "1.2")]
    text = "time,bid,ask\n" + "".join(
        f"2024-01-08T09:{second // 60:02}:{second % 60:02}Z,{bid},{ask}\n" for second, bid, ask in rows
    )
    source = read(text, timeframe_name="1m")
    bar = source.frame.iloc[0]
    assert bar[["open", "high", "low", "close"]].tolist() == [1.1001, 1.1002, 1.1001, 1.1002]
    assert source.rejected[["line", "rule"]].to_numpy().tolist() == [[3, "ask_below_bid"], [4, "ask_below_bid"]]
    assert source.rejected["detail"].tolist()[0] == "ask 1.1002 is below bid 1.19"
    assert source.notes.ticks == 5


def test_an_ask_at_the_bid_does_not_cross(read: Read) -> None:
    assert not len(read("time,bid,ask\n2024-01-08T09:00:01Z,1.1,1.1\n", timeframe_name="1m", end=END).rejected)


def test_a_bar_across_two_files_is_one(tmp_path: Path) -> None:
    (tmp_path / "a.csv").write_text("time,price,size\n2024-01-08T09:00:01Z,1.1,1\n2024-01-08T09:00:20Z,1.3,1\n")
    (tmp_path / "b.csv").write_text("time,price,size\n2024-01-08T09:00:20Z,1.0,1\n2024-01-08T09:01:02Z,1.2,1\n")
    about = {"symbol": symbol("EUR/USD"), "timeframe": timeframe("1m"), "options": SourceOptions(end=END)}
    bars = read_bars(tmp_path, **about).frame  # type: ignore[arg-type]
    assert bars[["open", "high", "low", "close", "volume"]].to_numpy().tolist() == [
        [1.1, 1.3, 1.0, 1.0, 3],
        [1.2, 1.2, 1.2, 1.2, 1],
    ]
    (tmp_path / "c.csv").write_text("time,price,size\n2024-01-08T09:00:30Z,1.0,1\n")
    with pytest.raises(SourceError, match=r"c\.csv: its ticks begin .*, before those of b\.csv end"):
        read_bars(tmp_path, **about)  # type: ignore[arg-type]
    (tmp_path / "c.csv").write_text("time,o,h,l,c\n2024-01-08T09:00:00Z,1,1,1,1\n")
    with pytest.raises(SourceError, match=r", only one has ticks"):
        read_bars(tmp_path, **about)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("text", "options", "why"),
    [
        (QUOTES, {"stamp": "open"}, "--stamp is for bars"),
        ("time,o,h,l,c\n2024-01-08,1,2,1,2\n", {"end": END}, "--end is for ticks"),
        ("time,bid,volume\n2024-01-08,1,2\n", {}, "no column for open, high, low, close"),
    ],
)
def test_what_cannot_be(read: Read, text: str, options: dict[str, object], why: str) -> None:
    with pytest.raises(SourceError) as caught:
        read(text, **options)
    assert why in str(caught.value)


def test_columns_can_be_named(read: Read) -> None:
    text = "when,b,a\n2024-01-08T09:00:01Z,1.1,1.2\n"
    assert (
        read(text, timeframe_name="1m", end=END, columns={"time": "when", "bid": "b", "ask": "a"}).frame["close"][0]
        == 1.15
    )


@settings(max_examples=80, deadline=None)
@given(
    ticks=st.lists(st.tuples(st.integers(0, 40 * 60 * 1000), st.integers(100_000, 120_000)), min_size=1, max_size=60),
    tf=st.sampled_from(["1m", "5m", "1h"]),
)
def test_bars_are_those_that_a_loop_makes(ticks: list[tuple[int, int]], tf: str) -> None:
    start = pd.Timestamp("2024-01-08 09:00", tz="UTC")
    ticks = sorted(ticks, key=lambda tick: tick[0])
    times = pd.DatetimeIndex([start + pd.Timedelta(milliseconds=ms) for ms, _ in ticks]).as_unit("us")
    frame = pd.DataFrame({"open_time": times, "price": [price / 1e5 for _, price in ticks]})
    frame = frame.assign(volume=1.0, file="a", line=range(len(ticks)))
    bars, unfinished = bars_of_ticks(frame, symbol=symbol("EUR/USD"), timeframe=timeframe(tf), complete_to=END)
    expected: dict[int, list[float]] = {}
    for ms, price in ticks:
        expected.setdefault(ms // (timeframe(tf).seconds * 1000), []).append(price / 1e5)
    assert unfinished == 0
    assert bars[["open", "high", "low", "close", "volume"]].to_numpy().tolist() == [
        [p[0], max(p), min(p), p[-1], len(p)] for p in expected.values()
    ]
