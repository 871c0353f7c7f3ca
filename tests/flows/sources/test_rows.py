"""What rows say of themselves: that a bar is incomplete, that no volume is reported, that a time is a close."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from feature_repo.catalog import symbol, timeframe
from flows.sources import SourceBars, SourceError, SourceOptions, read_bars

Read = Callable[..., SourceBars]


def hours(*rows: str, columns: str) -> str:
    lines = (f"2024-01-08T{hour:02}:00:00Z,1.1,1.2,1.0,1.15,{row}\n" for hour, row in enumerate(rows))
    return f"time,open,high,low,close,{columns}\n" + "".join(lines)


# --------------------------------------------------------------------------------------------- incomplete bars


@pytest.mark.parametrize(
    ("column", "values"),
    [
        ("complete", ("True", "True", "False")),
        ("Complete", ("true", "true", "false")),
        ("confirm", ("1", "1", "0")),
        ("is_final", ("yes", "", "no")),
        ("isClosed", ("TRUE", "TRUE", "FALSE")),
        ("incomplete", ("False", "False", "True")),
        ("partial", ("0", "0", "1")),
    ],
)
def test_a_row_that_says_it_is_incomplete_is_held_back(read: Read, column: str, values: tuple[str, ...]) -> None:
    source = read(hours(*values, columns=column))
    assert source.frame["open_time"].dt.hour.tolist() == [0, 1]
    assert (source.notes.unfinished, source.notes.rows_read, len(source.rejected)) == (1, 3, 0)


def test_what_it_was_later_is_taken(read: Read) -> None:
    """A poll that keeps what it fetched writes a candle several times, the last time complete."""
    text = hours("False", columns="complete") + hours("True", columns="complete").partition("\n")[2].replace(
        "1.15", "1.16"
    )
    assert read(text).frame["close"].tolist() == [1.16]


def test_a_column_that_is_no_flag_says_nothing(read: Read) -> None:
    for values in (("0.5", "1", "0"), ("since Monday", "True", "False")):
        assert len(read(hours(*values, columns="complete")).frame) == 3


def test_flags_of_parquet(tmp_path: Path) -> None:
    frame = pd.DataFrame(
        {"time": pd.date_range("2024-01-08", periods=3, freq="h", tz="UTC"), "complete": [True, None, False]}
    )
    frame[["open", "high", "low", "close"]] = [1.1, 1.2, 1.0, 1.15]
    frame.to_parquet(tmp_path / "bars.parquet")
    source = read_bars(tmp_path / "bars.parquet", symbol=symbol("EUR/USD"), timeframe=timeframe("1h"))
    assert (len(source.frame), source.notes.unfinished) == (2, 1)


# ------------------------------------------------------------------------------------------------ unknown volume


@pytest.mark.parametrize("volumes", [("0", "0", "0"), ("-1", "-1.0", "-1"), ("0", "-1", "")])
def test_a_volume_of_nothing_on_every_row_is_unknown(read: Read, volumes: tuple[str, ...]) -> None:
    source = read(hours(*volumes, columns="Volume"))
    assert source.frame["volume"].isna().all()
    assert source.notes.detected["columns"].endswith("volume not reported (not Volume)")


def test_one_trade_makes_the_other_zeros_known(read: Read) -> None:
    assert read(hours("0", "7", "0", columns="volume")).frame["volume"].tolist() == [0, 7, 0]


def test_bars_that_did_not_move_may_have_traded_nothing(read: Read) -> None:
    """Like a quiet minute that was fetched alone: its zero is known, and stays known when the day is read."""
    flat = hours("0", "0", columns="volume").replace("1.1,1.2,1.0,1.15", "1.1,1.1,1.1,1.1")
    assert read(flat).frame["volume"].tolist() == [0, 0]
    assert read(flat.replace(",0\n", ",-1\n")).frame["volume"].isna().all()


def test_the_count_of_ticks_stands_in_for_a_volume_of_minus_one(read: Read) -> None:
    source = read(hours("-1,12", "-1,13", columns="volume,tick_volume"))
    assert source.frame["volume"].tolist() == [12, 13]


def test_sizes_of_nothing_are_unknown_too(read: Read) -> None:
    text = "time,price,size\n2024-01-08T00:00:01Z,1.1,0\n2024-01-08T23:59:59Z,1.2,0\n"
    assert read(text).frame["volume"].isna().all()


def test_a_volume_can_be_stated_to_be_none(read: Read) -> None:
    assert read(hours("0", "7", columns="volume"), volume="none").frame["volume"].isna().all()
    with pytest.raises(SourceError, match="--volume none, and an option about the volume"):
        SourceOptions(volume="none", volume_unit=100_000)
    with pytest.raises(SourceError, match="unknown volume 'some'"):
        SourceOptions(volume="some")  # type: ignore[arg-type]


# ------------------------------------------------------------------------------------------------ opens and closes

ENDS = ["endTime", "close_time", "period_end", "time_period_end", "timeClose", "End", "closeTimestamp", "end_date"]
OPENS = ["timeOpen", "openTime", "start", "period_start", "startTime", "begin", "open_date"]


@pytest.mark.parametrize("name", ENDS)
def test_a_stamp_that_is_named_an_end_is_a_close(read: Read, name: str) -> None:
    source = read(f"{name},o,h,l,c\n2024-01-08T09:00:00Z,1.1,1.2,1.0,1.15\n")
    assert source.frame["open_time"].tolist() == [pd.Timestamp("2024-01-08 08:00", tz="UTC")]
    assert source.notes.detected["stamp"] == "bar close (detected)"
    assert read(f"{name},o,h,l,c\n2024-01-08T09:00Z,1,2,1,2\n", stamp="open").frame["open_time"].dt.hour[0] == 9


@pytest.mark.parametrize("name", OPENS)
def test_a_stamp_that_is_named_a_begin_goes_before_any_other(read: Read, name: str) -> None:
    text = f"timestamp,close_time,{name},o,h,l,c\n2024-01-08T10:00Z,2024-01-08T10:00Z,2024-01-08T09:00Z,1,2,1,2\n"
    source = read(text)
    assert source.frame["open_time"].dt.hour.tolist() == [9]
    assert source.notes.detected["stamp"] == "bar open (detected)"


@pytest.mark.parametrize("end", ["59:59.999", "59:59", "59:59.999999"])
@pytest.mark.parametrize("name", ["close_time", "timestamp", "time"])
def test_a_moment_before_the_hour_is_its_end(read: Read, name: str, end: str) -> None:
    text = f"{name},o,h,l,c\n" + "".join(f"2024-01-08 0{hour}:{end},1,2,1,2\n" for hour in range(3))
    assert read(text).frame["open_time"].dt.strftime("%d %H:%M:%S").tolist() == [
        f"08 0{hour}:00:00" for hour in range(3)
    ]


def test_counts_of_a_last_millisecond(read: Read) -> None:
    closes = 1_704_700_800_000 + 60_000 * np.arange(1, 4) - 1
    text = "close_time,o,h,l,c\n" + "".join(f"{close},1,2,1,2\n" for close in closes)
    source = read(text, timeframe_name="1m", stamp="close")
    assert source.frame["open_time"].dt.strftime("%H:%M:%S").tolist() == ["08:00:00", "08:01:00", "08:02:00"]


def test_days_that_end_at_the_last_second(read: Read) -> None:
    text = "timestamp,o,h,l,c\n2024-01-08T23:59:59.999Z,1,2,1,2\n2024-01-09T23:59:59.999Z,1,2,1,2\n"
    source = read(text, symbol_name="BTC/USD", timeframe_name="1d")
    assert source.frame["open_time"].dt.strftime("%m-%d %H:%M").tolist() == ["01-08 00:00", "01-09 00:00"]


def test_what_is_not_so_on_every_row_or_is_named_an_open_is_left_to_the_gate(read: Read) -> None:
    for text in ("time,o,h,l,c\n2024-01-08 08:59:59,1,2,1,2\n2024-01-08 10:00,1,2,1,2\n",
                 "open_time,o,h,l,c\n2024-01-08 08:59:59,1,2,1,2\n"):  # fmt: skip
        assert read(text).frame["open_time"].dt.strftime("%H:%M:%S").tolist()[0] == "08:59:59"
