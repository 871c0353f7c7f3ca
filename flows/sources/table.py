"""What a format hands on: a file's columns as they are, not yet understood. Every new format makes one of these."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
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
        columns: one array a name, null where a cell is empty or says that it has no value.
        lines: int64, 1-based place of each row: the line in a text file, else the row's number; ascending.
        unit: what ``lines`` counts.
        raw: the rows at these lines as text.
        header_line: where the names stand, None without a header.
        preamble: the lines skipped above the header.
        detected: what was found out about the file, as shown to a user.
    """

    file: str
    names: tuple[str, ...]
    columns: tuple[pa.ChunkedArray, ...]
    lines: NDArray[np.int64]
    unit: Literal["line", "row"]
    raw: Callable[[NDArray[np.int64]], list[str]]
    header_line: int | None = None
    preamble: tuple[str, ...] = ()
    detected: Mapping[str, str] = field(default_factory=dict)

    def error_in_row(self, row: int, what: str, remedy: str) -> SourceError:
        """The error of the row at position ``row``."""
        return SourceError(what, remedy=remedy, file=self.file, line=int(self.lines[row]), unit=self.unit)

    def error_in_header(self, what: str, remedy: str) -> SourceError:
        return SourceError(what, remedy=remedy, file=self.file, line=self.header_line)
