"""Which column is which."""

import pytest

from flows.sources import SourceError

ROW = "2020-01-01,1,4,0.5,2"


@pytest.mark.parametrize(
    "header",
    [
        "time,open,high,low,close",
        "Timestamp,Open,High,Low,Close",
        "Gmt time,Open,High,Low,Close",
        "DateTime,O,H,L,C",
        "date,o,h,l,c",
        "<DATE>,<OPEN>,<HIGH>,<LOW>,<CLOSE>",
        ",Open,High,Low,Close",
        "Unnamed: 0,open,high,low,close",
        '"time","open","high","low","close"',
        "time , open , high , low , close",
        "\ufefftime,open,high,low,close",
        "TIMESTAMP_UTC,OPEN,HIGH,LOW,CLOSE",
    ],
)
def test_names_are_known_by_many_spellings(read, header):
    bar = read(f"{header}\n{ROW}\n").frame.iloc[0]
    assert bar[["open", "high", "low", "close"]].tolist() == [1, 4, 0.5, 2]


def test_columns_are_found_by_name_not_by_place(read):
    bar = read("volume,close,low,high,open,symbol,date\n9,2,0.5,4,1,EURUSD,2020-01-01\n").frame.iloc[0]
    assert bar[["open", "high", "low", "close", "volume"]].tolist() == [1, 4, 0.5, 2, 9]


@pytest.mark.parametrize(
    ("volumes", "volume", "shown"),
    [
        ("VolumeFrom,VolumeTo", 7, "volume=VolumeFrom (not VolumeTo)"),
        ("VolumeTo,VolumeFrom", 8, "volume=VolumeFrom (not VolumeTo)"),
        ("volume_btc,volume", 7, "volume=volume_btc (not volume)"),
        ("volume,volume_btc", 8, "volume=volume_btc (not volume)"),
        ("Volume USD,Volume BTC", 8, "volume=Volume BTC (not Volume USD)"),
        ("quote_volume,volume", 8, "volume=volume (not quote_volume)"),
        ("tick_volume,spread", 7, "volume=tick_volume"),
        ("Vol,x", 7, "volume=Vol"),
    ],
)
def test_the_volume_in_the_base_asset_is_preferred(read, volumes, volume, shown):
    source = read(f"time,o,h,l,c,{volumes}\n{ROW},7,8\n", symbol_name="BTC/USD")
    assert source.frame["volume"][0] == volume
    assert source.notes.detected["columns"].endswith(shown)


def test_a_mapping_names_the_columns(read):
    text = "when,first,h,l,c,v,tick_volume\n2020-01-01,1,4,0.5,2,8,9\n"
    bar = read(text, columns={"open_time": "when", "open": "First", "volume": "tick_volume"}).frame.iloc[0]
    assert bar[["open", "volume"]].tolist() == [1, 9]


def test_a_mapping_outweighs_a_known_name(read):
    text = "time,open,high,low,close,adj_close\n2020-01-01,1,4,0.5,2,1.9\n"
    assert read(text, columns={"close": "adj_close"}).frame["close"][0] == 1.9


def test_names_are_shown_without_their_control_characters(read):
    assert read(f"time,open\x1b[31m,h,l,c\n{ROW}\n", columns={"open": "open\x1b[31m"}).notes.detected["columns"] == (
        r"time=time, open=open\x1b[31m, high=h, low=l, close=c, volume not reported"
    )


@pytest.mark.parametrize("delimiter", [",", ";", "\t"])
@pytest.mark.parametrize("volume", ["", "{}7"])
def test_a_headerless_file_in_the_usual_order(read, delimiter, volume):
    text = "".join(f"20200101 0{h}0000{{}}1{{}}4{{}}0.5{{}}2{volume}\n" for h in range(3)).replace("{}", delimiter)
    source = read("# made by hand\n" + text)
    assert source.frame[["open", "high", "low", "close"]].drop_duplicates().to_numpy().tolist() == [[1, 4, 0.5, 2]]
    assert source.notes.detected["header"] == "none"
    assert source.frame["line"].tolist() == [2, 3, 4]
    assert source.frame["volume"].notna().all() == bool(volume)


@pytest.mark.parametrize(
    "rows",
    ["2020-01-01,1,2,4,0.5\n2020-01-02,1,2,4,0.5\n", "2020-01-01,1,4,0.5,2,2,9\n", "2020-01-01,EURUSD,1,4,0.5,2\n"],
    ids=["open close high low", "seven columns", "a name among them"],
)
def test_a_headerless_file_in_another_order_is_refused(read, rows):
    with pytest.raises(SourceError, match=r"bars\.csv, line 1: no header.*Write a header line"):
        read(rows)


def test_an_unknown_header_is_not_skipped_as_a_comment(read):
    with pytest.raises(SourceError, match=r"line 1: no column for open, high, low, close; its columns are 'when', 'w'"):
        read("when,w,x,y,z\n2020-01-01,1,4,0.5,2\n")


def test_a_delimiter_of_the_users(read):
    assert read("time|o|h|l|c\n2020-01-01|1|4|0.5|2\n", delimiter="|").frame["high"][0] == 4
    assert (
        read("time,a;o;h;l;c\n2020-01-01;1;4;0.5;2\n", delimiter=";", columns={"time": "time,a"}).frame["high"][0] == 4
    )
