"""What the hours of the week say about a clock."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from feature_repo.catalog import SYMBOLS, TIMEFRAMES, Session
from feature_repo.sessions import expected_opens
from flows.sources import SourceBars, SourceError
from flows.sources.exports import HISTDATA_CLOCKS
from flows.sources.hours import (
    ZoneDoubt,
    displacement,
    doubt_zone,
    doubt_zone_of_days,
    find_clock,
    find_weekends,
    fitting_zones,
)
from flows.sources.zones import to_utc

Read = Callable[..., SourceBars]
EST, NEW_YORK, THEN_ZURICH, ZURICH = HISTDATA_CLOCKS
HOUR_US = 3_600_000_000


def market(start: str, end: str, timeframe: str = "1h") -> pd.DatetimeIndex:
    """The open times of EUR/USD's bars."""
    span = (int(pd.Timestamp(day, tz="UTC").timestamp()) * 1_000_000 for day in (start, end))
    opens = expected_opens(SYMBOLS["EUR/USD"].session, TIMEFRAMES[timeframe], *span)
    return pd.DatetimeIndex(opens.view("datetime64[us]")).tz_localize("UTC")


def on_clock(times: pd.DatetimeIndex, clock: str) -> pd.DatetimeIndex:
    """What a clock showed at each time."""
    if clock == THEN_ZURICH:
        parts = on_clock(times, NEW_YORK), on_clock(times, ZURICH)
        return pd.DatetimeIndex(np.where(times < pd.Timestamp("2018-12-16", tz="UTC"), *parts))
    zone, hours = ("Europe/Zurich", -6) if clock == ZURICH else (clock, 0)
    return times.tz_convert(zone).tz_localize(None) + pd.Timedelta(hours=hours)


def walls(start: str, end: str, clock: str, timeframe: str = "1h") -> np.ndarray:
    return on_clock(market(start, end, timeframe), clock).to_numpy(dtype="datetime64[us]")


def text_of(wall: pd.DatetimeIndex | np.ndarray, spelling: str, bar: str) -> str:
    """A file of bars that move, so that none looks like those of a closed market."""
    return "".join(f"{time}{bar}\n" for time in pd.DatetimeIndex(wall).strftime(spelling))


def histdata(wall: pd.DatetimeIndex | np.ndarray) -> str:
    return text_of(wall, "%Y%m%d %H%M%S", ";1.3066;1.3068;1.3065;1.3067;0")


# ------------------------------------------------------------------------------------------- HistData's clocks


@pytest.mark.parametrize(
    ("start", "end", "clock", "shown"),
    [
        ("2015-01-01", "2016-01-01", EST, f"{EST} (as histdata has it)"),
        ("2015-01-01", "2016-01-01", NEW_YORK, f"{NEW_YORK} (found by the hours of the week)"),
        ("2018-01-01", "2019-01-01", NEW_YORK, f"{NEW_YORK} (found by the hours of the week)"),
        ("2019-01-01", "2020-01-01", ZURICH, f"{ZURICH} (found by the hours of the week)"),
        ("2017-06-01", "2020-06-01", THEN_ZURICH, f"{THEN_ZURICH} (found by the hours of the week)"),
        ("2015-07-06", "2015-07-20", NEW_YORK, f"{NEW_YORK} (found by the hours of the week)"),
        ("2015-07-06", "2015-07-20", EST, f"{EST} (as histdata has it)"),
    ],
)
def test_histdatas_clock_is_found_by_the_end_of_its_fridays(
    read: Read, start: str, end: str, clock: str, shown: str
) -> None:
    opens = market(start, end)
    source = read(histdata(on_clock(opens, clock)))
    detected = source.notes.detected["time_zone"]
    alike = clock == ZURICH and detected.startswith(THEN_ZURICH)  # both are Zurich's after 2018
    assert alike or detected == shown
    assert pd.DatetimeIndex(source.frame["open_time"]).equals(opens)
    assert not len(source.rejected)


def test_winter_needs_no_weekend_for_the_clocks_are_alike(read: Read) -> None:
    opens = market("2015-01-06", "2015-01-08")
    source = read(histdata(on_clock(opens, EST)))
    assert source.notes.detected["time_zone"] == "Etc/GMT+5 (as histdata has it)"
    assert pd.DatetimeIndex(source.frame["open_time"]).equals(opens)


def test_summer_without_a_weekend_is_asked_about(read: Read) -> None:
    text = histdata(on_clock(market("2015-07-07", "2015-07-09"), NEW_YORK))
    with pytest.raises(SourceError, match=r"no weekend in it shows which.*--tz Etc/GMT\+5, --tz America/New_York"):
        read(text)
    assert len(read(text, tz="America/New_York").frame) == 48


def test_hours_that_fit_none_of_the_clocks_are_refused(read: Read) -> None:
    text = histdata(on_clock(market("2015-01-05", "2015-02-05"), "Europe/Athens"))
    with pytest.raises(SourceError, match=r"its weeks end on Saturday 00:00, as on none of histdata's clocks.*--tz"):
        read(text)


def test_ticks_have_weeks_too(read: Read) -> None:
    opens = market("2015-07-06", "2015-07-25", "30m") + pd.Timedelta(minutes=29, seconds=59)
    wall = on_clock(opens, NEW_YORK)
    text = "".join(f"{time}000,1.306600,1.306770,0\n" for time in wall.strftime("%Y%m%d %H%M%S"))
    source = read(text, timeframe_name="30m")
    assert source.notes.detected["time_zone"] == "America/New_York (found by the hours of the week)"
    assert source.frame["open_time"].iloc[0] == market("2015-07-06", "2015-07-25", "30m")[0]


@settings(max_examples=30, deadline=None)
@given(
    week=st.integers(0, 51),
    weeks=st.integers(3, 30),
    clock=st.sampled_from(HISTDATA_CLOCKS),
    missing=st.floats(0, 0.2),
    seed=st.integers(0, 9),
)
def test_a_clock_is_found_rightly_or_not_at_all(week: int, weeks: int, clock: str, missing: float, seed: int) -> None:
    """Also where bars within the weeks are missing: the times are the same instants as on the true clock."""
    start = pd.Timestamp("2018-06-03") + pd.Timedelta(weeks=week)
    wall = walls(str(start.date()), str((start + pd.Timedelta(weeks=weeks)).date()), clock)
    edge = np.abs(np.diff(wall, prepend=wall[0], append=wall[-1])) > np.timedelta64(24, "h")
    wall = wall[(np.random.default_rng(seed).random(len(wall)) >= missing) | edge[:-1] | edge[1:]]
    result = find_clock(wall, HOUR_US, HISTDATA_CLOCKS)
    if result.clock is not None:
        assert np.array_equal(to_utc(wall, result.clock), to_utc(wall, clock), equal_nan=True)
    elif not missing:
        assert result.rivals, "whole weeks fit their own clock"


def test_one_weekend_without_its_last_hour_decides_nothing() -> None:
    """In the week in which only New York is back on winter time, such a file looks like one on Zurich's clock."""
    wall = walls("2018-10-20", "2018-11-10", NEW_YORK)
    last = np.flatnonzero(np.diff(wall) > np.timedelta64(24, "h"))
    assert find_clock(wall, HOUR_US, HISTDATA_CLOCKS).clock == NEW_YORK
    assert find_clock(np.delete(wall, last), HOUR_US, HISTDATA_CLOCKS).clock is None


# ---------------------------------------------------------------------------------------------- displaced weeks


@pytest.mark.parametrize(
    ("zone", "hours"), [("Europe/Athens", 2), ("Europe/Berlin", 1), ("America/New_York", -5), ("Asia/Tokyo", 9)]
)
def test_a_week_of_another_zone_is_displaced_by_whole_hours(zone: str, hours: int) -> None:
    weekends = find_weekends(walls("2024-01-01", "2024-02-25", zone), HOUR_US)
    assert displacement(weekends)[0] == hours
    assert zone in fitting_zones(weekends)
    assert displacement(weekends, zone) == (0, 0)


@pytest.mark.parametrize("start", ["2024-01-01", "2024-06-01"])
@pytest.mark.parametrize("timeframe", ["1m", "15m", "1h"])
def test_the_markets_own_week_is_not(start: str, timeframe: str) -> None:
    wall = walls(start, str(pd.Timestamp(start) + pd.Timedelta(days=40))[:10], "UTC", timeframe)
    assert doubt_zone(wall, TIMEFRAMES[timeframe].microseconds).settled
    assert not doubt_zone(wall, TIMEFRAMES[timeframe].microseconds).hours


def odd_bars(opens: pd.DatetimeIndex) -> pd.DatetimeIndex:
    """Some quotes after each week's end."""
    return opens.append(market("2024-01-01", "2024-03-01")[119::120] + pd.Timedelta(hours=1)).sort_values()


@pytest.mark.parametrize(
    ("change", "why"),
    [
        (lambda t: t[(t.dayofweek != 4) | (t.hour < 18)], "the week ends early, as before a holiday"),
        (lambda t: t[(t.dayofweek != 6)], "no bar of a Sunday"),
        (odd_bars, "some quotes after the end"),
        (lambda t: pd.date_range(t[0], t[-1], freq="h"), "no weekend at all"),
        (lambda t: t[:60], "less than a week"),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_what_is_no_pattern_raises_no_doubt(change: Callable[[Any], Any], why: str) -> None:
    opens = change(market("2024-01-01", "2024-03-01"))
    assert doubt_zone(opens.tz_localize(None).to_numpy(dtype="datetime64[us]"), HOUR_US).hours == 0, why


def test_the_zone_is_asked_about_where_nobody_stated_it(read: Read) -> None:
    head = "time,open,high,low,close\n"
    wall = walls("2024-05-01", "2024-06-20", "Europe/Athens")
    text = head + text_of(wall, "%Y-%m-%d %H:%M", ",1.1,1.2,1.0,1.15")
    question = read(text).notes.zone_question
    assert question.startswith("7 of its 7 weekends begin and end 3 hours late")
    assert "Use --tz Europe/Athens, or --tz UTC" in question
    for tz in ("Europe/Athens", "UTC"):  # an answer is taken, and a strange one is said to be strange
        notes = read(text, tz=tz).notes
        assert (notes.zone_question, bool(notes.zone_hint)) == ("", tz == "UTC")
    stated = read(head + text_of(wall, "%Y-%m-%dT%H:%MZ", ",1.1,1.2,1.0,1.15")).notes
    assert (stated.zone_question, bool(stated.zone_hint)) == ("", True)


def test_the_clock_of_a_brokers_own_symbol_is_proposed_first(read: Read) -> None:
    opens = market("2014-01-01", "2017-01-01")
    berlin, athens = on_clock(opens, "Europe/Berlin"), on_clock(opens, "Europe/Athens")
    wall = pd.DatetimeIndex(np.where(opens < pd.Timestamp("2014-11-22 22:00", tz="UTC"), berlin, athens))
    text = "time,open,high,low,close\n" + text_of(wall, "%Y-%m-%d %H:%M", ",1.1,1.2,1.0,1.15")
    question = read(text, symbol_name="AUD/USD.MT").notes.zone_question
    assert "Use --tz Europe/Berlin,2014-11-23=Europe/Athens" in question


def test_a_closed_markets_flat_bars_are_no_hint(read: Read) -> None:
    opens = pd.date_range("2024-05-01", "2024-06-20", freq="h", tz="UTC")
    trading = opens.isin(market("2024-05-01", "2024-06-20"))
    rows = "".join(
        f"{time:%Y-%m-%d %H:%M},1.1,{1.2 if moved else 1.1},1.1,1.1,0\n"
        for time, moved in zip(opens, trading, strict=True)
    )
    notes = read("time,open,high,low,close,volume\n" + rows).notes
    assert (notes.zone_question, notes.zone_hint) == ("", "")


def stock(days: int, zone: str, timeframe: str = "30m", *, hours: tuple[int, int] = (0, 0)) -> str:
    """A file of AAPL on a zone's clock, of more hours before and after trading if need be."""
    start = 1_709_251_200_000_000  # 2024-03-01, before the clocks change
    frame = TIMEFRAMES[timeframe]
    opens = expected_opens(SYMBOLS["AAPL"].session, frame, start, start + days * 24 * HOUR_US)
    extra = [opens + hour * HOUR_US for hour in range(-hours[0], hours[1] + 1)]
    times = pd.DatetimeIndex(np.unique(np.concatenate(extra)).view("datetime64[us]")).tz_localize("UTC")
    return "time,open,high,low,close\n" + text_of(on_clock(times, zone), "%Y-%m-%d %H:%M", ",10,12,10,11")


@pytest.mark.parametrize("timeframe", ["5m", "30m", "1h"])
def test_the_days_of_an_exchange_show_the_zone_too(read: Read, timeframe: str) -> None:
    about = {"symbol_name": "AAPL", "timeframe_name": timeframe}
    notes = read(stock(30, "America/New_York", timeframe), **about).notes
    assert "nights begin and end 4 hours early" in notes.zone_question
    assert "Use --tz America/New_York" in notes.zone_question
    assert read(stock(30, "UTC", timeframe), **about).notes.zone_question == ""


@pytest.mark.parametrize("hours", [(5, 4), (0, 4), (5, 0), (1, 1)])
def test_extended_hours_are_no_other_zone(read: Read, hours: tuple[int, int]) -> None:
    text = stock(30, "UTC", hours=hours)
    assert read(text, symbol_name="AAPL", timeframe_name="30m").notes.zone_question == ""


def test_a_calendar_that_does_not_know_the_years_says_nothing() -> None:
    shanghai = Session(name="shanghai", kind="exchange", timezone="Asia/Shanghai", calendar="XSHG")
    times = pd.date_range("2090-03-01", "2090-04-01", freq="30min").to_numpy(dtype="datetime64[us]")
    assert doubt_zone_of_days(times, TIMEFRAMES["30m"], shanghai) == ZoneDoubt()


def test_metals_begin_an_hour_later_on_any_clock(read: Read) -> None:
    opens = market("2024-01-01", "2024-03-01")
    opens = opens[(opens.tz_convert("America/New_York").hour != 17)]
    head = "time,open,high,low,close\n"
    for zone, question in (("UTC", ""), ("Europe/Athens", "Use --tz Europe/Athens")):
        text = head + text_of(on_clock(opens, zone), "%Y-%m-%d %H:%M", ",2000,2010,1990,2005")
        assert question in read(text, symbol_name="XAU/USD").notes.zone_question
        assert bool(read(text, symbol_name="XAU/USD").notes.zone_question) == bool(question)


def test_a_market_that_never_rests_has_no_week(read: Read) -> None:
    wall = walls("2024-05-01", "2024-06-20", "Europe/Athens")
    text = "time,open,high,low,close\n" + text_of(wall, "%Y-%m-%d %H:%M", ",10,12,10,11")
    assert read(text, symbol_name="BTC/USD").notes.zone_question == ""


MT5 = "<DATE>\t<TIME>\t<OPEN>\t<HIGH>\t<LOW>\t<CLOSE>\t<TICKVOL>\t<VOL>\t<SPREAD>\n"
MT5_BAR = "\t1.1\t1.2\t1.0\t1.15\t9\t0\t5"


def test_metatraders_clock_is_asked_about_unless_the_week_shows_it(read: Read) -> None:
    short = MT5 + text_of(walls("2024-05-07", "2024-05-08", "UTC"), "%Y.%m.%d\t%H:%M:%S", MT5_BAR)
    assert "--tz Europe/Athens" in read(short).notes.zone_question
    assert read(short, tz="UTC").notes.zone_question == ""
    weeks = MT5 + text_of(walls("2024-05-01", "2024-05-28", "UTC"), "%Y.%m.%d\t%H:%M:%S", MT5_BAR)
    assert read(weeks).notes.zone_question == ""
