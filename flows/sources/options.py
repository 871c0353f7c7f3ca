"""What a user may state about a source that does not state it itself."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from dataclasses import dataclass, fields
from datetime import UTC, datetime
from typing import Literal, get_args

from flows.sources.error import SourceError, shown
from flows.sources.zones import clock

Format = Literal["auto", "csv", "parquet", "excel", "mt5", "mt4", "histdata", "sql", "ccxt"]
Stamp = Literal["auto", "open", "close"]
Volume = Literal["auto", "none"]

_SINCE_0_1 = frozenset({"day_first", "instrument", "volume"})
_HOST = re.compile(r"https?://[^/?#@\s]+/?")  # no user or password: addresses are shown in errors
_PRICES = ("open", "high", "low", "close")
COLUMNS = (
    "open_time",
    "date",
    "time",
    *_PRICES,
    "volume",
    *(f"{side}_{price}" for side in ("bid", "ask") for price in _PRICES),
    *("bid", "ask", "price"),
)
"""Our names of columns, the keys of ``SourceOptions.columns``: ``date`` and ``time`` for a time in two columns, ``bid``
and ``ask`` or ``price`` for ticks."""


@dataclass(frozen=True, slots=True, kw_only=True)
class SourceOptions:
    """How to read a source; the defaults look into it.

    Attributes:
        format: ``"auto"`` detects a file's by its content; ``"sql"`` and ``"ccxt"`` follow from the source's address.
        tz: IANA zone of times without an offset, counts since 1970 among them, or the zones by date of a clock that was
            changed, as ``Europe/Berlin,2014-11-23=Europe/Athens``: Athens from 00:00 of that day. A clock some hours
            beside a zone's is written ``Europe/Zurich-6h``. None takes the zone that the file declares or its format
            has, else UTC.
        stamp: whether a time is its bar's open or close; ``"auto"`` is open, unless the column is named an end or all
            times lie a moment (up to a second) before a full minute.
        day_first: whether 02/03/2020 is the second of March; None follows the dates of the column that can only be
            read one way.
        instrument: the instrument to take, as the file's own column of names spells it; None takes the only one there
            is, if it can be the symbol.
        columns: our names (``COLUMNS``) to theirs, for columns whose names are not recognised.
        delimiter: one character; None detects comma, semicolon or tab.
        unit: what prices are multiplied by to be as the symbol is quoted, as 0.00001 for points; None detects integer
            points.
        volume: ``"none"`` says that the volume column reports none; ``"auto"`` finds that where every row has 0 or -1.
        volume_unit: what volumes are multiplied by, as 100000 for lots.
        query: SQL for a database; may use ``:symbol``, ``:timeframe``, ``:start`` and ``:end``, which are bound.
        table: a database's table or view, with its schema if need be, in place of a query.
        start, end: the first moment wanted and the first one after the range, UTC if naive. An exchange
            needs ``start``; a query may use both; of ticks, ``end`` is the moment up to which they are complete.
        exchange_url: address that stands in for the exchange's own, as of a mirror: scheme and host.

    Raises:
        SourceError: an unknown format, stamp, zone or column name, or a value that cannot be.
    """

    format: Format = "auto"
    tz: str | None = None
    stamp: Stamp = "auto"
    day_first: bool | None = None
    instrument: str | None = None
    columns: Mapping[str, str] | None = None
    delimiter: str | None = None
    unit: float | None = None
    volume: Volume = "auto"
    volume_unit: float | None = None
    query: str | None = None
    table: str | None = None
    start: datetime | None = None
    end: datetime | None = None
    exchange_url: str | None = None

    def __post_init__(self) -> None:
        for what, value, known in (
            ("format", self.format, get_args(Format)),
            ("stamp", self.stamp, get_args(Stamp)),
            ("volume", self.volume, get_args(Volume)),
        ):
            if value not in known:
                raise SourceError(f"unknown {what} {shown(value)}", remedy=f"Known: {', '.join(known)}.")
        if self.tz is not None:
            clock(self.tz)
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
        for option, factor in (("unit", self.unit), ("volume-unit", self.volume_unit)):
            if factor is not None and not 0 < factor < math.inf:
                raise SourceError(f"--{option} {factor:g} cannot be", remedy="Give a number above zero, as 0.00001.")
        if self.volume == "none" and (self.volume_unit is not None or "volume" in (self.columns or {})):
            raise SourceError("--volume none, and an option about the volume", remedy="Omit one of them.")
        if self.query is not None and self.table is not None:
            raise SourceError("both a query and a table", remedy="Give one of --query and --table.")
        for name in ("start", "end"):
            moment = getattr(self, name)
            if moment is not None:
                utc = moment.astimezone(UTC) if moment.tzinfo else moment.replace(tzinfo=UTC)
                object.__setattr__(self, name, utc)
        if self.start is not None and self.end is not None and self.start >= self.end:
            raise SourceError("--start is not before --end", remedy="Bars that open from start until end are read.")
        if self.exchange_url is not None and not _HOST.fullmatch(self.exchange_url):
            raise SourceError(
                "--exchange-url is no web address", remedy="Write it as https://host or https://host:port."
            )

    def meaning(self) -> str:
        """What these options make of a source, as text that enters its digest.

        An option that 0.1 did not have appears only where it is used, so that a file is recognised by the digest that
        0.1 made of it.
        """
        shown = (
            f"{f.name}={getattr(self, f.name)!r}"
            for f in fields(self)
            if f.name not in _SINCE_0_1 or getattr(self, f.name) != f.default
        )
        return f"SourceOptions({', '.join(shown)})"
