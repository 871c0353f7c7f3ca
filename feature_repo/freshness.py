"""Time told in bars, the measure that weekends and holidays do not distort: how old a value is, and how far back."""

from __future__ import annotations

from collections.abc import Mapping
from enum import StrEnum
from functools import lru_cache
from types import MappingProxyType

from feature_repo.catalog import Session, Timeframe
from feature_repo.sessions import expected_opens

_HOUR_US = 3_600_000_000


class Freshness(StrEnum):
    """How far a view lies behind an open market."""

    FRESH = "fresh"
    LATE = "late"
    STALE = "stale"


FRESH_BARS = 1
"""A view is fresh while at most so many bars have closed since its newest: the next run is about to publish them."""
MAX_AGE_BARS: Mapping[str, int] = MappingProxyType({"1m": 10, "5m": 4, "15m": 3, "30m": 3, "1h": 2, "4h": 2, "1d": 2})
"""timeframe -> closed bars that a view may lack before it is stale and alerts begin."""


def freshness_of(timeframe: str, age_bars: int | None) -> Freshness:
    """The one word for a view's age; ``age_bars`` is None of a view that is not online or that nobody knows."""
    if age_bars is None or age_bars > MAX_AGE_BARS[timeframe]:
        return Freshness.STALE
    return Freshness.FRESH if age_bars <= FRESH_BARS else Freshness.LATE


def bars_behind(session: Session, timeframe: Timeframe, event_us: int, now_us: int) -> int:
    """How many bars an open market has closed after ``event_us``.

    Args:
        event_us: close of the newest bar that is held, microseconds since 1970-01-01 UTC.
        now_us: the moment of asking, same unit.

    Returns:
        0 when nothing newer can exist: over a weekend Friday's last bar is not old.
    """
    tick = min(timeframe.microseconds, _HOUR_US)  # every bar closes on a whole one, so the count changes at none other
    return _count(session, timeframe, event_us, now_us // tick * tick)


@lru_cache(maxsize=4096)
def _count(session: Session, timeframe: Timeframe, event_us: int, now_us: int) -> int:
    return int(expected_opens(session, timeframe, event_us, now_us - timeframe.microseconds + 1).size)


def next_close(session: Session, timeframe: Timeframe, now_us: int) -> int:
    """When the next bar of an open market closes, microseconds since 1970-01-01 UTC; later than ``now_us``."""
    tick = min(timeframe.microseconds, _HOUR_US)
    return _next_close(session, timeframe, now_us // tick * tick)


@lru_cache(maxsize=4096)
def _next_close(session: Session, timeframe: Timeframe, now_us: int) -> int:
    step = timeframe.microseconds
    first = now_us - step + 1
    for bars in (4, 64, 2048, 65_536):  # first near, then over a weekend, then over the longest holidays
        opens = expected_opens(session, timeframe, first, first + bars * step)
        if opens.size:
            return int(opens[0]) + step
    return first + 65_536 * step


def open_before(session: Session, timeframe: Timeframe, opens_us: int, bars: int) -> int:
    """The open of the bar that an open market makes ``bars`` bars before the one that opens at ``opens_us``.

    Microseconds since 1970-01-01 UTC; at the start of 1970 when that is further back.
    """
    tick = max(timeframe.microseconds, _HOUR_US)
    return _open_before(session, timeframe, opens_us // tick * tick, bars)


@lru_cache(maxsize=4096)  # a run asks it for hundreds of symbols that are at the same bar
def _open_before(session: Session, timeframe: Timeframe, opens_us: int, bars: int) -> int:
    for stretch in (1.1, 1.6, 6.0, 40.0):  # always open, closed at weekends, closed at night, and holidays beside
        start = max(0, opens_us - int((bars + 64) * timeframe.microseconds * stretch))
        opens = expected_opens(session, timeframe, start, opens_us)
        if opens.size >= bars:
            return int(opens[-bars]) if bars else opens_us
    return 0
