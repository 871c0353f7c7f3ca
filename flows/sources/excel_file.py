"""Excel workbooks (.xlsx): the first sheet, read as the text that Excel would export of it.

An .xlsx file is a zip of XML parts (ECMA-376, Part 1, SpreadsheetML). Of these a table of bars needs four: which sheet
is the first, its cells, the strings that cells share, and which number formats make a number a date.
"""

from __future__ import annotations

import csv
import io
import re
import zipfile
import zlib
from collections.abc import Iterator
from datetime import datetime, timedelta
from pathlib import Path, PurePosixPath
from xml.etree import ElementTree

from flows.sources.csv_file import read_text
from flows.sources.error import SourceError
from flows.sources.exports import EXPORTS, SHEETS
from flows.sources.options import SourceOptions
from flows.sources.table import Table

_MAIN = "{http://schemas.openxmlformats.org/spreadsheetml/2006/main}"
_REFERENCE = "{http://schemas.openxmlformats.org/officeDocument/2006/relationships}id"
_BUILT_IN_DATES = frozenset((*range(14, 23), *range(45, 48)))  # number formats that need no definition
_NOT_THE_FORMAT = re.compile(r'"[^"]*"|\\.|\[[^\]]*\]')  # quoted text, escaped characters, colours and conditions
_DAY_ZERO = {False: datetime(1899, 12, 30), True: datetime(1904, 1, 1)}  # noqa: DTZ001  # of the sheet's own clock
_MAX_COLUMNS = 16_384


def read_excel(path: Path, options: SourceOptions) -> Table:
    """Read the first sheet of a workbook; a row's line is its number in the sheet.

    Raises:
        SourceError: it is no workbook or damaged, or its cells make no table.
    """
    try:
        with zipfile.ZipFile(path) as book:
            if "xl/workbook.xml" not in book.namelist():
                raise SourceError("a zip archive, no Excel workbook", remedy="Unpack it first.", file=path.name)
            rows = list(_rows(book))
    except SourceError:
        raise
    except (zipfile.BadZipFile, zlib.error, LookupError, ValueError, StopIteration, ElementTree.ParseError) as error:
        raise SourceError(
            f"not readable as an Excel workbook ({str(error)[:80]})",
            remedy="Save it as .xlsx or as CSV again.",
            file=path.name,
        ) from None
    table = read_text(_as_csv(rows).encode(), path.name, options, exports=(*SHEETS, *EXPORTS))
    return table.named("excel")


def _as_csv(rows: list[tuple[int, list[str]]]) -> str:
    """The sheet as text, each row on the line of its number, with the empty cells at its end that Excel leaves out."""
    widest = max((len(cells) for _, cells in rows), default=0)
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    line = 1
    for number, cells in rows:
        if not any(cells):
            continue
        text.write("\n" * (number - line))
        writer.writerow(cells + [""] * (widest - len(cells)) if 2 * len(cells) > widest else cells)  # not a title
        line = number + 1
    return text.getvalue()


def _rows(book: zipfile.ZipFile) -> Iterator[tuple[int, list[str]]]:
    """The rows of the first sheet: number and texts of the cells."""
    about = ElementTree.fromstring(book.read("xl/workbook.xml"))  # noqa: S314  # expat bounds what entities grow to
    properties = about.find(f"{_MAIN}workbookPr")
    since = _DAY_ZERO[properties is not None and properties.get("date1904") in ("1", "true")]
    sheet = about.find(f"{_MAIN}sheets/{_MAIN}sheet")
    if sheet is None:
        raise ValueError("no sheet in it")
    strings, dates = _shared_strings(book), _date_styles(book)
    with book.open(_part(book, sheet.attrib[_REFERENCE])) as part:
        number = 0
        for _, row in ElementTree.iterparse(part):  # noqa: S314
            if row.tag != f"{_MAIN}row":
                continue
            number = int(row.get("r", number + 1))
            cells: list[str] = []
            for cell in row.iter(f"{_MAIN}c"):
                at = _column(cell.get("r", ""), len(cells))
                cells.extend("" for _ in range(at - len(cells)))
                cells.append(_text(cell, strings, since if int(cell.get("s", 0)) in dates else None))
            row.clear()
            yield number, cells


def _part(book: zipfile.ZipFile, reference: str) -> str:
    relations = ElementTree.fromstring(book.read("xl/_rels/workbook.xml.rels"))  # noqa: S314
    target = next(relation.attrib["Target"] for relation in relations if relation.get("Id") == reference)
    return target.lstrip("/") if target.startswith("/") else str(PurePosixPath("xl", target))


def _shared_strings(book: zipfile.ZipFile) -> list[str]:
    if "xl/sharedStrings.xml" not in book.namelist():
        return []
    parts = ElementTree.fromstring(book.read("xl/sharedStrings.xml"))  # noqa: S314
    return [_one_line(part) for part in parts]


def _one_line(part: ElementTree.Element) -> str:
    return " ".join("".join(text.text or "" for text in part.iter(f"{_MAIN}t")).split())


def _date_styles(book: zipfile.ZipFile) -> frozenset[int]:
    """The numbers of the cell styles that show a number as a date or time."""
    if "xl/styles.xml" not in book.namelist():
        return frozenset()
    styles = ElementTree.fromstring(book.read("xl/styles.xml"))  # noqa: S314
    dates = set(_BUILT_IN_DATES)
    for custom in styles.iter(f"{_MAIN}numFmt"):
        if re.search("[ymdhs]", _NOT_THE_FORMAT.sub("", custom.get("formatCode", "")).lower()):
            dates.add(int(custom.attrib["numFmtId"]))
    cells = styles.findall(f"{_MAIN}cellXfs/{_MAIN}xf")
    return frozenset(at for at, style in enumerate(cells) if int(style.get("numFmtId", 0)) in dates)


def _column(reference: str, following: int) -> int:
    """Position of a cell such as ``AB12``; a cell without a reference follows the one before it."""
    letters = reference.rstrip("0123456789")
    if not letters:
        return following
    at = 0
    for letter in letters:
        at = at * 26 + ord(letter) - ord("A") + 1
    if not following < at <= _MAX_COLUMNS:
        raise ValueError(f"cell {reference} is out of order")
    return at - 1


def _text(cell: ElementTree.Element, strings: list[str], since: datetime | None) -> str:
    kind = cell.get("t", "n")
    if kind == "inlineStr":
        return _one_line(cell)
    value = cell.findtext(f"{_MAIN}v") or ""
    if kind == "s":
        return strings[int(value)]
    if kind == "n" and since is not None and value:
        moment = since + timedelta(milliseconds=round(float(value) * 86_400_000))  # a double holds no finer moment
        return moment.isoformat(" ", "milliseconds").removesuffix(".000")
    return value
