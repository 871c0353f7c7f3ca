"""How a text of separated values is laid out: its delimiter, its header if it has one, and the lines above it."""

from __future__ import annotations

import csv
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from flows.sources.columns import recognised
from flows.sources.exports import EXPORTS, Export, is_mt5
from flows.sources.options import SourceOptions
from flows.sources.times import is_time

_DELIMITERS = (",", ";", "\t")
_HEADERLESS = ("time", "open", "high", "low", "close", "volume")


@dataclass(frozen=True, slots=True, kw_only=True)
class Layout:
    """A layout; positions count the non-empty lines from 0.

    Attributes:
        names: the columns' names; ours when there is no header.
        header: position of the header, None when there is none.
        body: position of the first row.
        certainty: how many columns are understood.
        format: ``csv``, or the name of a known export.
        clocks: the clocks that the export's times may be on; empty if it has none of its own.
    """

    delimiter: str
    names: tuple[str, ...]
    header: int | None
    body: int
    certainty: int
    format: str = "csv"
    clocks: tuple[str, ...] = ()

    @property
    def skipped(self) -> int:
        """How many lines are above."""
        return self.body if self.header is None else self.header

    @property
    def nameless(self) -> bool:
        """Whether the names are not names but a row of data, whose columns are unknown."""
        return any(is_time(name) for name in self.names)


def find_layout(sample: Sequence[str], options: SourceOptions, exports: Sequence[Export] = EXPORTS) -> Layout:
    """The layout of a text that begins with these non-empty lines."""
    exports = [export for export in exports if options.format in ("auto", "excel", export.format)]
    delimiters = (options.delimiter,) if options.delimiter else _DELIMITERS
    layouts = [_layout(delimiter, sample, options, exports) for delimiter in delimiters]
    return max(layouts, key=lambda layout: (layout.certainty, len(layout.names)))  # the first of equals


def _layout(delimiter: str, sample: Sequence[str], options: SourceOptions, exports: Sequence[Export]) -> Layout:
    rows = [[field.strip() for field in next(csv.reader([line], delimiter=delimiter))] for line in sample]
    for at, row in enumerate(rows):
        known = recognised(row, options)
        if known >= 2:
            program = "mt5" if is_mt5(row) and options.format != "csv" else "csv"
            return Layout(
                delimiter=delimiter, names=tuple(row), header=at, body=at + 1, certainty=known, format=program
            )
        for export in exports:
            if delimiter in export.delimiters and export.fits(rows[at:]):
                return Layout(
                    delimiter=delimiter,
                    names=tuple(export.columns),
                    header=None,
                    body=at,
                    certainty=len(row),
                    format=export.format,
                    clocks=export.clocks,
                )
        # A line of the same width above the data would be a header that we do not know, with an order of its own.
        if _is_bar(row) and all(len(above) != len(row) for above in rows[:at]) and _high_then_low(rows[at:]):
            names = _HEADERLESS[: len(row)]
            return Layout(delimiter=delimiter, names=names, header=None, body=at, certainty=len(row))
    # No name that we know: the first line as wide as most is the header, and its names are shown to the user.
    widths = Counter(len(row) for row in rows)
    usual = max(widths, key=lambda width: (widths[width], width))
    at = next(i for i, row in enumerate(rows) if len(row) == usual)
    return Layout(delimiter=delimiter, names=tuple(rows[at]), header=at, body=at + 1, certainty=0)


def _is_bar(row: Sequence[str]) -> bool:
    """Whether a line is time, open, high, low, close and perhaps a volume."""
    return len(row) in (5, 6) and is_time(row[0]) and len(_numbers(row[1:])) == len(row) - 1


def _high_then_low(rows: Iterable[Sequence[str]]) -> bool:
    """Whether the third column is mostly the high and the fourth the low: some write open, close, high, low."""
    bars = [_numbers(row[1:5]) for row in rows if _is_bar(row)]
    return 2 * sum(max(bar) <= bar[1] and min(bar) >= bar[2] for bar in bars) > len(bars)


def _numbers(fields: Iterable[str]) -> list[float]:
    """The fields as numbers, up to the first that is not one."""
    numbers = []
    for field in fields:
        try:
            numbers.append(float(field))
        except ValueError:
            break
    return numbers
