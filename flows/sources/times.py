"""Columns of times as UTC instants. What cannot be known is not guessed."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.compute as pc

from flows.sources.error import EitherWay, Unreadable
from flows.sources.prices import MISSING, is_text
from flows.sources.spellings import FIRST, LAST, NAT, Instants, Mask, from_unix, parse
from flows.sources.zones import to_utc

_ZERO, _SET = np.datetime64("1969-12-31T10:00", "us"), np.datetime64("1970-01-02", "us")
"""1970-01-01 begins 14 hours early in the east."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Times:
    """A column of times.

    Attributes:
        instants: datetime64[us] in UTC, NaT where it cannot be known.
        in_utc: rows whose cell says which instant it is, by an offset or as a count from 1970.
        zone: the clock that the other rows were read on.
        reasons: why a row's instant cannot be known, by position.
    """

    instants: Instants
    in_utc: Mask
    zone: str
    reasons: Mapping[int, str]


def read_times(
    columns: Sequence[pa.ChunkedArray],
    zone: str | Callable[[Instants], str],
    *,
    local_counts: bool = False,
    day_first: bool | None = None,
) -> Times:
    """The instants of a time column, or of a date and a time-of-day column.

    Reads ISO dates and times, day- and month-first ones, ``2019-10-17 09-AM``, ``20190131 235900``, seconds to
    nanoseconds since 1970, and Arrow's own time types; spellings may be mixed.

    Args:
        zone: the clock of the times that state no offset, as ``zones.clock`` reads it, or what finds it from these
            times, datetime64[us].
        local_counts: whether counts since 1970 are on that clock too, and not in UTC.
        day_first: the order of day and month; None follows the dates that can only be read one way.

    Raises:
        Unreadable: the first cell that is not a time.
        EitherWay: no date of the column shows the order of day and month.
    """
    cells = _as_text(columns) if len(columns) > 1 else _plain(columns[0])
    instants, in_utc, either_way = _parse(cells, local_counts=local_counts, day_first=day_first)
    instants[~((instants >= FIRST) & (instants < LAST))] = NAT
    reasons = {row: f"day and month of {cells[row]} could be either way" for row in np.flatnonzero(either_way).tolist()}
    unknown = np.isnat(instants) & ~either_way
    if unknown.any():
        empty = pc.is_null(cells, nan_is_null=True).to_numpy()
        if is_text(cells.type):
            empty |= pc.fill_null(pc.is_in(pc.utf8_trim_whitespace(cells), pa.array(MISSING)), True).to_numpy()
        for row in np.flatnonzero(unknown & ~empty).tolist():
            raise Unreadable(row, str(cells[row]))
        reasons |= dict.fromkeys(np.flatnonzero(unknown).tolist(), "the row has no time")
    local = np.flatnonzero(~in_utc & ~np.isnat(instants))
    if not isinstance(zone, str):
        zone = zone(instants[local]) if len(local) else "UTC"
    if zone != "UTC" and len(local):
        wall = instants[local]
        instants[local] = to_utc(wall, zone)
        lost = np.isnat(instants[local])
        reasons |= dict(zip(local[lost].tolist(), _why_lost(wall[lost], zone), strict=True))
    return Times(instants=instants, in_utc=in_utc, zone=zone, reasons=reasons)


def of_a_stopped_clock(instants: Instants, *, intraday: bool) -> Mask:
    """Which times are those of a clock that was never set: day zero, 1970-01-01, in any zone.

    Shorter bars than daily ones were not kept before, so of those all earlier times count too. Daily ones were: New
    York's reach back to the nineteenth century.
    """
    return (instants < _SET) & (intraday | (instants >= _ZERO))


def is_time(text: str) -> bool:
    """Whether ``text`` reads as a time."""
    instants, _, either_way, _ = parse(pa.array([text.strip()]))
    return bool((either_way | ~np.isnat(instants)).all())


def _parse(cells: pa.ChunkedArray, *, local_counts: bool, day_first: bool | None) -> tuple[Instants, Mask, Mask]:
    """Instants (in UTC or on the wall clock; NaT if unknown), which are in UTC, which have day and month unclear."""
    none = np.zeros(len(cells), bool)
    counts_in_utc = none | (not local_counts)
    if pa.types.is_floating(cells.type):
        return from_unix(pc.fill_null(pc.cast(cells, pa.float64()), np.nan).to_numpy()), counts_in_utc, none
    if pa.types.is_timestamp(cells.type) or pa.types.is_date(cells.type):
        zoned = pa.types.is_timestamp(cells.type) and cells.type.tz is not None
        return (
            _numpy(pc.cast(cells, pa.timestamp("us", cells.type.tz if zoned else None), safe=False)),
            none | zoned,
            none,
        )
    text = _as_text((cells,))
    for kind in (pa.timestamp("us", "UTC"), pa.timestamp("us")):
        try:
            return _numpy(pc.cast(text, kind)), none | (kind.tz is not None), none
        except pa.ArrowInvalid:
            continue  # not all of them are
    try:
        instants = from_unix(pc.fill_null(pc.cast(text, pa.float64()), np.nan).to_numpy())
    except pa.ArrowInvalid:
        instants = np.full(1, NAT)
    if not np.isnat(instants).any():
        return instants, counts_in_utc, none
    parsed = pc.fill_null(pc.utf8_trim_whitespace(text), "").combine_chunks()
    instants, in_utc, either_way, decided = parse(parsed, local_counts=local_counts, day_first=day_first)
    if either_way.any() and not decided:
        row = int(np.argmax(either_way))
        raise EitherWay(row, str(cells[row]))
    return instants, in_utc, either_way


def _plain(column: pa.ChunkedArray) -> pa.ChunkedArray:
    return pc.cast(column, column.type.value_type) if pa.types.is_dictionary(column.type) else column


def _as_text(columns: Sequence[pa.ChunkedArray]) -> pa.ChunkedArray:
    text = [pc.cast(_plain(column), pa.string()) for column in columns]
    return text[0] if len(text) == 1 else pc.binary_join_element_wise(*text, " ")


def _numpy(times: pa.ChunkedArray) -> Instants:
    counts = pc.fill_null(pc.cast(times, pa.int64()), int(NAT.astype(np.int64)))
    instants: Instants = counts.to_numpy().astype("datetime64[us]")
    return instants


def _why_lost(wall: Instants, zone: str) -> list[str]:
    """Why each of these wall-clock times has no single instant in ``zone``."""
    happened = ~np.isnat(to_utc(wall, zone, first=True))
    return [
        f"{pd.Timestamp(time)} " + (f"happened twice in {zone}" if twice else f"did not exist in {zone}")
        for time, twice in zip(wall, happened, strict=True)
    ]
