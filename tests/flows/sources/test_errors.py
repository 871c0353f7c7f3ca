"""Sources that cannot be read: one line that says where, what and the remedy, and nothing is returned."""

import copy
import gzip

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from feature_repo.catalog import symbol, timeframe
from flows.sources import SourceError, SourceOptions, read_bars

HEADER = "time,open,high,low,close\n"
ROW = "2020-01-01,1,4,0.5,2\n"
EUR, DAY = symbol("EUR/USD"), timeframe("1d")


def error_of(read, text, **options) -> SourceError:
    with pytest.raises(SourceError) as caught:
        read(text, **options)
    assert str(caught.value).isprintable()
    return caught.value


def test_missing_column(read):
    error = error_of(read, "x\n\ntime,open,high,low,Last\n" + ROW)
    assert str(error) == (
        "bars.csv, line 3: no column for close; its columns are 'time', 'open', 'high', 'low', 'Last'. "
        "Name them with --columns close=NAME."
    )
    assert (error.file, error.line) == ("bars.csv", 3)


def test_missing_time_column(read):
    assert "no column for the time" in str(error_of(read, "open,high,low,close\n1,4,0.5,2\n"))


def test_missing_ask_columns(read):
    error = error_of(read, "time,bid_open,bid_high,bid_low,bid_close\n" + ROW)
    assert "no column for ask_open, ask_high, ask_low, ask_close" in str(error)


@pytest.mark.parametrize(("column", "name"), [(1, "open"), (2, "high"), (3, "low"), (4, "close"), (5, "volume")])
def test_text_in_a_number(read, column, name):
    cells = ["2020-01-02", "1", "4", "0.5", "2", "3"]
    cells[column] = "Übel\x1b[31m" + "x" * 60
    text = HEADER.strip() + ",volume\n" + ROW.strip() + ",\n\n" + ",".join(cells) + "\n"
    error = error_of(read, text)
    assert str(error) == (
        f"bars.csv, line 4: {name} is '\\xdcbel\\x1b[31m{'x' * 31}...', not a number. "
        "Correct or delete the line; numbers are written with a point, as 1.0716."
    )


@pytest.mark.parametrize("text", ["1,5", "1.2.3", "0x10", "1_000", "--", "$1.5", "1d", "²"])
def test_what_is_no_number(read, text):
    assert "is not a number" not in str(error_of(read, HEADER + ROW + f'2020-01-02,1,4,"{text}",2\n'))
    assert error_of(read, HEADER + ROW + f'2020-01-02,1,4,"{text}",2\n').line == 3


def test_text_in_a_time(read):
    assert str(error_of(read, HEADER + ROW + "total,1,2,3,4\n")).startswith(
        "bars.csv, line 3: time is 'total', not a time. Correct or delete the line"
    )


def test_a_header_repeated_in_the_middle(read):
    assert error_of(read, HEADER + ROW + HEADER + ROW).line == 3


@pytest.mark.parametrize(
    ("line", "reason"),
    [
        ("2020-01-02,1,4", "3 fields instead of 5"),
        ("2020-01-02,1,4,0.5,2,9", "6 fields instead of 5"),
        ('2020-01-02,1,4,0.5,"2', "unexpected end of data"),
    ],
    ids=["cut off", "too long", "open quote"],
)
@pytest.mark.parametrize("after", ["", "\n", "\n" + ROW])
def test_unreadable_line(read, line, reason, after):
    error = error_of(read, HEADER + ROW + "\n" + line + after)
    assert str(error).startswith(f"bars.csv, line 4: unreadable line, {reason}: ")
    assert "Correct or delete the line" in str(error)


def test_undecodable_bytes(read):
    error = error_of(read, (HEADER + ROW).encode() + b"2020-01-02,\xff,1,1,1\n")
    assert str(error) == "bars.csv, line 3: byte 0xff is not UTF-8 text. Save the file as UTF-8."


def test_damaged_gzip(read):
    assert "damaged gzip" in str(error_of(read, gzip.compress((HEADER + ROW).encode())[:-9]))


def test_damaged_parquet(read):
    error = error_of(read, b"PAR1 and no more", name="bars.parquet")
    assert str(error).startswith("bars.parquet: not readable as Parquet")


@pytest.mark.parametrize(("text", "reason"), [("", "is empty"), ("\n\n", "is empty"), (HEADER, "no rows")])
def test_nothing_in_the_file(read, text, reason):
    assert reason in str(error_of(read, text))


def test_missing_file_and_empty_folder(tmp_path):
    for path, reason in ((tmp_path / "no.csv", "no such file or folder"), (tmp_path, "nothing to read in this folder")):
        with pytest.raises(SourceError, match=reason) as caught:
            read_bars(path, symbol=EUR, timeframe=DAY)
        assert str(path) in str(caught.value)
    (tmp_path / "empty.csv").write_text("")
    with pytest.raises(SourceError, match=r"^empty\.csv: the file is empty"):
        read_bars(tmp_path, symbol=EUR, timeframe=DAY)


def test_two_instruments_in_one_file(read):
    error = error_of(read, "symbol," + HEADER + "EURUSD," + ROW + "GBPUSD," + ROW)
    assert str(error) == (
        "bars.csv, line 3: bars of 'EURUSD' and of 'GBPUSD' in one file. Name the one to take, as --instrument EURUSD."
    )


def test_a_name_that_is_there_twice(read):
    assert "more than one column called 'close'" in str(
        error_of(read, "time,open,high,low,Close,close\n" + ROW[:-1] + ",2\n")
    )


def test_a_mapping_to_a_column_that_is_not_there(read):
    error = error_of(read, HEADER + ROW, columns={"close": "Last"})
    assert "no column called 'Last'; its columns are 'time', 'open'" in str(error)


@pytest.mark.parametrize(
    ("options", "reason"),
    [
        ({"format": "xls"}, "unknown format 'xls'"),
        ({"stamp": "middle"}, "unknown stamp 'middle'"),
        ({"columns": {"Close": "Last"}}, "--columns names 'Close'"),
        ({"delimiter": "ab"}, "'ab' cannot be a delimiter"),
        ({"delimiter": "\n"}, "cannot be a delimiter"),
    ],
)
def test_options_that_cannot_be(options, reason):
    with pytest.raises(SourceError, match=reason):
        SourceOptions(**options)


def test_a_file_name_cannot_break_the_line_or_colour_the_terminal(read):
    assert str(error_of(read, "", name="a\n\x1b[31m.csv")).startswith(r"a\n\x1b[31m.csv: the file is empty")


def test_the_error_can_be_carried_to_another_process(read):
    error = error_of(read, HEADER + "total,1,2,3,4\n")
    again = copy.copy(error)
    assert (str(again), again.file, again.line) == (str(error), "bars.csv", 2)


_pieces = st.sampled_from([HEADER, ROW, ROW.replace("-", "/"), ",", ";", "\n", '"', "\r", "nan", "soon", "\ufeff", "é"])


@settings(max_examples=150, deadline=None)
@given(st.lists(_pieces, max_size=8).map(lambda pieces: "".join(pieces).encode()) | st.binary(max_size=60))
def test_any_bytes_give_bars_or_one_clear_line(tmp_path_factory, data):
    path = tmp_path_factory.mktemp("any") / "any.csv"
    path.write_bytes(data)
    try:
        source = read_bars(path, symbol=EUR, timeframe=DAY)
    except SourceError as error:
        assert str(error).isprintable()  # noqa: PT017
    else:
        assert source.notes.rows_read == len(source.frame) + len(source.rejected) + source.notes.duplicates
