"""Clocks whose zone changed at a date, and those that were never set."""

from __future__ import annotations

from collections.abc import Callable
from datetime import date
from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from feature_repo.catalog import SESSIONS, timeframe
from feature_repo.sessions import expected_opens
from flows.compute.derive import derive_bars
from flows.sources import SourceBars, SourceError, SourceOptions
from flows.sources.times import read_times
from flows.sources.zones import clock

Read = Callable[..., SourceBars]
BROKER = SESSIONS["fx_broker"]
MOVED = "Europe/Berlin,2014-11-23=Europe/Athens"


def instants(zone: str, *texts: str) -> tuple[list[str], dict[int, str]]:
    times = read_times([pa.chunked_array([pa.array(texts, pa.string())])], zone)
    return [str(t)[:16] for t in times.instants], dict(times.reasons)


def test_each_date_is_read_in_its_zone() -> None:
    texts = ("2014-07-01 12:00", "2014-11-21 22:00", "2014-11-24 00:00", "2015-07-01 12:00")
    assert instants(MOVED, *texts) == (
        ["2014-07-01T10:00", "2014-11-21T21:00", "2014-11-23T22:00", "2015-07-01T09:00"],
        {},
    )


def test_the_hour_that_a_move_to_the_east_skips_and_one_to_the_west_repeats() -> None:
    times, reasons = instants(MOVED, "2014-11-22 22:59", "2014-11-22 23:00", "2014-11-23 00:00")
    assert times == ["2014-11-22T21:59", "NaT", "2014-11-22T22:00"]
    assert reasons == {1: f"2014-11-22 23:00:00 did not exist in {MOVED}"}
    west = "Europe/Athens,2014-11-23=Europe/Berlin"
    times, reasons = instants(west, "2014-11-22 23:59", "2014-11-23 00:00", "2014-11-23 00:59", "2014-11-23 01:00")
    assert times == ["2014-11-22T21:59", "NaT", "NaT", "2014-11-23T00:00"]
    assert reasons[1] == f"2014-11-23 00:00:00 happened twice in {west}"


def test_summer_time_is_kept_beside_the_move() -> None:
    _, reasons = instants(MOVED, "2014-03-30 02:30", "2014-10-26 02:30", "2015-03-29 03:30", "2015-10-25 03:30")
    assert [reason.split()[2] for reason in reasons.values()] == ["did", "happened", "did", "happened"]


@settings(max_examples=200, deadline=None)
@given(
    moment=st.integers(1_300_000_000, 1_600_000_000),
    zones=st.permutations(["Europe/Berlin", "Europe/Athens", "America/New_York", "Asia/Tokyo", "UTC"]),
    days=st.lists(st.dates(date(2012, 1, 1), date(2020, 1, 1)), unique=True, max_size=3),
)
def test_a_moment_on_a_moved_clock_is_read_right_or_not_at_all(moment: int, zones: list[str], days: list[date]) -> None:
    text = ",".join(
        (zones[0], *(f"{day}={zone}" for day, zone in zip(sorted(map(str, days)), zones[1:], strict=False)))
    )
    try:
        periods = clock(text)
    except SourceError:
        return  # two moves a day apart, across the date line
    now = pd.Timestamp(moment, unit="s", tz="UTC")
    (zone,) = [p.zone for p in periods if p.start <= now.tz_localize(None).to_datetime64() < p.end]
    wall = now.tz_convert(zone).tz_localize(None)
    (time,), reasons = instants(text, wall.isoformat(" "))
    assert time == now.strftime("%Y-%m-%dT%H:%M") or reasons[0].startswith(f"{wall} happened twice")


COUNTS = (1_720_396_800, 1_720_400_400)  # 00:00 and 01:00 of 2024-07-08 on whatever clock


@pytest.mark.parametrize("unit", [1, 1000, 1_000_000])
def test_counts_are_on_the_clock_that_is_stated(read: Read, unit: int) -> None:
    text = "time,open,high,low,close\n" + "".join(f"{count * unit},1.1,1.2,1.0,1.15\n" for count in COUNTS)
    assert read(text).frame["open_time"].dt.strftime("%d %H").tolist() == ["08 00", "08 01"]
    source = read(text, tz="Europe/Athens")
    assert source.frame["open_time"].dt.strftime("%d %H").tolist() == ["07 21", "07 22"]
    assert source.notes.detected["time_zone"] == "Europe/Athens (as stated)"


@pytest.mark.parametrize("stamp", ["count", "naive time"])
def test_what_metatraders_python_package_counts_is_the_brokers_clock(read: Read, tmp_path: Path, stamp: str) -> None:
    frame = pd.DataFrame({"time": COUNTS, "open": 1.1, "high": 1.2, "low": 1.0, "close": 1.15, "tick_volume": 7})
    frame = frame.assign(spread=2, real_volume=0)
    if stamp == "naive time":
        frame["time"] = pd.to_datetime(frame["time"], unit="s")
    frame.to_parquet(tmp_path / "rates")
    for content in (frame.to_csv(index=False), (tmp_path / "rates").read_bytes()):
        assert "MetaTrader broker" in read(content).notes.zone_question
        source = read(content, tz="Europe/Athens")
        assert source.frame["open_time"].dt.hour.tolist() == [21, 22]
        assert source.notes.zone_question == ""


def test_a_clock_beside_a_zone() -> None:
    times, _ = instants("Europe/Zurich-6h", "2019-01-15 12:00", "2019-07-15 12:00", "2019-03-31 00:00")
    assert times == ["2019-01-15T17:00", "2019-07-15T16:00", "2019-03-31T04:00"]
    assert instants("UTC+3h", "2019-01-15 12:00")[0] == ["2019-01-15T09:00"]
    assert [period.zone for period in clock("America/New_York,2018-12-16=Europe/Zurich-6h")][1] == "Europe/Zurich-6h"


@pytest.mark.parametrize(
    ("text", "why"),
    [
        ("Europe/Zurich-15h", "unknown time zone"),
        ("Europe/Berlin,2014-11-23", "not a change of zone"),
        ("Europe/Berlin,2014-13-23=Europe/Athens", "not a change of zone"),
        ("Europe/Berlin,2014-11-23=Europe/Athen", "unknown time zone 'Europe/Athen'. Did you mean Europe/Athens"),
        ("Europe/Berlin,2014-11-23=EET,2013-01-01=UTC", "do not ascend"),
        ("Europe/Berlin,", "not a change of zone"),
        (",2014-11-23=EET", "unknown time zone ''"),
    ],
)
def test_what_is_no_clock(text: str, why: str) -> None:
    with pytest.raises(SourceError) as caught:
        SourceOptions(tz=text)
    assert why in str(caught.value)


def test_a_session_and_a_source_mean_the_same_clock() -> None:
    assert BROKER.clock == MOVED
    assert len(clock(BROKER.clock)) == 2


def test_a_brokers_long_bars_are_those_made_of_its_hours(read: Read) -> None:
    """The broker of the catalog's AUD/USD.MT: hours in points on its clock, resampled on that clock by pandas."""
    span = (pd.Timestamp("2014-10-01", tz="UTC"), pd.Timestamp("2015-04-20", tz="UTC"))
    opens = expected_opens(BROKER, timeframe("1h"), *(int(t.timestamp()) * 1_000_000 for t in span))
    utc = pd.DatetimeIndex(opens.view("datetime64[us]")).tz_localize("UTC")
    berlin, athens = (utc.tz_convert(zone).tz_localize(None) for zone in ("Europe/Berlin", "Europe/Athens"))
    wall = pd.DatetimeIndex(np.where(utc < pd.Timestamp("2014-11-22T22:00", tz="UTC"), berlin, athens))
    wall = wall[wall.dayofweek < 5]  # the broker writes no row on a Sunday
    rng = np.random.default_rng(7)
    close = 85_000 + np.cumsum(rng.integers(-40, 41, len(wall)))
    hours = pd.DataFrame({"Date": wall, "open": close + rng.integers(-9, 10, len(wall)), "close": close})
    hours["high"] = hours.max(axis=1, numeric_only=True) + 5
    hours["low"] = hours[["open", "close"]].min(axis=1) - 5
    hours["tick_volume"] = rng.integers(1, 999, len(wall))
    hourly = read(hours.to_csv(index=False), symbol_name="AUD/USD.MT", tz=MOVED)
    assert len(hourly.frame) == len(wall), "no hour of trading is one that the clock skips or repeats"
    rules = {"open": "first", "high": "max", "low": "min", "close": "last", "tick_volume": "sum"}
    for name, rule in (("4h", "4h"), ("1d", "1D")):
        own = hours.set_index("Date").resample(rule).agg(rules).dropna().reset_index()  # type: ignore[arg-type]
        broker = read(own.to_csv(index=False), symbol_name="AUD/USD.MT", timeframe_name=name, tz=MOVED).frame
        derived = derive_bars(hourly.frame, session=BROKER, source=timeframe("1h"), target=timeframe(name))
        columns = ["open_time", "open", "high", "low", "close", "volume"]
        pd.testing.assert_frame_equal(derived[columns], broker[columns][: len(derived)])
        assert len(broker) - len(derived) <= 1, "only the last one may not be closed yet"


@pytest.mark.parametrize(
    ("time", "tf", "accepted"),
    [
        ("1970-01-01 00:00", "1h", False),
        ("1969-12-31 19:00", "1h", False),
        ("1960-05-02 10:00", "1h", False),
        ("1970-01-02 00:00", "1h", True),
        ("1970-01-01", "1d", False),
        ("1969-12-31", "1d", True),
        ("1927-12-30", "1d", True),
        ("1970-01-02", "1d", True),
    ],
)
def test_the_day_zero_of_a_clock_is_no_time_of_a_bar(read: Read, time: str, tf: str, accepted: bool) -> None:
    source = read(f"time,o,h,l,c\n{time},1,2,1,2\n2020-01-06,1,2,1,2\n", timeframe_name=tf)
    assert len(source.frame) == 1 + accepted
    assert source.rejected["rule"].tolist() == ["unreadable_value"] * (not accepted)
    assert source.rejected["detail"].str.endswith("is no time of a bar").all()


def test_the_day_zero_is_known_on_a_local_clock_too(read: Read) -> None:
    for zone in ("Pacific/Kiritimati", "Pacific/Pago_Pago"):
        assert len(read("time,o,h,l,c\n1970-01-01 00:00,1,2,1,2\n", timeframe_name="1d", tz=zone).rejected) == 1
