"""What the hours of the week say about a clock: currencies rest from Friday 17:00 to Sunday 17:00 New York."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from feature_repo.catalog import TIMEFRAMES, Session, Timeframe
from feature_repo.sessions import expected_opens
from flows.sources.spellings import Instants
from flows.sources.zones import to_utc

MAX_BAR_S = 3600
"""Longer bars are cut at hours of their own, so their ends say nothing about a clock."""

_MARKET = "America/New_York"
_CLOSE = np.datetime64("1970-01-02T17:00", "us")  # a Friday
_OPEN = np.datetime64("1970-01-04T17:00", "us")
_WEEK_US, _HOUR_US = 7 * 86_400_000_000, 3_600_000_000
_MIN_REST_US, _MAX_REST_US = 24 * _HOUR_US, 120 * _HOUR_US
_DAY_US, _MIN_NIGHT_US = 24 * _HOUR_US, 3 * _HOUR_US
_MAX_SPAN = np.timedelta64(40 * 366, "D")
_MAX_OFFSET_US = 14 * _HOUR_US  # of a zone
_NEAR_US = 25 * 60_000_000  # how far from the hour quotes may begin and end
_MIN_SHARE = 2 / 3
_ZONES = (
    *("Europe/Athens", "Europe/Berlin", "Europe/London", "America/New_York", "Etc/GMT+5", "America/Chicago"),
    *("Asia/Tokyo", "Asia/Hong_Kong", "Asia/Dubai", "Australia/Sydney", "UTC"),
)
"""Clocks that are proposed to a user, the more usual first."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Weekends:
    """The rests of a series that can be weekends, on the clock of its times.

    Attributes:
        closes: when the last bar before each rest ended, datetime64[us].
        opens: when the first bar after it began, of the same shape.
    """

    closes: Instants
    opens: Instants

    def __len__(self) -> int:
        return len(self.closes)


def find_weekends(times: Instants, bar_us: int) -> Weekends:
    """The weekends of bars that begin at ``times`` (in any order, NaT ignored) and are ``bar_us`` long, 0 for ticks."""
    times = times[~np.isnat(times)]
    if len(times) > 1 and (np.diff(times.view(np.int64)) <= 0).any():
        times = np.unique(times)
    steps = np.diff(times.view(np.int64)) - bar_us
    before = np.flatnonzero((steps >= _MIN_REST_US) & (steps <= _MAX_REST_US))
    closes, opens = times[before] + np.timedelta64(bar_us, "us"), times[before + 1]
    near = (np.abs(_since(closes, _CLOSE)) <= _MAX_OFFSET_US + _HOUR_US) & (
        np.abs(_since(opens, _OPEN)) <= _MAX_OFFSET_US + _HOUR_US
    )
    return Weekends(closes=closes[near], opens=opens[near])


def displacement(weekends: Weekends, zone: str = "UTC") -> tuple[int, int]:
    """By how many whole hours the week's edges lie late (early below 0) if the times are on the clock of ``zone``.

    Returns:
        The hours that are most frequent, 0 unless most weekends are displaced the same way, both of their edges by the
        same whole hours; and of how many weekends that holds. An odd bar, an early close or a late open is no pattern.
    """
    closes, opens = (_offsets(*edge, zone) for edge in ((weekends.closes, _CLOSE), (weekends.opens, _OPEN)))
    # Metals begin an hour after currencies, and some feeds do with all. An early close alone is no displacement.
    hour_late = (np.rint(closes / _HOUR_US) > 0) | (np.rint(closes / _HOUR_US) < -1)
    opens = np.where(hour_late & (np.abs(opens - closes - _HOUR_US) <= _NEAR_US), closes, opens)
    return _usual_displacement(closes, opens)


def _usual_displacement(ends: NDArray[np.int64], begins: NDArray[np.int64]) -> tuple[int, int]:
    """The whole hours by which most rests of a market are displaced at both edges, and how many are; 0 if they differ.

    Args:
        ends, begins: microseconds by which trading ended late before each rest, and began late after it.
    """
    hours = [np.rint(late / _HOUR_US).astype(np.int64) for late in (ends, begins)]
    whole = [np.abs(late - hour * _HOUR_US) <= _NEAR_US for late, hour in zip((ends, begins), hours, strict=True)]
    displaced = np.where(whole[0] & whole[1] & (hours[0] == hours[1]), hours[0], 0)
    for moved in (displaced[displaced > 0], displaced[displaced < 0]):
        # A clock that changes on other days than the market's is off by one hour more or less for a part of the year.
        values, counts = np.unique(moved, return_counts=True)
        usual = np.sort(counts)[-2:].sum() if len(counts) else 0
        if usual and usual >= _MIN_SHARE * len(ends):
            return int(values[np.argmax(counts)]), int(usual)
    return 0, 0


def on_time(weekends: Weekends, zone: str) -> NDArray[np.bool_]:
    """Which weekends begin on Friday 17:00 New York if the times are on the clock of ``zone``."""
    return np.abs(_offsets(weekends.closes, _CLOSE, zone)) <= _NEAR_US


def _whole_on_time(weekends: Weekends, zone: str) -> NDArray[np.bool_]:
    """Which weekends also end on Sunday 17:00 New York."""
    return on_time(weekends, zone) & (np.abs(_offsets(weekends.opens, _OPEN, zone)) <= _NEAR_US)


def fitting_zones(weekends: Weekends, own: str = "UTC") -> list[str]:
    """The usual clocks, and a symbol's ``own``, by which most weekends begin and end on time; its own first."""
    zones = dict.fromkeys((own, *_ZONES))
    fits = {}
    for zone in zones:
        late = _offsets(weekends.opens, _OPEN, zone)
        begins = (np.abs(late) <= _NEAR_US) | (np.abs(late - _HOUR_US) <= _NEAR_US)
        fits[zone] = int((on_time(weekends, zone) & begins).sum())
    enough = [zone for zone in zones if fits[zone] and fits[zone] >= _MIN_SHARE * len(weekends)]
    return sorted(enough, key=lambda zone: (zone != own, -fits[zone]))


@dataclass(frozen=True, slots=True, kw_only=True)
class FoundClock:
    """Which of several clocks times are on.

    Attributes:
        clock: the one that fits the hours of the week best; None where nothing decides.
        weeks: weekends that it fits, 0 where the clocks are alike for these times and no weekend is among them.
        rivals: clocks that fit as well but make other instants of the times.
        close: when the weeks usually end on the clock of the times, as ``Friday 17:00``; empty without a weekend.
    """

    clock: str | None
    weeks: int
    rivals: tuple[str, ...] = ()
    close: str = ""


def find_clock(times: Instants, bar_us: int, clocks: Sequence[str]) -> FoundClock:
    """The clock, of several, that wall-clock times are on: the one by which the week ends on Friday 17:00 New York.

    Args:
        times: datetime64[us] on the unknown clock.
        bar_us: length of the bars, 0 for ticks.
        clocks: zones, or zones by date, as ``zones.clock`` reads them; of equals the first is taken.
    """
    hours = np.unique(times[~np.isnat(times)].astype("datetime64[h]")).astype("datetime64[us]")
    readings = {clock: to_utc(hours, clock, first=True) for clock in clocks}
    weekends = find_weekends(times, bar_us if bar_us <= MAX_BAR_S * 1_000_000 else 0)
    fits = {clock: on_time(weekends, clock) for clock in clocks}
    fitted = np.logical_or.reduce([*fits.values(), np.zeros(len(weekends), bool)])
    close = _usual_close(weekends)
    if 2 * fitted.sum() < len(weekends):
        return FoundClock(clock=None, weeks=0, close=close)
    best = max(clocks, key=lambda clock: int(fits[clock].sum()))
    whole = _whole_on_time(weekends, best)

    def beaten(clock: str) -> bool:
        """A single weekend, whose last bar may just be missing, decides only if it ends on time too."""
        decisive, against = fits[best] & ~fits[clock], fits[clock] & ~fits[best]
        return bool(decisive.sum() > 2 * against.sum() and (decisive.sum() > 1 or (decisive & whole).any()))

    rivals = tuple(
        clock
        for clock in clocks
        if not np.array_equal(readings[clock], readings[best], equal_nan=True) and not beaten(clock)
    )
    return FoundClock(clock=None if rivals else best, weeks=int(fits[best].sum()), rivals=rivals, close=close)


def _usual_close(weekends: Weekends) -> str:
    if not len(weekends):
        return ""
    values, counts = np.unique(weekends.closes.view(np.int64) % _WEEK_US // 60_000_000, return_counts=True)
    return f"{pd.Timestamp(int(values[np.argmax(counts)]) * 60, unit='s'):%A %H:%M}"


def _offsets(times: Instants, edge: np.datetime64, zone: str) -> NDArray[np.int64]:
    """Microseconds from the week's ``edge`` in New York to each time on the clock of ``zone``, the nearest week's."""
    instants = pd.DatetimeIndex(to_utc(times, zone, first=True)).tz_localize("UTC")
    market = instants.tz_convert(_MARKET).tz_localize(None).to_numpy().astype("datetime64[us]")
    return np.where(np.isnat(market), _WEEK_US, _since(market, edge))


def _since(times: Instants, edge: np.datetime64) -> NDArray[np.int64]:
    offset = times.view(np.int64) - int(edge.astype(np.int64))
    nearest: NDArray[np.int64] = (offset + _WEEK_US // 2) % _WEEK_US - _WEEK_US // 2
    return nearest


@dataclass(frozen=True, slots=True, kw_only=True)
class ZoneDoubt:
    """What the hours of a series say against its clock.

    Attributes:
        hours: by how many hours the week is displaced, 0 where there is no such pattern.
        settled: weekends are among the times, and begin and end when they should.
        text: the pattern, as shown to a user; empty without one.
        remedy: zones by which the week would be right, or an example of one.
    """

    hours: int = 0
    settled: bool = False
    text: str = ""
    remedy: str = ""


def doubt_zone(opens: Instants, bar_us: int, own: str = "UTC") -> ZoneDoubt:
    """Whether the week of a series of currencies begins and ends by UTC when it should.

    Args:
        opens: open times of bars that moved, datetime64[us]: a closed market's flat bars say nothing.
        bar_us: length of the bars.
        own: the clock of the symbol's session, which a broker's own symbol is likely to be on.
    """
    if bar_us > MAX_BAR_S * 1_000_000:
        return ZoneDoubt()
    weekends = find_weekends(opens, bar_us)
    hours, displaced = displacement(weekends)
    if not hours:
        return ZoneDoubt(settled=bool(len(weekends)) and 2 * int(on_time(weekends, "UTC").sum()) > len(weekends))
    return _doubt("weekend", len(weekends), hours, displaced, fitting_zones(weekends, own))


def _doubt(rest: str, rests: int, hours: int, displaced: int, zones: Sequence[str]) -> ZoneDoubt:
    late = f"{abs(hours)} hour{'s' if abs(hours) > 1 else ''} {'late' if hours > 0 else 'early'}"
    which = f"{displaced} of its {rests} {rest}s begin and end" if rests > 1 else f"its {rest} begins and ends"
    text = f"{which} {late}, so the times look like those of another zone"
    return ZoneDoubt(hours=hours, text=text, remedy=" or ".join(zones[:2]) or "ZONE, as Europe/Athens")


def doubt_zone_of_days(opens: Instants, timeframe: Timeframe, session: Session) -> ZoneDoubt:
    """Whether the days of a series of an exchange begin and end by UTC when they should, judged night by night.

    Extended hours displace the edges of a day by different hours, and in opposite directions: they raise no doubt.

    Args:
        opens: open times of bars, datetime64[us].
        timeframe: of the bars.
    """
    opens = np.unique(opens)
    if timeframe.seconds > MAX_BAR_S or not len(opens) or opens[-1] - opens[0] > _MAX_SPAN:
        return ZoneDoubt()
    grid = max(timeframe, TIMEFRAMES["30m"], key=lambda frame: frame.seconds)
    span = (int(opens[0].astype(np.int64)) - _DAY_US, int(opens[-1].astype(np.int64)) + _DAY_US)
    try:
        expected = expected_opens(session, grid, *span)
    except ValueError:  # the calendar does not know these years
        return ZoneDoubt()
    nights = _rests(expected, grid.microseconds)
    rests = _rests(opens.view(np.int64), timeframe.microseconds)
    if not len(nights[0]) or not len(rests[0]):
        return ZoneDoubt()

    def late(zone: str) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
        read = [to_utc(edge.view("datetime64[us]"), zone, first=True).view(np.int64) for edge in rests]
        ends, begins = (_from_nearest(edge, night) for edge, night in zip(read, nights, strict=True))
        return ends, begins

    hours, displaced = _usual_displacement(*late("UTC"))
    fits = {zone: int(np.logical_and(*(np.abs(edge) <= _NEAR_US for edge in late(zone))).sum()) for zone in _ZONES}
    if not hours:
        return ZoneDoubt(settled=2 * fits["UTC"] > len(rests[0]))
    zones = [zone for zone in _ZONES if fits[zone] >= _MIN_SHARE * len(rests[0])]
    return _doubt("night", len(rests[0]), hours, displaced, sorted(zones, key=lambda zone: -fits[zone]))


def _rests(opens_us: NDArray[np.int64], bar_us: int) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """When trading ended before each pause of a night's length, and when it began after it."""
    pauses = np.flatnonzero(np.diff(opens_us) - bar_us >= _MIN_NIGHT_US)
    return opens_us[pauses] + bar_us, opens_us[pauses + 1]


def _from_nearest(times: NDArray[np.int64], edges: NDArray[np.int64]) -> NDArray[np.int64]:
    at = np.searchsorted(edges, times).clip(1, max(len(edges) - 1, 1))
    before, after = edges[at - 1], edges[np.minimum(at, len(edges) - 1)]
    late: NDArray[np.int64] = np.where(np.abs(times - before) <= np.abs(times - after), times - before, times - after)
    return late
