"""Text files of separated values, plain or gzip."""

from __future__ import annotations

import codecs
import csv
import gzip
import zlib
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.csv as pa_csv
from numpy.typing import NDArray

from flows.sources.csv_layout import Layout, find_layout
from flows.sources.error import SourceError, shown
from flows.sources.exports import EXPORTS, Export
from flows.sources.options import SourceOptions
from flows.sources.prices import MISSING
from flows.sources.table import Table

_SAMPLED_LINES = 50
_SAMPLED_CHARACTERS = 10_000


class _Lines:
    """The non-empty lines of a text, and which lines they are."""

    def __init__(self, data: bytes) -> None:
        ends = np.flatnonzero(np.frombuffer(data, np.uint8) == ord("\n"))
        if data and not data.endswith(b"\n"):
            ends = np.append(ends, len(data))
        starts = np.concatenate(([0], ends[:-1] + 1)) if len(ends) else ends
        filled = ends > starts
        self._data, self._starts, self._ends = data, starts[filled], ends[filled]
        self.numbers: NDArray[np.int64] = np.flatnonzero(filled) + 1

    def __len__(self) -> int:
        return len(self.numbers)

    def __getitem__(self, position: int) -> str:
        return self._data[self._starts[position] : self._ends[position]].decode()

    def numbered(self, numbers: NDArray[np.int64]) -> list[str]:
        return [self[position] for position in np.searchsorted(self.numbers, numbers).tolist()]

    def since(self, position: int) -> bytes:
        return self._data[self._starts[position] :]


def read_csv(path: Path, options: SourceOptions) -> Table:
    """Read a text file; every column as text, since only the caller knows what it holds.

    Raises:
        SourceError: an empty or damaged file, bytes that are no UTF-8, a line with another number of fields.
    """
    return read_text(_load(path), path.name, options)


def read_text(data: bytes, file: str, options: SourceOptions, exports: Sequence[Export] = EXPORTS) -> Table:
    """Read the text of a file: UTF-8, each line ended by one newline.

    Raises:
        SourceError: as ``read_csv``, or it is not of the format asked for.
    """
    lines = _Lines(data)
    if not len(lines):
        raise SourceError("the file is empty", remedy="Download it again, or remove it.", file=file)
    sample = [lines[i][:_SAMPLED_CHARACTERS] for i in range(min(_SAMPLED_LINES, len(lines)))]
    layout = find_layout(sample, options, exports)
    if layout.nameless:
        raise SourceError(
            f"no header, and columns other than time, open, high, low, close, volume: {shown(lines[layout.skipped])}",
            remedy="Write a header line above them, as time,open,high,low,close,volume.",
            file=file,
            line=int(lines.numbers[layout.skipped]),
        )
    if options.format not in ("auto", "csv", "excel", layout.format):
        raise SourceError(
            f"not like an export of {options.format}: {shown(lines[layout.skipped])}",
            remedy="Omit --format, or use --format csv and give the file a header line.",
            file=file,
            line=int(lines.numbers[layout.skipped]),
        )
    header_line = None if layout.header is None else int(lines.numbers[layout.header])
    return Table(
        file=file,
        names=layout.names,
        columns=tuple(_parse(lines, layout, file).columns),
        lines=lines.numbers[layout.body :],
        unit="line",
        raw=lines.numbered,
        header_line=header_line,
        preamble=tuple(lines[i] for i in range(layout.skipped)),
        clocks=layout.clocks,
        detected={
            "format": layout.format,
            "delimiter": "tab" if layout.delimiter == "\t" else layout.delimiter,
            "header": "none" if header_line is None else f"line {header_line}",
        },
    )


def _load(path: Path) -> bytes:
    """The file's text as UTF-8 with one newline per line, so that lines count as editors count them."""
    data = path.read_bytes()
    if data.startswith(b"\x1f\x8b"):
        try:
            data = gzip.decompress(data)
        except (OSError, EOFError, zlib.error) as error:
            remedy = "Download or compress it again."
            raise SourceError(f"damaged gzip ({error})", remedy=remedy, file=path.name) from None
    if data.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)):  # as Windows programs save "Unicode"
        data = data.decode("utf-16", "replace").encode()
    if b"\r" in data:
        data = data.replace(b"\r\n", b"\n").replace(b"\r", b"\n")
    data = data.removeprefix(b"\xef\xbb\xbf")
    try:
        data.decode()
    except UnicodeDecodeError as error:
        what = f"byte {data[error.start]:#04x} is not UTF-8 text"
        line = data.count(b"\n", 0, error.start) + 1
        raise SourceError(what, remedy="Save the file as UTF-8.", file=path.name, line=line) from None
    return data


def _parse(lines: _Lines, layout: Layout, file: str) -> pa.Table:
    names = [str(i) for i in range(len(layout.names))]  # by position: the file's may be empty or repeated
    schema = pa.schema([(name, pa.string()) for name in names])
    if layout.body == len(lines):
        return schema.empty_table()
    body = lines.since(layout.body)
    reason = "quoted text runs over the end of a line"
    try:
        table = pa_csv.read_csv(
            pa.py_buffer(body),
            read_options=pa_csv.ReadOptions(column_names=names),
            parse_options=pa_csv.ParseOptions(delimiter=layout.delimiter),
            convert_options=pa_csv.ConvertOptions(column_types=schema, null_values=MISSING, strings_can_be_null=True),
        )
    except pa.ArrowInvalid as error:
        table, reason = None, str(error).partition("\n")[0]
    # A file cut off within a quoted number would parse: its quotes do not come in pairs.
    parsed = table is not None and table.num_rows == len(lines) - layout.body
    misfit = None if parsed and body.count(b'"') % 2 == 0 else _misfit(lines, layout, file)
    if misfit or not parsed:
        raise misfit or SourceError(f"unreadable, {reason}", remedy="Export it again.", file=file)
    return table


def _misfit(lines: _Lines, layout: Layout, file: str) -> SourceError | None:
    """The first line with another number of fields than the header: a slow, careful look at each."""
    for position in range(layout.body, len(lines)):
        try:
            fields = len(next(csv.reader([lines[position]], delimiter=layout.delimiter, strict=True)))
            what = f"{fields} field{'s' if fields != 1 else ''} instead of {len(layout.names)}"
        except csv.Error as error:
            fields, what = 0, str(error)
        if fields != len(layout.names):
            return SourceError(
                f"unreadable line, {what}: {shown(lines[position])}",
                remedy="Correct or delete the line, or download the file again if it was cut off.",
                file=file,
                line=int(lines.numbers[position]),
            )
    return None
