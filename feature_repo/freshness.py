"""Age in bars of an open market, which weekends and holidays do not distort: FRESH, LATE or STALE, and how far back."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum
from functools import lru_cache
from types import MappingProxyType

from feature_repo.catalog import TIMEFRAMES, Session, Timeframe
from feature_repo.sessions import expected_opens

_HOUR_US = 3_600_000_000


class Freshness(StrEnum):
    """How far a view lies behind an open market."""

    FRESH = "fresh"
    LATE = "late"
    STALE = "stale"


@dataclass(frozen=True, slots=True, kw_only=True)
class Limits:
    """What is normal of a timeframe, in closed bars of an open market.

    Attributes:
        fresh: a view may lack up to this many: the next run is about to publish them.
        late: a view that lacks more than ``fresh`` is late; one that lacks more than this is stale, and an alert opens.
        between_runs: how many may pass between two runs before an alert opens.
    """

    fresh: int
    late: int
    between_runs: int


# fmt: off
_LIMITS: Mapping[str, Limits] = {
    "1m":  Limits(fresh=1, late=10, between_runs=15),
    "5m":  Limits(fresh=1, late=4,  between_runs=6),
    "15m": Limits(fresh=1, late=3,  between_runs=4),
    "30m": Limits(fresh=1, late=3,  between_runs=4),
    "1h":  Limits(fresh=1, late=2,  between_runs=3),
}
# fmt: on
_OTHERS = Limits(fresh=1, late=2, between_runs=2)
LIMITS: Mapping[str, Limits] = MappingProxyType({name: _LIMITS.get(name, _OTHERS) for name in TIMEFRAMES})
"""Timeframe -> what is normal of it. ``fstore status``, the dashboard, Prefect's artifacts and alerts all read this."""


def freshness_of(timeframe: str, age_bars: int | None) -> Freshness:
    """The freshness of a view that lacks ``age_bars`` closed bars; STALE when that is None: not online, or unknown."""
    limits = LIMITS[timeframe]
    if age_bars is None or age_bars > limits.late:
        return Freshness.STALE
    return Freshness.FRESH if age_bars <= limits.fresh else Freshness.LATE


def bars_behind(session: Session, timeframe: Timeframe, event_us: int, now_us: int) -> int:
    """The number of bars that an open market has closed after ``event_us``.

    Args:
        event_us: close of the newest stored bar, microseconds since 1970-01-01 UTC.
        now_us: the present moment, same unit.

    Returns:
        0 when nothing newer can exist: over a weekend Friday's last bar is not old.
    """
    tick = min(timeframe.microseconds, _HOUR_US)  # bars close on whole ticks, so the count changes only there
    return _count(session, timeframe, event_us, now_us // tick * tick)


@lru_cache(maxsize=4096)
def _count(session: Session, timeframe: Timeframe, event_us: int, now_us: int) -> int:
    return int(expected_opens(session, timeframe, event_us, now_us - timeframe.microseconds + 1).size)


def next_close(session: Session, timeframe: Timeframe, now_us: int) -> int:
    """The close of the first bar that closes after ``now_us``, microseconds since 1970-01-01 UTC."""
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
    """The open of the bar that lies ``bars`` bars of an open market before the one that opens at ``opens_us``.

    Microseconds since 1970-01-01 UTC; 0 when that is before 1970.
    """
    tick = max(timeframe.microseconds, _HOUR_US)
    return _open_before(session, timeframe, opens_us // tick * tick, bars)


@lru_cache(maxsize=4096)  # a run asks for hundreds of symbols at the same bar
def _open_before(session: Session, timeframe: Timeframe, opens_us: int, bars: int) -> int:
    for stretch in (1.1, 1.6, 6.0, 40.0):  # always open, closed at weekends, at night, on holidays
        start = max(0, opens_us - int((bars + 64) * timeframe.microseconds * stretch))
        opens = expected_opens(session, timeframe, start, opens_us)
        if opens.size >= bars:
            return int(opens[-bars]) if bars else opens_us
    return 0
