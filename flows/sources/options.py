"""What a user may say about a source when the source does not say it itself."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal, get_args

from flows.sources.error import SourceError, shown
from flows.sources.zones import check_zone

Format = Literal["auto", "csv", "parquet"]
Stamp = Literal["auto", "open", "close"]

_PRICES = ("open", "high", "low", "close")
COLUMNS = (
    "open_time",
    "date",
    "time",
    *_PRICES,
    "volume",
    *(f"{side}_{price}" for side in ("bid", "ask") for price in _PRICES),
)
"""Our names of columns, the keys of ``SourceOptions.columns``; ``date`` and ``time`` for a time in two columns."""


@dataclass(frozen=True, slots=True, kw_only=True)
class SourceOptions:
    """How to read a source; the defaults look into the file.

    Attributes:
        format: ``"auto"`` tells CSV from Parquet by the content.
        tz: IANA zone of times without an offset; None takes the zone declared in the file, else UTC.
        stamp: whether a time is its bar's open or close; ``"auto"`` is open unless the column's name says close.
        columns: our names (``COLUMNS``) to theirs, for columns whose names are not recognised.
        delimiter: one character; None detects comma, semicolon or tab.

    Raises:
        SourceError: an unknown format, stamp, zone or column name, or a delimiter that cannot be one.
    """

    format: Format = "auto"
    tz: str | None = None
    stamp: Stamp = "auto"
    columns: Mapping[str, str] | None = None
    delimiter: str | None = None

    def __post_init__(self) -> None:
        for what, value, known in (("format", self.format, get_args(Format)), ("stamp", self.stamp, get_args(Stamp))):
            if value not in known:
                raise SourceError(f"unknown {what} {shown(value)}", remedy=f"Known: {', '.join(known)}.")
        if self.tz is not None:
            check_zone(self.tz)
        for ours in self.columns or ():
            if ours not in COLUMNS:
                raise SourceError(
                    f"--columns names {shown(ours)}, which no bar has",
                    remedy=f"It maps our names to the file's, as close=Last; ours: {', '.join(COLUMNS)}.",
                )
        if self.delimiter is not None and (len(self.delimiter) != 1 or self.delimiter in '"\r\n'):
            raise SourceError(
                f"{shown(self.delimiter)} cannot be a delimiter", remedy="Give one character, such as , or ; or a tab."
            )
