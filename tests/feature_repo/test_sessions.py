from dataclasses import replace
from datetime import date, datetime, timedelta
from itertools import pairwise
from zoneinfo import ZoneInfo

import exchange_calendars
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from feature_repo.catalog import SESSIONS, TIMEFRAMES, Session, Timeframe
from feature_repo.freshness import next_close
from feature_repo.sessions import (
    bar_close,
    check_opens,
    expected_opens,
    grid_open,
    grid_opens,
    is_open,
    on_grid,
    session_day,
)

FX, METALS, ALWAYS, US = SESSIONS["fx"], SESSIONS["metals"], SESSIONS["24x7"], SESSIONS["us_equity"]
BROKER = Session(name="broker", kind="fx", timezone="Europe/Athens", day_start="00:00")
MOVED = Session(name="moved", kind="fx", timezone="Europe/Berlin", moved=(("2014-11-23", "Europe/Athens"),))
BERLIN = Session(name="berlin", kind="24x7", timezone="Europe/Berlin")  # its clock changes while the market is open
SAO_PAULO = Session(name="sao_paulo", kind="24x7", timezone="America/Sao_Paulo")  # it changed at midnight
EAST = Session(name="east", kind="24x7", timezone="Pacific/Apia", day_start="23:59")  # lost a whole day in 2011
WEST = Session(name="west", kind="24x7", timezone="America/Los_Angeles", day_start="18:00")
KOLKATA = Session(name="kolkata", kind="24x7", timezone="Asia/Kolkata")
TOKYO = Session(name="tokyo", kind="exchange", timezone="UTC", calendar="XTKS")
MUMBAI = Session(name="mumbai", kind="exchange", timezone="UTC", calendar="XBOM")  # known since 1997

# The calendar has CMES close at 17:00 Chicago, where its next day begins; Globex closes an hour before.
GLOBEX = Session(name="globex", kind="exchange", timezone="America/Chicago", day_start="17:00", calendar="CMES",
                 rest=("16:00", "17:00"))  # fmt: skip

HALF_HOUR = TIMEFRAMES["30m"]
HOUR, FOUR_HOURS, DAY = TIMEFRAMES["1h"], TIMEFRAMES["4h"], TIMEFRAMES["1d"]


def us(*moments: str) -> np.ndarray:
    """Naive ISO strings, read as UTC."""
    return np.array(moments, "datetime64[us]").astype(np.int64)


def iso(times_us: np.ndarray) -> list[str]:
    return np.datetime_as_string(times_us.view("datetime64[us]"), unit="m").tolist()


any_session = st.sampled_from([FX, METALS, ALWAYS, US, BROKER, MOVED, BERLIN, SAO_PAULO, EAST, WEST, KOLKATA])
any_timeframe = st.sampled_from(list(TIMEFRAMES.values()))
moments_us = st.integers(int(us("1965-01-01")[0]), int(us("2040-01-01")[0]))
minutes = st.lists(st.integers(0, 400 * 1440), max_size=5).map(lambda times: np.array(times, np.int64) * 60_000_000)


# ---------------------------------------------------------------------------------------------------- the grid


@settings(deadline=None)
@given(session=any_session, timeframe=any_timeframe, start=moments_us, later=minutes)
def test_every_moment_lies_in_one_bar_of_the_grid(
    session: Session, timeframe: Timeframe, start: int, later: np.ndarray
) -> None:
    times = start + later
    opens = grid_open(session, timeframe, times)
    closes = bar_close(session, timeframe, opens)
    assert opens.dtype == closes.dtype == np.int64
    assert (opens <= times).all()
    assert (times < closes).all()
    assert (grid_open(session, timeframe, opens) == opens).all()
    assert (grid_open(session, timeframe, closes - 1) == opens).all()
    assert on_grid(session, timeframe, opens).all()
    assert on_grid(session, timeframe, closes).all()
    assert not on_grid(session, timeframe, opens + 1).any()


@settings(deadline=None)
@given(session=any_session, timeframe=any_timeframe, start=moments_us, hours=st.integers(0, 100))
def test_bars_of_the_grid_follow_one_another_without_holes(
    session: Session, timeframe: Timeframe, start: int, hours: int
) -> None:
    end = start + hours * HOUR.microseconds
    opens = grid_opens(session, timeframe, start, end)
    assert on_grid(session, timeframe, opens).all()
    assert (bar_close(session, timeframe, opens)[:-1] == opens[1:]).all()
    probes = np.arange(start, end, 7 * 60_000_000)
    containing = np.unique(grid_open(session, timeframe, probes))
    assert set(containing[containing >= start]) <= set(opens)
    assert all(start <= bar < end for bar in opens)


@pytest.mark.parametrize("session", [WEST, EAST, BROKER, KOLKATA], ids=lambda s: s.name)
def test_a_lone_moment_finds_its_day_however_far_the_zone_is_from_utc(session: Session) -> None:
    hours = us("2018-06-01") + np.arange(48) * HOUR.microseconds
    days = grid_opens(session, DAY, *us("2018-05-29", "2018-06-05"))
    for hour in hours.reshape(-1, 1):
        opened = grid_open(session, DAY, hour)
        assert opened == days[days <= hour][-1]
        assert bar_close(session, DAY, opened) == days[days > hour][0]
        assert session_day(session, hour) == session_day(session, np.append(days[0], hour))[-1]


def test_fx_days_start_at_17_new_york_through_both_switches_of_2018() -> None:
    days = grid_opens(FX, DAY, *us("2018-03-08T22:00", "2018-03-14"))
    assert iso(days) == [
        "2018-03-08T22:00", "2018-03-09T22:00", "2018-03-10T22:00",
        "2018-03-11T21:00", "2018-03-12T21:00", "2018-03-13T21:00",
    ]  # fmt: skip
    days = grid_opens(FX, DAY, *us("2018-11-01T21:00", "2018-11-06"))
    assert iso(days) == [
        "2018-11-01T21:00", "2018-11-02T21:00", "2018-11-03T21:00", "2018-11-04T22:00", "2018-11-05T22:00",
    ]  # fmt: skip
    assert iso(grid_open(FX, FOUR_HOURS, us("2018-03-09T00:30", "2018-03-12T00:30"))) == [
        "2018-03-08T22:00",
        "2018-03-11T21:00",
    ]


def test_a_local_day_of_23_or_25_hours_while_open_ends_in_a_shorter_bar() -> None:
    spring = grid_opens(BERLIN, FOUR_HOURS, *us("2018-03-24T23:00", "2018-03-25T22:00"))
    assert iso(spring)[-1] == "2018-03-25T19:00"
    assert (np.diff(np.append(spring, us("2018-03-25T22:00"))) / HOUR.microseconds).tolist() == [4, 4, 4, 4, 4, 3]
    autumn = grid_opens(BERLIN, FOUR_HOURS, *us("2018-10-27T22:00", "2018-10-28T23:00"))
    lengths = (bar_close(BERLIN, FOUR_HOURS, autumn) - autumn) / HOUR.microseconds
    assert lengths.tolist() == [4, 4, 4, 4, 4, 4, 1]
    days = us("2018-03-24T23:00", "2018-10-27T22:00")
    assert on_grid(BERLIN, DAY, days).all()
    assert ((bar_close(BERLIN, DAY, days) - days) / HOUR.microseconds).tolist() == [23, 25]


def test_a_day_whose_midnight_the_clock_skips_starts_at_the_switch() -> None:
    assert iso(grid_opens(SAO_PAULO, DAY, *us("2018-11-03", "2018-11-06"))) == [
        "2018-11-03T03:00",
        "2018-11-04T03:00",  # 00:00 did not exist, 01:00 at UTC-2
        "2018-11-05T02:00",
    ]


def test_a_session_that_was_moved_starts_its_days_in_the_zone_of_each_date() -> None:
    assert iso(grid_opens(MOVED, DAY, *us("2014-11-20T12:00", "2014-11-25"))) == [
        "2014-11-20T23:00",
        "2014-11-21T23:00",  # Saturday, an hour short: the market is closed
        "2014-11-22T22:00",
        "2014-11-23T22:00",
        "2014-11-24T22:00",
    ]
    friday = grid_opens(MOVED, FOUR_HOURS, *us("2014-11-20T23:00", "2014-11-21T23:00"))
    assert (bar_close(MOVED, FOUR_HOURS, friday) == friday + FOUR_HOURS.microseconds).all()
    assert MOVED.clock == "Europe/Berlin,2014-11-23=Europe/Athens"
    assert BROKER.clock == "Europe/Athens"


@pytest.mark.parametrize("session", SESSIONS.values(), ids=lambda s: s.name)
@pytest.mark.parametrize("timeframe", [FOUR_HOURS, DAY], ids=lambda t: t.name)
def test_every_bar_that_a_catalog_session_makes_lasts_one_timeframe(session: Session, timeframe: Timeframe) -> None:
    opens = expected_opens(session, timeframe, *us("1995-01-01", "2035-01-01").tolist())
    shorter = opens[bar_close(session, timeframe, opens) != opens + timeframe.microseconds]
    # A broker whose clock changes on a Sunday, before trading begins in its evening: that day's last bar is cut short.
    assert not shorter.size or (session.name, timeframe) == ("fx_broker", FOUR_HOURS)
    assert all(
        date.fromordinal(day + date(1970, 1, 1).toordinal()).weekday() == 6 for day in session_day(session, shorter)
    )
    assert (bar_close(session, timeframe, opens) <= opens + timeframe.microseconds).all(), "never known too early"


# ------------------------------------------------------------------------------------------------ trading days


def test_fx_trading_day_is_named_by_its_end() -> None:
    evening = us("2018-01-07T21:59", "2018-01-07T22:00", "2018-01-08T21:59", "2018-01-08T22:00")  # Sunday, Monday
    assert np.array(session_day(FX, evening), "datetime64[D]").astype(str).tolist() == [
        "2018-01-07",
        "2018-01-08",
        "2018-01-08",
        "2018-01-09",
    ]


@pytest.mark.parametrize(
    ("session", "moment", "day"),
    [
        (ALWAYS, "2018-01-07T23:59:59.999999", "2018-01-07"),
        (ALWAYS, "2018-01-08", "2018-01-08"),
        (BROKER, "2018-01-07T21:59", "2018-01-07"),
        (BROKER, "2018-01-07T22:00", "2018-01-08"),
        (US, "2018-01-08T14:30", "2018-01-08"),
        (ALWAYS, "1969-12-31T12:00", "1969-12-31"),
    ],
)
def test_trading_day_that_starts_at_midnight_is_the_local_date(session: Session, moment: str, day: str) -> None:
    assert session_day(session, us(moment)).tolist() == [int(np.datetime64(day, "D").astype(int))]


# ------------------------------------------------------------------------------------------------ opening hours


def fx_trades(hour: datetime) -> bool:
    """The rule again, one hour at a time: the hour of the New York clock, and the date seven hours later."""
    local = hour.astimezone(ZoneInfo("America/New_York"))
    trading_date = local.replace(tzinfo=None) + timedelta(hours=7)
    return trading_date.weekday() < 5 and (trading_date.month, trading_date.day) not in {(12, 25), (1, 1)}


def test_fx_hours_agree_with_the_new_york_clock_hour_by_hour() -> None:
    hours = grid_opens(FX, HOUR, *us("2017-12-20", "2020-01-05"))
    epoch = datetime(1970, 1, 1, tzinfo=ZoneInfo("UTC"))
    rule = [fx_trades(epoch + timedelta(microseconds=hour)) for hour in hours.tolist()]
    assert is_open(FX, hours, HOUR).tolist() == rule


def test_fx_week_runs_from_sunday_17_to_friday_17_new_york() -> None:
    week = expected_opens(FX, TIMEFRAMES["1m"], *us("2018-06-02", "2018-06-09"))
    assert iso(week[[0, -1]]) == ["2018-06-03T21:00", "2018-06-08T20:59"]
    assert week.size == 5 * 1440
    assert iso(expected_opens(FX, DAY, *us("2018-06-02", "2018-06-09")))[:2] == ["2018-06-03T21:00", "2018-06-04T21:00"]


def test_fx_rests_on_the_trading_days_of_christmas_and_new_year() -> None:
    days = expected_opens(FX, DAY, *us("2018-12-20T22:00", "2019-01-04"))
    dates = np.array(session_day(FX, days), "datetime64[D]").astype(str).tolist()
    assert dates == [
        "2018-12-21", "2018-12-24", "2018-12-26", "2018-12-27", "2018-12-28", "2018-12-31",
        "2019-01-02", "2019-01-03", "2019-01-04",
    ]  # fmt: skip
    hours = expected_opens(FX, HOUR, *us("2018-12-24T12:00", "2018-12-26T12:00"))
    assert "2018-12-24T21:00" in iso(hours)
    assert "2018-12-24T22:00" not in iso(hours)
    assert "2018-12-25T21:00" not in iso(hours)
    assert "2018-12-25T22:00" in iso(hours)


def test_metals_trade_when_currencies_do_but_for_the_first_hour_of_each_day() -> None:
    start, end = us("2017-12-20", "2020-01-05")
    new_york = ZoneInfo("America/New_York")
    fx = expected_opens(FX, HOUR, start, end).tolist()
    awake = [hour for hour in fx if datetime.fromtimestamp(hour / 1e6, new_york).hour != 17]
    assert expected_opens(METALS, HOUR, start, end).tolist() == awake
    assert len(awake) < len(fx)
    for timeframe in (FOUR_HOURS, DAY):
        assert (expected_opens(METALS, timeframe, start, end) == expected_opens(FX, timeframe, start, end)).all()


def test_a_session_has_a_rest_that_its_calendar_does_not_know() -> None:
    around = us("2026-11-16T21:00", "2026-11-17T00:00")
    assert iso(expected_opens(GLOBEX, HALF_HOUR, *around)) == [
        "2026-11-16T21:00", "2026-11-16T21:30", "2026-11-16T23:00", "2026-11-16T23:30",
    ]  # fmt: skip
    week = expected_opens(GLOBEX, HALF_HOUR, *us("2026-11-15", "2026-11-22"))
    assert week.size == 5 * 46
    assert iso(week[[0, -1]]) == ["2026-11-15T23:00", "2026-11-20T21:30"]


def test_a_market_of_every_day_may_rest_too() -> None:
    rests = replace(ALWAYS, rest=("00:30", "01:00"))
    opens = iso(expected_opens(rests, HALF_HOUR, *us("2024-01-06T23:30", "2024-01-07T02:00")))
    assert opens == ["2024-01-06T23:30", "2024-01-07T00:00", "2024-01-07T01:00", "2024-01-07T01:30"]
    assert expected_opens(rests, DAY, *us("2024-01-06", "2024-01-09")).size == 3


@pytest.mark.parametrize(
    ("rest", "problem"),
    [
        (("17:00", "16:00"), "session '24x7': its rest ends at 16:00, not after 17:00"),
        (("noon", "13:00"), r"session '24x7': rest \('noon', '13:00'\) is not two local times"),
    ],
)
def test_a_rest_that_cannot_be_is_refused_by_name(rest: tuple[str, str], problem: str) -> None:
    with pytest.raises(ValueError, match=problem):
        replace(ALWAYS, rest=rest)


def test_a_broker_midnight_keeps_new_york_hours_and_expects_no_sunday_day() -> None:
    # In these weeks New York has summer time and Athens has not: the market opens on Sunday at 23:00 of Athens.
    around = us("2018-03-17T12:00", "2018-03-19T12:00")
    assert iso(expected_opens(BROKER, HOUR, *around))[0] == "2018-03-18T21:00"
    assert iso(expected_opens(BROKER, FOUR_HOURS, *around))[0] == "2018-03-18T18:00"
    assert iso(expected_opens(BROKER, DAY, *around)) == ["2018-03-18T22:00"]  # Monday


def test_24x7_makes_every_bar() -> None:
    start, end = us("2018-12-25", "2018-12-26")
    for timeframe in TIMEFRAMES.values():
        assert expected_opens(ALWAYS, timeframe, start, end).size == DAY.microseconds // timeframe.microseconds


def test_xnys_thanksgiving_and_the_half_day_after_it() -> None:
    start, end = us("2018-11-21", "2018-11-24")
    hours = iso(expected_opens(US, HOUR, start, end))
    assert hours == [
        *(f"2018-11-21T{hour}:00" for hour in range(14, 21)),  # 14:30 to 21:00
        *(f"2018-11-23T{hour}:00" for hour in range(14, 18)),  # 14:30 to 18:00
    ]
    minutes = expected_opens(US, TIMEFRAMES["1m"], start, end)
    assert iso(minutes[[0, 389, 390, -1]]) == [
        "2018-11-21T14:30",
        "2018-11-21T20:59",
        "2018-11-23T14:30",
        "2018-11-23T17:59",
    ]
    assert iso(expected_opens(US, FOUR_HOURS, start, end)) == [
        "2018-11-21T12:00", "2018-11-21T16:00", "2018-11-21T20:00", "2018-11-23T12:00", "2018-11-23T16:00",
    ]  # fmt: skip
    assert iso(expected_opens(US, DAY, start, end)) == ["2018-11-21T00:00", "2018-11-23T00:00"]


def test_tokyo_lunch_break() -> None:
    minutes = iso(expected_opens(TOKYO, TIMEFRAMES["30m"], *us("2018-06-01", "2018-06-02")))
    assert minutes == [
        "2018-06-01T00:00", "2018-06-01T00:30", "2018-06-01T01:00", "2018-06-01T01:30", "2018-06-01T02:00",
        "2018-06-01T03:30", "2018-06-01T04:00", "2018-06-01T04:30", "2018-06-01T05:00", "2018-06-01T05:30",
    ]  # fmt: skip


def test_exchange_hours_continue_over_new_year() -> None:
    days = expected_opens(US, DAY, *us("2017-12-29", "2018-01-04"))
    assert iso(days) == ["2017-12-29T00:00", "2018-01-02T00:00", "2018-01-03T00:00"]
    assert is_open(US, us("2017-12-29T15:00", "2018-01-01T15:00", "2018-01-02T15:00"), HOUR).tolist() == [1, 0, 1]


@settings(deadline=None)  # the first example with an exchange builds its calendar
@given(
    session=st.sampled_from([FX, BROKER, ALWAYS, US]),
    timeframe=st.sampled_from([HOUR, FOUR_HOURS, DAY]),
    cuts=st.lists(st.integers(0, 24 * 40), min_size=2, max_size=4).map(sorted),
)
def test_expected_bars_of_adjoining_ranges_add_up(session: Session, timeframe: Timeframe, cuts: list[int]) -> None:
    edges = [int(us("2018-03-01")[0]) + cut * HOUR.microseconds for cut in cuts]
    parts = [expected_opens(session, timeframe, start, end) for start, end in pairwise(edges)]
    assert np.concatenate(parts).tolist() == expected_opens(session, timeframe, edges[0], edges[-1]).tolist()


# ------------------------------------------------------------------------------------------------------ faults


@pytest.mark.parametrize("session", [FX, ALWAYS, MUMBAI], ids=lambda s: s.name)
@pytest.mark.parametrize("timeframe", [HOUR, FOUR_HOURS, DAY], ids=lambda t: t.name)
def test_no_moments_give_no_bars(session: Session, timeframe: Timeframe) -> None:
    none = np.empty(0, np.int64)
    assert grid_open(session, timeframe, none).size == 0
    assert bar_close(session, timeframe, none).size == 0
    assert session_day(session, none).size == 0
    assert is_open(session, none, timeframe).size == 0
    assert expected_opens(session, timeframe, 5, 5).size == 0
    check_opens(session, timeframe, none)


def test_nanoseconds_are_refused() -> None:
    with pytest.raises(ValueError, match="pass microseconds"):
        grid_open(FX, DAY, us("2018-01-01") * 1000)


def test_bars_out_of_order_are_refused() -> None:
    with pytest.raises(ValueError, match=r"2018-01-02T01:00:00\.000000Z is not later"):
        check_opens(FX, HOUR, us("2018-01-02T01:00", "2018-01-02T02:00", "2018-01-02T01:00"))
    with pytest.raises(ValueError, match="drop duplicates"):
        check_opens(FX, HOUR, us("2018-01-02T01:00", "2018-01-02T01:00"))


def test_bars_off_the_grid_are_refused_with_the_day_start_in_the_message() -> None:
    with pytest.raises(ValueError, match=r"1 of 2 bars, first 2018-01-02T00.* 1d grid .*17:00 America/New_York"):
        check_opens(FX, DAY, us("2018-01-01T22:00", "2018-01-02T00:00"))


@pytest.mark.parametrize(
    ("calendar", "moment", "message"),
    [
        ("NOPE", "2018-01-02", "'NOPE'"),
        ("XBOM", "1990-01-02", "back to the year 1997"),
        (None, "2018-01-02", "names no calendar"),
    ],
)
def test_a_calendar_that_cannot_answer_is_named(calendar: str | None, moment: str, message: str) -> None:
    session = replace(MUMBAI, calendar=calendar)
    with pytest.raises(ValueError, match=message):
        is_open(session, us(moment), HOUR)


def test_the_known_part_of_a_calendar_is_enough_for_what_lies_in_it(caplog: pytest.LogCaptureFixture) -> None:
    """Some calendars are published year by year; a look past the end must not make the known part unreadable."""
    bound = exchange_calendars.get_calendar("XSHG").bound_max()
    assert bound is not None
    shanghai = Session(name="shanghai", kind="exchange", timezone="Asia/Shanghai", day_start="00:00", calendar="XSHG")
    end_us = int(bound.timestamp() * 1e6) + 86_400_000_000
    week = 7 * 86_400_000_000
    known = expected_opens(shanghai, TIMEFRAMES["1h"], end_us - 2 * week, end_us)
    assert known.size
    across = expected_opens(shanghai, TIMEFRAMES["1h"], end_us - 2 * week, end_us + week)
    assert across.tolist() == known.tolist()
    assert expected_opens(shanghai, TIMEFRAMES["1h"], end_us + week, end_us + 2 * week).size == 0
    assert next_close(shanghai, TIMEFRAMES["1m"], end_us - week) > end_us - week
    assert "calendar XSHG is known to" in caplog.text
