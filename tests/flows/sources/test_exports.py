"""Exports of MetaTrader and HistData, with a header of their own or none, in text and in Excel."""

from __future__ import annotations

import zipfile
from collections.abc import Callable, Sequence
from pathlib import Path

import pandas as pd
import pytest

from flows.sources import SourceBars, SourceError

Read = Callable[..., SourceBars]

BROKERS = "UTC (assumed; MetaTrader writes the broker's clock, which --tz states)"
MT5 = (
    "<DATE>\t<TIME>\t<OPEN>\t<HIGH>\t<LOW>\t<CLOSE>\t<TICKVOL>\t<VOL>\t<SPREAD>\n"
    "2024.01.08\t09:00:00\t1.09412\t1.09444\t1.09390\t1.09421\t1204\t0\t5\n"
    "2024.01.08\t10:00:00\t1.09421\t1.09468\t1.09417\t1.09460\t1175\t0\t5\n"
)
MT5_BODY = MT5.partition("\n")[2]
MT5_DAILY = "2024.01.08\t1.09412\t1.09444\t1.09390\t1.09421\t1204\t0\t5\n2024.01.09\t1.1\t1.2\t1.0\t1.1\t9\t0\t5\n"
MT4 = "2012.02.01,00:00,1.3066,1.3068,1.3065,1.3067,57\n2012.02.01,01:00,1.3067,1.3067,1.3064,1.3065,0\n"
ASCII = "20120201 000000;1.306600;1.306800;1.306560;1.306560;0\n20120201 010000;1.30657;1.3066;1.3064;1.3065;0\n"
HISTDATA_MT = "2012.02.01,00:00,1.3066,1.3068,1.3065,1.3067,0\n2012.02.01,01:00,1.3067,1.3067,1.3064,1.3065,0\n"
METASTOCK = "EURUSD,201202010000,1.3066,1.3068,1.3065,1.3067,0\nEURUSD,201202010100,1.3067,1.3067,1.3064,1.3065,0\n"


@pytest.mark.parametrize(
    ("text", "form", "hours", "zone"),
    [
        (MT5, "mt5", [9, 10], BROKERS),
        (MT5_BODY, "mt5", [9, 10], BROKERS),
        (MT5_BODY.replace("\t", ","), "mt5", [9, 10], BROKERS),
        (MT4, "mt4", [0, 1], BROKERS),
        (ASCII, "histdata", [5, 6], "Etc/GMT+5 (as histdata has it)"),
        (HISTDATA_MT, "histdata", [5, 6], "Etc/GMT+5 (as histdata has it)"),
        (METASTOCK, "histdata", [5, 6], "Etc/GMT+5 (as histdata has it)"),
    ],
    ids=["mt5", "mt5 without header", "mt5 with commas", "mt4", "ascii", "histdata's mt", "metastock"],
)
def test_an_export_is_known_by_its_content(read: Read, text: str, form: str, hours: list[int], zone: str) -> None:
    source = read(text)
    assert source.notes.detected["format"] == form
    assert source.notes.detected["time_zone"] == zone
    assert source.frame["open_time"].dt.hour.tolist() == hours
    assert read(text, format=form).frame.equals(source.frame)
    assert len(source.frame) == 2


def test_an_export_may_be_in_windows_unicode(read: Read) -> None:
    assert read(MT5.replace("\n", "\r\n").encode("utf-16")).frame.equals(read(MT5).frame)


def test_daily_bars_of_mt5_have_no_time(read: Read) -> None:
    source = read(MT5_DAILY, timeframe_name="1d")
    assert source.notes.detected["format"] == "mt5"
    assert source.frame["volume"].tolist() == [1204, 9]


@pytest.mark.parametrize("text", [MT5, MT5_BODY])
def test_a_volume_of_zero_throughout_gives_way_to_the_count_of_ticks(read: Read, text: str) -> None:
    assert read(text).frame["volume"].tolist() == [1204, 1175]
    stated = read(text.replace("\t0\t5", "\t3\t5", 1))
    assert stated.frame["volume"].tolist() == [3, 0], "one trade reported is a volume reported"


def test_what_the_python_package_of_mt5_returns(read: Read) -> None:
    text = "time,open,high,low,close,tick_volume,spread,real_volume\n1704704400,1.1,1.2,1.0,1.1,1204,5,0\n"
    source = read(text)
    assert (source.notes.detected["format"], source.frame["volume"].tolist()) == ("mt5", [1204])
    assert source.notes.detected["columns"].endswith("volume=tick_volume (not real_volume)")


def test_histdata_reports_no_volume(read: Read) -> None:
    for text in (ASCII, HISTDATA_MT, METASTOCK):
        source = read(text)
        assert source.frame["volume"].isna().all()
        assert source.notes.detected["columns"].endswith("volume not reported")


def test_a_zone_that_is_stated_outweighs_the_formats(read: Read) -> None:
    source = read(ASCII, tz="Europe/Athens")
    assert source.notes.detected["time_zone"] == "Europe/Athens (as stated)"
    assert source.frame["open_time"].dt.hour.tolist() == [22, 23]


def test_a_damaged_line_is_reported_and_does_not_hide_the_format(read: Read) -> None:
    rows = [f"20120201 0{h}0000;1.3066;1.3068;1.3065;1.3067;0" for h in range(10)] * 2
    rows[11] = "20120201 010000;1.3066;1.30"
    with pytest.raises(SourceError, match=r"line 12: unreadable line, 3 fields instead of 6"):
        read("\n".join(rows))


@pytest.mark.parametrize("form", ["mt4", "mt5", "histdata"])
def test_a_stated_format_is_held_to(read: Read, form: str) -> None:
    with pytest.raises(SourceError, match=f"not like an export of {form}.*--format csv"):
        read("time,open,high,low,close\n2020-01-01,1,2,1,2\n", format=form)


def test_as_csv_a_known_export_needs_its_header(read: Read) -> None:
    assert read(MT5, format="csv").notes.detected["format"] == "csv"
    with pytest.raises(SourceError, match="no header"):
        read(MT4, format="csv")


# ------------------------------------------------------------------------------------------------------ Excel

_CONTENT = "http://schemas.openxmlformats.org/spreadsheetml/2006/main"
_PACKAGE = "http://schemas.openxmlformats.org/package/2006/relationships"
_OFFICE = "http://schemas.openxmlformats.org/officeDocument/2006/relationships"
_EXCEL_DAY_ZERO = pd.Timestamp("1899-12-30")


def serial(time: str) -> str:
    return repr((pd.Timestamp(time) - _EXCEL_DAY_ZERO) / pd.Timedelta(days=1))


def workbook(path: Path, rows: Sequence[Sequence[str | float]], *, mac: bool = False) -> Path:
    """A workbook as spreadsheet programs write it: text shared, a time as a number in style 1."""
    strings: list[str] = []
    lines = []
    for number, row in enumerate(rows, start=1):
        cells = []
        for column, value in zip("ABCDEFGHIJ", row, strict=False):
            at = f'r="{column}{number}"'
            if value == "":
                continue
            if isinstance(value, float | int):
                cells.append(f"<c {at}><v>{value!r}</v></c>")
            elif value.startswith("@"):
                cells.append(f'<c {at} s="1"><v>{value[1:]}</v></c>')
            else:
                strings.append(value)
                cells.append(f'<c {at} t="s"><v>{len(strings) - 1}</v></c>')
        lines.append(f'<row r="{number}">{"".join(cells)}</row>' if cells else "")
    shared = "".join(f"<si><t>{text}</t></si>" for text in strings)
    properties = '<workbookPr date1904="1"/>' if mac else ""
    parts = {
        "xl/workbook.xml": f'<workbook xmlns="{_CONTENT}" xmlns:r="{_OFFICE}">{properties}<sheets>'
        '<sheet name="bars" sheetId="1" r:id="rId7"/></sheets></workbook>',
        "xl/_rels/workbook.xml.rels": f'<Relationships xmlns="{_PACKAGE}">'
        '<Relationship Id="rId7" Target="worksheets/sheet1.xml"/></Relationships>',
        "xl/worksheets/sheet1.xml": f'<worksheet xmlns="{_CONTENT}"><sheetData>{"".join(lines)}</sheetData>'
        "</worksheet>",
        "xl/sharedStrings.xml": f'<sst xmlns="{_CONTENT}">{shared}</sst>',
        "xl/styles.xml": f'<styleSheet xmlns="{_CONTENT}"><numFmts><numFmt numFmtId="164" formatCode="yyyy\\-mm\\-dd"/>'
        '</numFmts><cellXfs><xf numFmtId="0"/><xf numFmtId="164"/></cellXfs></styleSheet>',
    }
    with zipfile.ZipFile(path, "w") as book:
        for name, text in parts.items():
            book.writestr(name, text)
    return path


BARS = [["@" + serial(f"2012-02-01 0{h}:00"), 1.3066, 1.3068, 1.3065, 1.3067, 0] for h in range(9)]


def test_histdata_in_excel(read: Read, tmp_path: Path) -> None:
    source = read(workbook(tmp_path / "sheet.xlsx", BARS).read_bytes(), name="DAT_XLSX_EURUSD_M1_2012.xlsx")
    assert source.notes.detected["format"] == "excel, histdata"
    assert source.frame["open_time"].dt.strftime("%H:%M:%S").tolist() == [f"{h:02}:00:00" for h in range(5, 14)]
    assert source.frame["close"].tolist() == [1.3067] * 9
    assert source.frame["volume"].isna().all()
    assert source.frame["line"].tolist() == list(range(1, 10))


@pytest.mark.parametrize("mac", [False, True])
def test_a_workbook_with_a_title_and_a_header(read: Read, tmp_path: Path, mac: bool) -> None:
    time = repr(float(serial("2020-01-01 09:30")) - 1462 * mac)  # the days from 1899-12-30 to 1904-01-01
    rows = [["Prices"], [], ["Gmt time", "Open", "High", "Low", "Close", "Volume"], ["@" + time, 1, 2, 1, 1.5, ""]]
    source = read(workbook(tmp_path / "sheet.xlsx", rows, mac=mac).read_bytes(), name="book", format="excel")
    bar = source.frame.iloc[0]
    assert bar["open_time"] == pd.Timestamp("2020-01-01 09:30", tz="UTC")
    assert (bar["close"], bar["line"]) == (1.5, 4)
    assert pd.isna(bar["volume"])


def test_other_archives_and_damaged_books_are_refused(read: Read, tmp_path: Path) -> None:
    with zipfile.ZipFile(tmp_path / "a.zip", "w") as archive:
        archive.writestr("DAT_ASCII_EURUSD_M1_2012.csv", ASCII)
    with pytest.raises(SourceError, match=r"a zip archive, no Excel workbook\. Unpack it first"):
        read((tmp_path / "a.zip").read_bytes())
    book = workbook(tmp_path / "sheet.xlsx", BARS).read_bytes()
    for damaged in (book[:200], book[:-30], book.replace(b"workbook.xml.rels", b"workbook.xml.sler")):
        with pytest.raises(SourceError, match="not readable as an Excel workbook"):
            read(damaged)
