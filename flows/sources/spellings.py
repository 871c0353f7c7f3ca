"""Spellings of times in text: one expression each, and the arithmetic from their parts to an instant."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

Instants = NDArray[np.datetime64]  # datetime64[us], in UTC or on a wall clock
Mask = NDArray[np.bool_]

NAT = np.datetime64("NaT", "us")
FIRST, LAST = np.datetime64("1700-01-01", "us"), np.datetime64("2200-01-01", "us")
"""Times outside of these years are typing errors, and pandas' nanoseconds could not hold them."""

_CLOCK = (
    r"(?:[T ]\s*(?P<hour>\d{1,2})(?::(?P<minute>\d{2})(?::(?P<second>\d{2})(?:[.,](?P<fraction>\d{1,9}))?)?)?"
    r"[ -]?(?P<half>[AP]M)?)?"
)
_CLOCK_DIGITS = r"(?:[T ]?(?P<hour>\d{2}):?(?P<minute>\d{2})(?::?(?P<second>\d{2})(?:[.,](?P<fraction>\d{1,9}))?)?)?"
_ZONE = r"\s*(?P<zone>Z|UTC|GMT)?\s*(?P<offset>[+-]\d{2}(?::?\d{2})?)?$"
_YEAR_FIRST = r"(?i)^(?P<year>\d{4})(?P<mark>[-./])(?P<month>\d{1,2})[-./](?P<day>\d{1,2})" + _CLOCK + _ZONE
_YEAR_LAST = r"(?i)^(?P<day>\d{1,2})(?P<mark>[-./])(?P<month>\d{1,2})[-./](?P<year>\d{4})" + _CLOCK + _ZONE
_DIGITS = r"(?i)^(?P<year>\d{4})(?P<month>\d{2})(?P<day>\d{2})" + _CLOCK_DIGITS + r"(?P<half>)" + _ZONE
_MILLISECONDS = (  # HistData's ticks: 20120201 000003660
    r"^(?P<year>\d{4})(?P<month>\d{2})(?P<day>\d{2}) (?P<hour>\d{2})(?P<minute>\d{2})(?P<second>\d{2})"
    r"(?P<fraction>\d{3})(?P<half>)(?P<zone>)(?P<offset>)$"
)
_NUMBER = r"^[0-9]+(?:\.[0-9]+)?$"

# Between these years no count in one unit is a plausible count in another, nor a date such as 20190131.
_UNIX_FIRST_US, _UNIX_LAST_US = 315_532_800e6, 4_102_444_800e6  # 1980-01-01, 2100-01-01
_UNIX_UNITS_US = (1e6, 1e3, 1.0, 1e-3)


def parse(
    text: pa.StringArray, *, local_counts: bool = False, day_first: bool | None = None
) -> tuple[Instants, Mask, Mask, bool]:
    """Times as they come, spellings mixed.

    Args:
        local_counts: whether counts from 1970 are on the wall clock too, and not in UTC.
        day_first: the order of day and month; None follows the dates that can only be read one way.

    Returns:
        The instants (those that state an offset, or count from 1970, in UTC, the others on their wall clock; NaT
        where the text is not a time), which of them are in UTC, which have a day and a month that could be swapped, and
        whether any date shows an order of day and month (of several, they contradict each other).
    """
    shows_order = False
    instants = np.full(len(text), NAT)
    in_utc, either_way = np.zeros(len(text), bool), np.zeros(len(text), bool)
    for spelling in (_YEAR_FIRST, _YEAR_LAST, _DIGITS, _MILLISECONDS):
        for rows, parts in _matches(text, spelling, np.isnat(instants) & ~either_way):
            if spelling is _YEAR_LAST:
                either_way[rows], shows_order = parts.order_day_and_month(day_first)
            instants[rows], in_utc[rows] = parts.instants(), parts.in_utc()
    rest = np.flatnonzero(np.isnat(instants))
    if len(rest):
        numbers = text.take(pa.array(rest))
        numbers = pc.if_else(pc.match_substring_regex(numbers, _NUMBER), numbers, pa.scalar(None, pa.string()))
        instants[rest] = from_unix(_numpy(pc.fill_null(pc.cast(numbers, pa.float64()), np.nan)))
        in_utc[rest] = not local_counts
    instants[either_way] = NAT
    return instants, in_utc, either_way, shows_order


def from_unix(counts: NDArray[np.float64]) -> Instants:
    """Seconds, milli-, micro- or nanoseconds since 1970, recognised by their size; NaT for a size that fits no unit."""
    count_us = np.full(len(counts), np.nan)
    for unit_us in _UNIX_UNITS_US:
        with np.errstate(over="ignore"):
            scaled = counts * unit_us
        fits = (scaled >= _UNIX_FIRST_US) & (scaled < _UNIX_LAST_US)
        count_us[fits] = scaled[fits]
    known = np.isfinite(count_us)
    instants = np.full(len(counts), NAT)
    instants[known] = np.rint(count_us[known]).astype(np.int64).astype("datetime64[us]")
    return instants


def _matches(text: pa.StringArray, spelling: str, wanted: Mask) -> Iterator[tuple[NDArray[np.intp], _Parts]]:
    rows = np.flatnonzero(wanted)
    parts = pc.extract_regex(text.take(pa.array(rows)), spelling)
    matched = _numpy(parts.is_valid())
    if matched.any():
        yield rows[matched], _Parts(parts.drop_null())


def _numpy(values: pa.Array) -> NDArray[Any]:
    array: NDArray[Any] = values.to_numpy(zero_copy_only=False)
    return array


class _Parts:
    """The parts of times of one spelling, as arrays."""

    def __init__(self, parts: pa.StructArray) -> None:
        self._parts = parts
        self._day, self._month, self._year = (self._integers(part) for part in ("day", "month", "year"))

    def _text(self, part: str) -> pa.Array:
        return self._parts.field(self._parts.type.get_field_index(part))

    def _integers(self, part: str) -> NDArray[np.int64]:
        text = self._text(part)
        return _numpy(pc.cast(pc.if_else(pc.equal(text, ""), "0", text), pa.int64())).astype(np.int64)

    def order_day_and_month(self, day_first: bool | None) -> tuple[Mask, bool]:
        """Put day and month in the order that was stated, or that the column shows.

        Dots mean day first. Else a number above 12 is a day, and rows where both are below follow the others, if
        those agree.

        Returns:
            The rows that could be either way, and whether any row shows an order.
        """
        if day_first is not None:
            if not day_first:
                self._day, self._month = self._month, self._day
            return np.zeros(len(self._day), bool), True
        unsure = _numpy(pc.not_equal(self._text("mark"), ".")).astype(bool)
        day_leads, month_leads = unsure & (self._day > 12), unsure & (self._month > 12)
        open_rows = unsure & ~day_leads & ~month_leads & (self._day != self._month)
        agreed = bool(day_leads.any()) != bool(month_leads.any())
        swapped = month_leads | (open_rows & (agreed and bool(month_leads.any())))
        self._day, self._month = np.where(swapped, self._month, self._day), np.where(swapped, self._day, self._month)
        return open_rows if not agreed else np.zeros_like(open_rows), bool(day_leads.any() or month_leads.any())

    def in_utc(self) -> Mask:
        """Which times state their zone."""
        is_stated = pc.or_(pc.not_equal(self._text("zone"), ""), pc.not_equal(self._text("offset"), ""))
        return _numpy(is_stated).astype(bool)

    def instants(self) -> Instants:
        """NaT where there is no such date or time of day, as on 2019-02-30."""
        hour, minute, second = (self._integers(part) for part in ("hour", "minute", "second"))
        fraction = pc.utf8_slice_codeunits(pc.utf8_rpad(self._text("fraction"), 6, "0"), 0, 6)
        fraction_us = _numpy(pc.cast(fraction, pa.int64())).astype(np.int64)
        half = _numpy(pc.utf8_upper(self._text("half"))).astype(str)
        offset_s = self._offset_s()
        valid = np.where(half == "", hour <= 23, (hour >= 1) & (hour <= 12)) & (minute <= 59) & (second <= 59)
        hour = np.where(half == "", hour, hour % 12 + 12 * (half == "PM"))
        month = ((self._year - 1970) * 12 + self._month - 1).astype("datetime64[M]")
        date = month.astype("datetime64[D]") + (self._day - 1)
        valid &= (self._month >= 1) & (self._month <= 12) & (self._day >= 1) & (date.astype("datetime64[M]") == month)
        valid &= np.abs(offset_s) <= 14 * 3600
        clock_us = ((hour * 60 + minute) * 60 + second - offset_s) * 1_000_000 + fraction_us
        instants = date.astype("datetime64[us]") + clock_us.astype("timedelta64[us]")
        return np.where(valid & (instants >= FIRST) & (instants < LAST), instants, NAT)

    def _offset_s(self) -> NDArray[np.int64]:
        offsets, rows = np.unique(_numpy(self._text("offset")).astype(str), return_inverse=True)
        seconds = []
        for offset in offsets.tolist():
            digits = offset[1:].replace(":", "").ljust(4, "0")
            seconds.append((int(digits[:2]) * 3600 + int(digits[2:]) * 60) * (-1 if offset[:1] == "-" else 1))
        return np.array(seconds, np.int64)[rows]
