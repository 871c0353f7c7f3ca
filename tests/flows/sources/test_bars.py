"""What every source returns: one sorted, typed table, and a place for every row that was read."""

import gzip
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from feature_repo.catalog import symbol, timeframe
from flows.sources import SourceError, SourceOptions, read_bars

HEADER = "time,open,high,low,close,volume\n"
ROW = "2020-01-01T00:00:00Z,1.1,1.2,1.0,1.15,7\n"
EUR, HOUR = symbol("EUR/USD"), timeframe("1h")
AS_WRITTEN = SourceOptions(unit=1, stamp="open")  # else 30000.0 may be points (test_units.py), and 0:00:59 a close

_number = st.floats(min_value=1e-6, max_value=1e9) | st.sampled_from([0.0, -1.5, float("inf"), float("nan")])
_bars = st.lists(
    st.tuples(st.datetimes(pd.Timestamp("1990-01-01"), pd.Timestamp("2099-01-01")), *[_number] * 5),
    min_size=1,
    max_size=12,
)


def _text(number: float) -> str:
    return "" if np.isnan(number) else repr(number)


@settings(max_examples=60, deadline=None)
@given(
    bars=_bars,
    delimiter=st.sampled_from(",;\t"),
    newline=st.sampled_from(["\n", "\r\n", "\r"]),
    above=st.integers(0, 3),
    blank_before=st.sets(st.integers(0, 11)),
    zipped=st.booleans(),
    end=st.booleans(),
)
def test_what_was_written_is_read_with_its_line(
    tmp_path_factory, bars, delimiter, newline, above, blank_before, zipped, end
):
    lines = ["a comment: https://example.com"] * above + [delimiter.join(HEADER.strip().split(","))]
    places = []
    for position, (time, *numbers) in enumerate(bars):
        if position in blank_before:
            lines.append("")
        lines.append(delimiter.join([time.isoformat(), *map(_text, numbers)]))
        places.append(len(lines))
    data = (newline.join(lines) + newline * end).encode()
    path = tmp_path_factory.mktemp("bars") / "bars.csv"
    path.write_bytes(gzip.compress(data) if zipped else data)

    source = read_bars(path, symbol=EUR, timeframe=HOUR, options=AS_WRITTEN)

    expected = dict(zip(places, bars, strict=True))
    assert source.notes.rows_read == len(bars) == len(source.frame) + source.notes.duplicates
    assert len(source.rejected) == 0
    assert source.frame["open_time"].is_monotonic_increasing
    moved = any(np.isfinite(prices).all() and len(set(prices)) > 1 for _, *prices, _ in bars)
    unknown = moved and all(volume == 0 or np.isnan(volume) for *_, volume in bars)
    for row in source.frame.itertuples():
        time, *numbers = expected[row.line]
        numbers[-1] = np.nan if unknown else numbers[-1]
        assert row.open_time == pd.Timestamp(time, tz="UTC")
        np.testing.assert_array_equal([row.open, row.high, row.low, row.close, row.volume], numbers)


def test_the_tables_have_their_types_even_when_empty(read):
    source = read(
        "Time (local),o,h,l,c\n2019-10-27 02:30,1,2,1,2\n", tz="Europe/Berlin", columns={"time": "Time (local)"}
    )
    assert source.frame.empty
    assert dict(source.frame.dtypes.astype(str)) == {
        "open_time": "datetime64[us, UTC]",
        **dict.fromkeys(["open", "high", "low", "close", "volume"], "float64"),
        "file": "object",
        "line": "int64",
    }
    assert dict(source.rejected.dtypes.astype(str)) == {
        "file": "object",
        "line": "int64",
        "open_time": "datetime64[us, UTC]",
        **dict.fromkeys(["raw", "rule", "detail"], "object"),
    }
    assert dict(read(HEADER + ROW).rejected.dtypes) == dict(source.rejected.dtypes)


def test_newest_first_is_a_normal_order_and_breaks_of_it_are_counted(read):
    hours = [9, 8, 3, 7, 2, 6, 1]
    source = read(HEADER + "".join(f"2020-01-01 {h:02}:00,1,2,1,2,{h}\n" for h in hours))
    assert source.notes.detected["order"] == "newest first"
    assert source.notes.out_of_order == 2
    assert source.frame["volume"].tolist() == sorted(hours)


def test_oldest_first_with_one_row_too_late(read):
    source = read(HEADER + "".join(f"2020-01-01 {h:02}:00,1,2,1,2,0\n" for h in [1, 2, 5, 3, 4, 6]))
    assert source.notes.detected["order"] == "oldest first"
    assert source.notes.out_of_order == 1


def test_exact_duplicates_collapse_and_conflicting_ones_are_kept_in_order(read):
    other = ROW.replace("1.15", "1.16")
    source = read(HEADER + ROW + other + ROW + ROW.replace(",7", ","))
    assert source.notes.duplicates == 1
    assert source.frame["close"].tolist() == [1.15, 1.16, 1.15]
    assert source.frame["line"].tolist() == [2, 3, 5]


def test_rows_without_a_volume_are_duplicates_too(read):
    assert read(HEADER + 3 * ROW.replace(",7", ",")).notes.duplicates == 2


def test_float_noise_is_no_difference(read):
    source = read(HEADER + ROW.replace(",7", ",0.176") + ROW.replace(",7", ",0.17600000000000002"))
    assert source.notes.duplicates == 1
    assert read(HEADER + ROW.replace(",7", ",0.176") + ROW.replace(",7", ",0.17600000000001")).notes.duplicates == 0


def test_a_folder_is_read_in_name_order_and_a_bar_in_two_files_follows_the_duplicates_rule(tmp_path):
    later = ROW.replace("00:00:00Z", "01:00:00Z")
    (tmp_path / "b.csv").write_text(HEADER + ROW.replace("1.15", "1.19") + later)
    (tmp_path / "a.csv.gz").write_bytes(gzip.compress((HEADER + ROW + later).encode()))
    frame = pd.DataFrame({"time": [pd.Timestamp("2020-01-01 02:00")], "o": [1.0], "h": [1.0], "l": [1.0], "c": [1.0]})
    frame.to_parquet(tmp_path / "c.parquet")
    (tmp_path / "notes.txt").write_text("not a bar")
    (tmp_path / ".hidden.csv").write_text("not a bar")
    source = read_bars(tmp_path, symbol=EUR, timeframe=HOUR)
    assert source.notes.files == ("a.csv.gz", "b.csv", "c.parquet")
    assert list(zip(source.frame["file"], source.frame["line"], strict=True)) == [
        ("a.csv.gz", 2),
        ("b.csv", 2),
        ("a.csv.gz", 3),
        ("c.parquet", 1),
    ]
    assert source.notes.duplicates == 1
    assert source.notes.rows_read == 5
    assert source.notes.detected["format"] == "csv | parquet"
    only = read_bars(tmp_path, symbol=EUR, timeframe=HOUR, options=SourceOptions(format="csv"))
    assert only.notes.files == ("a.csv.gz", "b.csv")


def test_a_folder_does_not_mix_mid_prices_with_prices_of_one_side(tmp_path):
    (tmp_path / "a.csv").write_text(HEADER + ROW)
    sides = ",".join(f"{side}_{price}" for side in ("bid", "ask") for price in ("open", "high", "low", "close"))
    (tmp_path / "b.csv").write_text(f"time,{sides}\n2020-01-01,1,1,1,1,2,2,2,2\n")
    with pytest.raises(SourceError, match=r"^b\.csv: of this file and a\.csv, only one has bid and ask"):
        read_bars(tmp_path, symbol=EUR, timeframe=HOUR)


def test_close_stamps_are_moved_to_the_open(read):
    text = HEADER.replace("time", "close_time") + ROW
    at = pd.Timestamp("2020-01-01", tz="UTC")
    assert read(text).frame["open_time"][0] == at - pd.Timedelta(hours=1)
    assert read(text, stamp="open").frame["open_time"][0] == at
    assert read(HEADER + ROW).frame["open_time"][0] == at
    assert read(HEADER + ROW, stamp="close", timeframe_name="4h").frame["open_time"][0] == at - pd.Timedelta(hours=4)


def test_values_for_the_quality_gate_pass_through(read):
    source = read(HEADER + "2020-01-01,NaN,inf,-Infinity,,n/a\n2020-01-02, 1.5,+2,1e0,.5,null\n")
    first, second = source.frame[["open", "high", "low", "close", "volume"]].to_numpy()
    np.testing.assert_array_equal(first, [np.nan, np.inf, -np.inf, np.nan, np.nan])
    np.testing.assert_array_equal(second, [1.5, 2.0, 1.0, 0.5, np.nan])


def test_the_notes_can_be_shown(read):
    text = "Timestamps are UTC timezone,https://example.com\nDate;Open;High;Low;Close\n2020-01-01;1;2;1;2\n"
    assert read(text).notes.detected == {
        "format": "csv",
        "delimiter": ";",
        "header": "line 2",
        "columns": "time=Date, open=Open, high=High, low=Low, close=Close, volume not reported",
        "time_zone": "UTC (declared in the file)",
        "stamp": "bar open (detected)",
        "order": "oldest first",
    }


def test_a_path_may_be_a_string(tmp_path):
    (tmp_path / "a.csv").write_text(HEADER + ROW)
    assert len(read_bars(str(tmp_path / "a.csv"), symbol=EUR, timeframe=HOUR).frame) == 1


def test_a_clean_file_takes_the_fast_path(tmp_path: Path, monkeypatch):
    """Neither the mixed spellings of times nor the search for a bad line is gone through by a clean file."""
    monkeypatch.setattr("flows.sources.times.parse", None)
    monkeypatch.setattr("flows.sources.csv_file._misfit", None)
    monkeypatch.setattr("flows.sources.csv_layout.is_time", lambda _text: False)
    times = pd.date_range("2020-01-01", periods=2000, freq="min").strftime("%Y-%m-%d %H:%M:%S")
    (tmp_path / "a.csv").write_text(HEADER + "".join(f"{time},1,2,1,2,3\n" for time in times))
    assert len(read_bars(tmp_path / "a.csv", symbol=EUR, timeframe=timeframe("1m")).frame) == 2000
