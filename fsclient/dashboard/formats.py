"""How the dashboard writes numbers, durations and times, the same everywhere."""

from __future__ import annotations

import math
from datetime import UTC, datetime

ABSENT = "–"  # noqa: RUF001 - the sign for "no value" in a table
_SPANS = ((86_400, "d"), (3_600, "h"), (60, "min"))
_UNITS = ((1e12, "T"), (1e9, "G"), (1e6, "M"), (1e3, "k"))


def count(value: float | None) -> str:
    """A whole number: in full below 100,000, above it with a unit, as in 123 k or 4.56 M."""
    if value is None:
        return ABSENT
    if abs(value) < 100_000:
        return f"{value:,.0f}"
    size, unit = next((size, unit) for size, unit in _UNITS if abs(value) >= size)
    return f"{digits(value / size)} {unit}"


def digits(value: float) -> str:
    """Three significant digits, never an exponent."""
    if not math.isfinite(value):
        return ABSENT
    decimals = 2 if value == 0 else max(0, 2 - math.floor(math.log10(abs(value))))
    return f"{value:,.{min(decimals, 9)}f}"


def rate(value: float | None) -> str:
    """Calls per second."""
    return ABSENT if value is None else "0" if not value else digits(value) if value < 1000 else count(value)


def share(value: float | None) -> str:
    """0 to 1 as per cent; a tiny share is never shown as 0 % nor a large one as 100 %."""
    if value is None:
        return ABSENT
    if 0 < value < 0.001:
        return "< 0.1 %"
    if 0.999 < value < 1:
        return "> 99.9 %"
    return f"{100 * value:.1f} %" if 0 < value < 1 else f"{100 * value:.0f} %"


def duration(seconds: float | None) -> str:
    """A duration in a suitable unit."""
    if seconds is None or not math.isfinite(seconds):
        return ABSENT
    for limit, scale, unit in ((1e-3, 1e6, "µs"), (1.0, 1e3, "ms"), (120.0, 1.0, "s")):
        if seconds < limit:
            return f"{digits(seconds * scale)} {unit}"
    minutes = int(seconds // 60)
    if minutes < 120:
        return f"{minutes} min {int(seconds % 60)} s"
    return f"{minutes // 60:,} h {minutes % 60} min" if minutes < 2880 else f"{minutes // 1440:,} d"


def span(seconds: int) -> str:
    """A whole number of seconds in its largest unit, as in 5 min."""
    size, unit = next(((size, unit) for size, unit in _SPANS if seconds % size == 0), (1, "s"))
    return f"{seconds // size} {unit}"


def moment(value: datetime | None, *, seconds: bool = False) -> str:
    """A time in UTC, as in 2018-02-07 16:00."""
    return ABSENT if value is None else value.strftime("%Y-%m-%d %H:%M:%S" if seconds else "%Y-%m-%d %H:%M")


def ago(value: datetime | None, now: datetime) -> str:
    """How long ago, in a single unit."""
    if value is None:
        return ABSENT
    seconds = (now - value).total_seconds()
    for size, unit in _SPANS:
        if seconds >= 2 * size:
            return f"{int(seconds // size):,} {unit} ago"
    return "just now" if seconds < 5 else f"{int(seconds)} s ago"


def value(number: float | None) -> str:
    """A price or an indicator value with its significant digits."""
    if number is None or math.isnan(number):
        return ABSENT
    if 1e3 <= abs(number) < 1e15:
        return f"{number:,.5f}".rstrip("0").rstrip(".")
    return f"{number:.6g}"


def bars(age: int | None) -> str:
    """An age in bars."""
    return ABSENT if age is None else "0" if age == 0 else count(age)


def plural(number: int, word: str) -> str:
    """``1 run``, ``2 runs``."""
    return f"{number:,} {word}" + ("" if number == 1 else "s")


def from_epoch(seconds: float) -> datetime:
    """Seconds since 1970 as a datetime in UTC."""
    return datetime.fromtimestamp(seconds, UTC)
