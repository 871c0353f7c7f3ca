"""Market time: which bar a moment belongs to, which trading day, and which bars an open market makes.

All moments are int64 microseconds since 1970-01-01 UTC, in arrays of shape (n,), in any order. Bars are labelled by
their open. Up to one hour they lie on the UTC grid; 4h and 1d bars are cut from the session's day start, so their grid
moves with the zone's clock. Time zones are consulted once a day of the range, never once a bar.

Every function raises ``ValueError`` for a moment outside 1678 to 2261, where a unit other than microseconds is the
likely cause, and whatever ``zoneinfo`` raises for a session whose time zone does not exist.
"""

from __future__ import annotations

import logging
from bisect import bisect_right
from dataclasses import replace
from datetime import date, datetime, time
from functools import lru_cache
from zoneinfo import ZoneInfo

import numpy as np
import numpy.typing as npt

from feature_repo.catalog import Session, Timeframe

Times = npt.NDArray[np.int64]
Mask = npt.NDArray[np.bool_]

_log = logging.getLogger("fstore")
DAY_US = 86_400_000_000
_EPOCH = date(1970, 1, 1).toordinal()
# The whole years that fit into nanoseconds, in days since 1970: times beyond them are never meant.
_FIRST_DAY, _LAST_DAY = date(1678, 1, 1).toordinal() - _EPOCH, date(2262, 1, 1).toordinal() - _EPOCH

_FX_DAYS = Session(name="fx", kind="fx", timezone="America/New_York", day_start="17:00")
"""The days by which currencies trade, whatever day start a session cuts its bars from."""
FX_HOLIDAYS = ((12, 25), (1, 1))
"""Month and day of the trading days on which no currency trades."""


def grid_open(session: Session, timeframe: Timeframe, times_us: Times) -> Times:
    """The ``open_time`` of the bar that contains each moment; the open of a bar is its own."""
    step = _step(timeframe)
    if not timeframe.from_day_start:
        return times_us - times_us % step
    _, starts, day = _days(session, times_us)
    begin = starts[day]
    return begin + (times_us - begin) // step * step


def bar_close(session: Session, timeframe: Timeframe, opens_us: Times) -> Times:
    """When each bar closes: one timeframe after its open, but never after the next day start.

    A local day of 23 or 25 hours has a daily bar of that length and ends in a shorter 4h bar. In the catalog's
    sessions every bar of an open market closes exactly one timeframe after its open: UTC has no switch, and New York
    switches on a Sunday at 02:00, when currencies do not trade. One bar a year is the exception, the last hour of
    autumn's long Sunday at a broker that quotes then: its close, as open plus timeframe, is too late, never too early.
    """
    step = _step(timeframe)
    if not timeframe.from_day_start:
        return opens_us + step
    _, starts, day = _days(session, opens_us)
    return np.minimum(opens_us + step, starts[day + 1])


def on_grid(session: Session, timeframe: Timeframe, opens_us: Times) -> Mask:
    """Whether each moment is one at which a bar of the timeframe opens."""
    same: Mask = grid_open(session, timeframe, opens_us) == opens_us
    return same


def session_day(session: Session, times_us: Times, timeframe: Timeframe | None = None) -> Times:
    """The trading day of each moment, as days since 1970-01-01: the local date on which that day ends.

    With a day start of 17:00, Sunday evening belongs to Monday; with one of 00:00 it is the local date itself.

    Args:
        timeframe: of the bars that open at these moments. The daily bars of an exchange may be labelled by their date
            at 00:00 UTC; its shorter bars belong to the date at the exchange anyway: the hour from 19:00 New York
            in winter to the day that it ends, and not to the next.

    Raises:
        ValueError: the session's calendar is unknown.
    """
    if timeframe is not None and timeframe.microseconds < DAY_US:
        session = _at_the_exchange(session)
    days, _, day = _days(session, times_us)
    return days[day] + (time.fromisoformat(session.day_start) > time.min)


def is_open(session: Session, opens_us: Times, timeframe: Timeframe) -> Mask:
    """Whether an open market makes the bar that opens at each moment (on the grid): it overlaps the trading hours.

    The hours are Sunday 17:00 to Friday 17:00 New York without the trading days in ``FX_HOLIDAYS`` (fx), always
    (24x7), or the calendar's (exchange); the session's daily rest is no part of them. A daily bar is expected when its
    :func:`session_day` is a trading date: Monday to Friday for fx, so not the stub of a Sunday evening that a day start
    other than 17:00 New York cuts off. A bar that is not expected is not an error: some brokers quote on, and some stop
    early and start late.

    A calendar that ends (some are published year by year) expects no bar beyond what it knows; update
    exchange_calendars for newer years.

    Raises:
        ValueError: the session's calendar is unknown.
    """
    if (session.kind == "24x7" and session.rest is None) or not opens_us.size:
        return np.ones(opens_us.shape, np.bool_)
    span = _ends(opens_us)
    dates, starts, ends = _trading_hours(session, *span)
    if timeframe.microseconds >= DAY_US:
        return np.isin(session_day(session, opens_us), dates)
    if session.rest is not None:
        starts, ends = _outside_rest(session, session.rest, span, starts, ends)
    following = np.append(starts, np.iinfo(np.int64).max)[np.searchsorted(ends, opens_us, side="right")]
    return following < bar_close(session, timeframe, opens_us)


def grid_opens(session: Session, timeframe: Timeframe, start_us: int, end_us: int) -> Times:
    """The open times of all bars of the grid in ``[start_us, end_us)``, open market or not; ascending."""
    if end_us <= start_us:
        return np.empty(0, np.int64)
    step = _step(timeframe)
    if not timeframe.from_day_start:
        return np.arange(-(-start_us // step) * step, end_us, step, dtype=np.int64)
    _, starts = _day_starts(session, start_us, end_us)
    opens = starts[:-1, None] + np.arange(0, np.diff(starts).max(), step, dtype=np.int64)
    opens = opens[opens < starts[1:, None]]
    return opens[(opens >= start_us) & (opens < end_us)]


def expected_opens(session: Session, timeframe: Timeframe, start_us: int, end_us: int) -> Times:
    """The open times of all bars that an open market makes in ``[start_us, end_us)``; ascending.

    Raises:
        ValueError: as :func:`is_open`.
    """
    opens = grid_opens(session, timeframe, start_us, end_us)
    return opens[is_open(session, opens, timeframe)]


@lru_cache(maxsize=32)
def calendar_end(session: Session) -> int | None:
    """The first moment that the session's calendar does not know yet, microseconds UTC; None when it has no end."""
    if session.kind != "exchange" or session.calendar is None:
        return None
    import exchange_calendars

    bound = type(exchange_calendars.get_calendar(session.calendar)).bound_max()
    return None if bound is None else int(bound.value // 1000) + DAY_US


def check_opens(session: Session, timeframe: Timeframe, opens_us: Times) -> None:
    """Refuses open times that no table of bars can hold.

    Raises:
        ValueError: they are not ascending and unique, or not on the grid; the message names the first such bar.
    """
    unsorted = np.diff(opens_us) <= 0
    if unsorted.any():
        bar = np.datetime64(int(opens_us[1:][unsorted][0]), "us")
        raise ValueError(f"bar {bar}Z is not later than the bar before it: sort by open_time and drop duplicates")
    stray = opens_us[~on_grid(session, timeframe, opens_us)]
    if stray.size:
        bar = np.datetime64(int(stray[0]), "us")
        raise ValueError(
            f"{stray.size} of {opens_us.size} bars, first {bar}Z, do not open on the {timeframe.name} grid of session "
            f"{session.name!r} (day start {session.day_start} {session.clock}): check the source's time zone and "
            "whether it stamps bars at their close"
        )


def _step(timeframe: Timeframe) -> int:
    """Length of a bar, or more than the longest day for a daily one: a day is never cut, not even one of 25 hours."""
    return timeframe.microseconds if timeframe.microseconds < DAY_US else 2 * DAY_US


def _ends(times_us: Times) -> tuple[int, int]:
    return (int(times_us.min()), int(times_us.max())) if times_us.size else (0, 0)


def _days(session: Session, times_us: Times) -> tuple[Times, Times, Times]:
    """Local dates, the moments at which their days start, and for each time the index of the day it lies in."""
    days, starts = _day_starts(session, *_ends(times_us))
    return days, starts, np.searchsorted(starts, times_us, side="right") - 1


def _day_starts(session: Session, first_us: int, last_us: int) -> tuple[Times, Times]:
    """Local dates (days since 1970-01-01) around a range and the moment at which each one's day starts."""
    first, last = first_us // DAY_US, last_us // DAY_US
    if first < _FIRST_DAY or last >= _LAST_DAY:
        raise ValueError(f"moments {first_us} to {last_us} leave the years 1678 to 2261: pass microseconds since 1970")
    # West of Greenwich a day may start more than 24 h after 00:00 UTC of its date (18:00 at UTC-8): a moment's own day
    # lies at most two dates back, and the start of the following day at most two dates ahead.
    days = np.arange(first - 2, last + 3, dtype=np.int64)
    clock = time.fromisoformat(session.day_start)
    since = [date.fromisoformat(day) for day, _ in session.moved]
    zones = [ZoneInfo(name) for name in (session.timezone, *(name for _, name in session.moved))]
    dates = (date.fromordinal(day + _EPOCH) for day in days.tolist())
    starts = [int(datetime.combine(day, clock, zones[bisect_right(since, day)]).timestamp()) for day in dates]
    return days, np.array(starts, np.int64) * 1_000_000


def _trading_hours(session: Session, first_us: int, last_us: int) -> tuple[Times, Times, Times]:
    """Trading dates (days since 1970-01-01) around a range, starts and ends of trading hours; each ascending.

    Hours may touch, and a date may have two of them, before and after lunch.
    """
    if session.kind == "fx":
        days, starts = _day_starts(_FX_DAYS, first_us, last_us)
        dates = days[:-1] + 1  # a trading day is named by the date on which it ends
        trading = np.array([_is_fx_date(date.fromordinal(day + _EPOCH)) for day in dates.tolist()])
        return dates[trading], starts[:-1][trading], starts[1:][trading]
    if session.kind == "24x7":
        days, starts = _day_starts(session, first_us, last_us)
        return days[:-1] + (time.fromisoformat(session.day_start) > time.min), starts[:-1], starts[1:]
    if session.calendar is None:
        raise ValueError(f"session {session.name!r} is an exchange's but names no calendar: set Session.calendar")
    # No margin at New Year: no exchange trades through it, and some calendars end with a year that is known so far.
    years = np.array([first_us, last_us], "datetime64[us]").astype("datetime64[Y]").astype(int) + 1970
    return _calendar_hours(session.calendar, *years.tolist())


def _outside_rest(
    session: Session, rest: tuple[str, str], span: tuple[int, int], starts: Times, ends: Times
) -> tuple[Times, Times]:
    """Trading hours without the session's daily rest around a range; ascending."""
    begins, resumes = (_day_starts(replace(session, day_start=clock), *span)[1] for clock in rest)
    awake_from = np.concatenate([[np.iinfo(np.int64).min], resumes])  # the stretches between two rests
    awake_to = np.concatenate([begins, [np.iinfo(np.int64).max]])
    first, last = (np.searchsorted(awake_to, starts, "right"), np.searchsorted(awake_from, ends, "left"))
    pieces = last - first  # how many stretches the hours touch: none when a rest covers them
    hours = np.repeat(np.arange(starts.size), pieces)
    stretch = np.arange(hours.size) + np.repeat(first - np.cumsum(pieces) + pieces, pieces)
    return np.maximum(starts[hours], awake_from[stretch]), np.minimum(ends[hours], awake_to[stretch])


def _is_fx_date(day: date) -> bool:
    return day.weekday() < 5 and (day.month, day.day) not in FX_HOLIDAYS


@lru_cache(maxsize=32)
def _at_the_exchange(session: Session) -> Session:
    """An exchange's session with days of the exchange's own zone, where it cuts its bars from UTC's."""
    if session.kind != "exchange" or session.calendar is None or session.timezone != "UTC":
        return session
    import exchange_calendars

    try:
        zone = exchange_calendars.get_calendar(session.calendar, start="2020-01-01", end="2020-12-31").tz
    except (ValueError, exchange_calendars.errors.CalendarError) as error:
        raise ValueError(f"calendar {session.calendar!r}: {error} Name a code that exchange_calendars has.") from error
    return replace(session, timezone=str(zone))


@lru_cache(maxsize=32)
def _calendar_hours(code: str, first_year: int, last_year: int) -> tuple[Times, Times, Times]:
    """The hours of these years as far as the calendar reaches; beyond it no bar is expected, and the log says so."""
    import exchange_calendars  # here, because only exchanges need it and it takes a while

    start, end = f"{first_year}-01-01", f"{last_year}-12-31"
    try:
        bound = type(exchange_calendars.get_calendar(code)).bound_max()
        if bound is not None and end > f"{bound:%Y-%m-%d}":
            end = f"{bound:%Y-%m-%d}"
            _log.warning("calendar %s is known to %s only: after that no bar is expected", code, end)
        if start > end:
            return np.empty(0, np.int64), np.empty(0, np.int64), np.empty(0, np.int64)
        calendar = exchange_calendars.get_calendar(code, start=start, end=end)
    except (ValueError, exchange_calendars.errors.CalendarError) as error:
        raise ValueError(
            f"calendar {code!r}, {first_year} to {last_year}: {error} Name a code that exchange_calendars has."
        ) from error
    opens, closes, breaks, resumes = (
        np.asarray(nanos) // 1000
        for nanos in (
            calendar.opens_nanos,
            calendar.closes_nanos,
            calendar.break_starts_nanos,
            calendar.break_ends_nanos,
        )
    )
    pauses = calendar.break_starts_nanos != np.iinfo(np.int64).min  # NaT: most sessions have no lunch break
    starts = np.sort(np.concatenate([opens, resumes[pauses]]))
    ends = np.sort(np.concatenate([closes, breaks[pauses]]))
    dates = calendar.sessions.to_numpy("datetime64[D]").astype(np.int64)
    return dates, starts, ends
