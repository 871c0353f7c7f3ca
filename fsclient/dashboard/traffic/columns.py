"""Counted calls as NumPy columns, so that a filter over the whole history is a mask and a sum."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from fsclient.metrics.histogram import BUCKETS
from fsclient.metrics.history import COARSE_BUCKETS, SlotRows
from fsclient.metrics.store import When

Ints = npt.NDArray[np.int64]
Floats = npt.NDArray[np.float64]


class Codes:
    """Maps names to small numbers."""

    def __init__(self) -> None:
        self.names: list[str] = []
        self._numbers: dict[str, int] = {}

    def __getitem__(self, name: str) -> int:
        number = self._numbers.get(name)
        if number is None:
            number = self._numbers[name] = len(self.names)
            self.names.append(name)
        return number

    def find(self, name: str) -> int:
        return self._numbers.get(name, -1)


@dataclass(frozen=True, slots=True, eq=False)
class Columns:
    """Rows of one interval or of many.

    ``about`` holds time, method and source as numbers, ``errors`` also the kind of error and the calls, and
    ``symbol_about`` also the symbol.
    """

    about: Ints
    figures: Ints
    seconds: Floats
    histogram: npt.NDArray[np.uint32]
    errors: Ints
    symbol_about: Ints
    symbol_figures: Ints
    symbol_histogram: npt.NDArray[np.uint32]
    states: tuple[tuple[int, str, str, int], ...]

    @classmethod
    def joined(cls, parts: Iterable[Columns]) -> Columns:
        parts = list(parts)

        def all_of(name: str) -> npt.NDArray[Any]:
            return np.concatenate([getattr(part, name) for part in parts])

        return cls(
            about=all_of("about"),
            figures=all_of("figures"),
            seconds=all_of("seconds"),
            histogram=all_of("histogram"),
            errors=all_of("errors"),
            symbol_about=all_of("symbol_about"),
            symbol_figures=all_of("symbol_figures"),
            symbol_histogram=all_of("symbol_histogram"),
            states=tuple(state for part in parts for state in part.states),
        )


class Names:
    """All names that occurred in rows, as the numbers in the columns."""

    def __init__(self) -> None:
        self.methods, self.sources, self.symbols, self.errors = Codes(), Codes(), Codes(), Codes()

    def columns(self, when: When, rows: SlotRows) -> Columns:
        """The rows of one interval as columns."""
        at, methods, sources = when.number, self.methods, self.sources
        series, symbols = rows.series, rows.symbols
        histogram = np.zeros((len(series), BUCKETS), np.uint32)
        errors: list[tuple[int, int, int, int, int]] = []
        for n, row in enumerate(series):
            if row[10]:
                histogram[n, row[10][0] : row[10][0] + len(row[10]) - 1] = row[10][1:]
            for kind, calls in row[9].items():
                errors.append((at, methods[row[0]], sources[row[1]], self.errors[kind], calls))
        coarse = np.zeros((len(symbols), COARSE_BUCKETS), np.uint32)
        for n, row in enumerate(symbols):
            if row[7]:
                coarse[n, row[7][0] : row[7][0] + len(row[7]) - 1] = row[7][1:]
        failed = [sum(row[9].values()) for row in series]
        return Columns(
            _table([(at, methods[row[0]], sources[row[1]]) for row in series], 3),
            _table([(row[2], bad, *row[3:7]) for row, bad in zip(series, failed, strict=True)], 6),
            np.array([row[8] for row in series], np.float64),
            histogram,
            _table(errors, 5),
            _table([(at, methods[row[0]], sources[row[1]], self.symbols[row[2]]) for row in symbols], 4),
            _table([row[3:7] for row in symbols], 4),
            coarse,
            tuple((at, name, state, n) for name, seen in rows.states.items() for state, n in seen.items()),
        )


def _table(rows: list[Any], width: int) -> Ints:
    return np.array(rows, np.int64).reshape(-1, width)


NOTHING = Columns(
    _table([], 3),
    _table([], 6),
    np.zeros(0),
    np.zeros((0, BUCKETS), np.uint32),
    _table([], 5),
    _table([], 4),
    _table([], 4),
    np.zeros((0, COARSE_BUCKETS), np.uint32),
    (),
)
