"""The one error of the sources, and how text out of a file is shown in it."""

from __future__ import annotations

from pathlib import PurePath

_SHOWN_CHARACTERS = 40


class SourceError(ValueError):
    """A source that cannot be read; nothing was taken from it. ``str()`` is one line: where, what, and the remedy.

    Attributes:
        file: the file or folder, None where no file is to blame.
        line: 1-based line in the file (row number for Parquet), None where not known.
    """

    def __init__(
        self,
        what: str,
        *,
        remedy: str = "",
        file: PurePath | str | None = None,
        line: int | None = None,
        unit: str = "line",
    ) -> None:
        where = "" if file is None else f"{file}: " if line is None else f"{file}, {unit} {line}: "
        message = f"{where}{what}{'. ' if remedy else ''}{remedy}"
        super().__init__(printable(message))
        self.file = None if file is None else str(file)
        self.line = line


class MissingExtraError(SourceError):
    """A source that needs a package which is not installed; the message names the extra that brings it."""


class Unreadable(Exception):  # noqa: N818 - a finding that the caller gives a place and a name, not an error of its own
    """A cell that is not what its column holds; ``row`` counts from 0."""

    def __init__(self, row: int, text: str) -> None:
        super().__init__(row, text)
        self.row = row
        self.text = text


class EitherWay(Unreadable):  # a finding too
    """A date that reads day first and month first alike, the first of a column in which none shows the order."""


def printable(text: str) -> str:
    """``text`` on one line, its control characters escaped: it may come from anyone's file."""
    return "".join(c if c.isprintable() else ascii(c)[1:-1] for c in text)


def shown(text: str) -> str:
    """``text`` quoted, ASCII-escaped and cut, fit for an error message."""
    return ascii(text if len(text) <= _SHOWN_CHARACTERS else text[:_SHOWN_CHARACTERS] + "...")
