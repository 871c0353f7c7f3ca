"""What every source returns: columns as they are, not yet interpreted. Each new format makes a ``Table``."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime
from typing import Literal

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from flows.sources.error import SourceError


@dataclass(frozen=True, slots=True, kw_only=True)
class Table:
    """Columns of one file, in the file's order.

    Attributes:
        file: the file's name.
        names: the columns' names as the file spells them.
        columns: one array per name, null where a cell is empty or says that it has no value.
        lines: int64, 1-based place of each row: the line in a text file, else the row's number; ascending.
        unit: what ``lines`` counts.
        raw: the rows at these lines as text.
        header_line: where the names stand, None without a header.
        preamble: the lines skipped above the header.
        clocks: clocks that times of this format may be on, as ``zones.clock`` reads them, the documented one first;
            empty where the format does not say.
        unfinished: bars that were not closed yet, left out.
        detected: what was detected about the file, as shown to a user.
    """

    file: str
    names: tuple[str, ...]
    columns: tuple[pa.ChunkedArray, ...]
    lines: NDArray[np.int64]
    unit: Literal["line", "row"]
    raw: Callable[[NDArray[np.int64]], list[str]]
    header_line: int | None = None
    preamble: tuple[str, ...] = ()
    clocks: tuple[str, ...] = ()
    unfinished: int = 0
    detected: Mapping[str, str] = field(default_factory=dict)

    def named(self, form: str) -> Table:
        """The same table, with the form that its text came in shown beside its format."""
        return replace(self, detected={**self.detected, "format": f"{form}, {self.detected['format']}"})

    def taken(self, rows: NDArray[np.bool_]) -> Table:
        """The table of these rows only, shape (rows,)."""
        mask = pa.array(rows)
        return replace(self, columns=tuple(column.filter(mask) for column in self.columns), lines=self.lines[rows])

    def error_in_row(self, row: int, what: str, remedy: str) -> SourceError:
        """The error of the row at position ``row``."""
        return SourceError(what, remedy=remedy, file=self.file, line=int(self.lines[row]), unit=self.unit)

    def error_in_header(self, what: str, remedy: str) -> SourceError:
        return SourceError(what, remedy=remedy, file=self.file, line=self.header_line)


@dataclass(frozen=True, slots=True, kw_only=True)
class Origin:
    """What was read from a source.

    Attributes:
        tables: one per file; a single one of a database or an exchange.
        content: hex digest of the bytes of all files, in their order; None of what has no bytes of its own.
        written_at: when the newest file was written, UTC; None where unknown.
    """

    tables: Sequence[Table]
    content: str | None = None
    written_at: datetime | None = None


def from_arrow(table: pa.Table, *, file: str, detected: Mapping[str, str], unfinished: int = 0) -> Table:
    """The ``Table`` of an Arrow table, its rows numbered from 1."""

    def raw(rows: NDArray[np.int64]) -> list[str]:
        taken = table.take(pa.array(rows - 1)).to_pylist()
        return [", ".join(f"{name}={value}" for name, value in row.items()) for row in taken]

    return Table(
        file=file,
        names=tuple(table.column_names),
        columns=tuple(table.columns),
        lines=np.arange(1, table.num_rows + 1, dtype=np.int64),
        unit="row",
        raw=raw,
        unfinished=unfinished,
        detected=detected,
    )
