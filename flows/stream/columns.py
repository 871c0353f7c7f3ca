"""The last rows of some columns, appended to at the end and read as contiguous slices."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt


class RollingColumns:
    """Holds what was given last and at least ``keep`` rows before it, each column contiguous in memory.

    Args:
        rows: (columns, n), what it holds at first; the type of what it holds ever after.
        spare: it is made anew, without the oldest rows, every so many rows.
    """

    def __init__(self, rows: npt.NDArray[Any], *, keep: int, spare: int) -> None:
        self._keep, self._spare = keep, spare
        self._cells, self._end = rows, int(rows.shape[1])
        self.dropped = 0
        """How many rows were given and are not held any more."""

    def __len__(self) -> int:
        return self._end

    @property
    def rows(self) -> npt.NDArray[Any]:
        """(columns, rows held), oldest first; a view, good until the next ``extend``."""
        return self._cells[:, : self._end]

    def extend(self, rows: npt.NDArray[Any]) -> None:
        """Appends ``rows``, (columns, n)."""
        given = rows.shape[1]
        if self._end + given > self._cells.shape[1]:
            kept = self.rows[:, -self._keep :]
            self.dropped += self._end - kept.shape[1]
            self._cells = np.empty((len(rows), kept.shape[1] + given + self._spare), dtype=kept.dtype)
            self._cells[:, : kept.shape[1]] = kept
            self._end = int(kept.shape[1])
        self._cells[:, self._end : self._end + given] = rows
        self._end += given
