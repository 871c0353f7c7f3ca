"""Times in all their spellings. A time that could be two instants, or none, is never guessed."""

import contextlib
from datetime import UTC, datetime, timedelta, timezone
from zoneinfo import ZoneInfo

import pandas as pd
import pyarrow as pa
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from flows.sources import SourceError, SourceOptions
from flows.sources.error import Unreadable
from flows.sources.times import is_time, read_times
from flows.sources.zones import declared_zone

NINE = "2019-10-17 09:00:00"


def instants(*texts: str | None, zone: str = "UTC") -> list[str]:
    times = read_times([pa.chunked_array([pa.array(texts, pa.string())])], zone)
    return [str(time).replace("T", " ").removesuffix(".000000") for time in times.instants]


@pytest.mark.parametrize(
    "text",
    [
        "2019-10-17 09:00:00",
        "2019-10-17T09:00",
        "2019-10-17 9:00",
        "2019-10-17 09",
        "2019-10-17T09:00:00Z",
        "2019-10-17 09:00:00 UTC",
        "2019-10-17 09:00:00+00:00",
        "2019-10-17T11:00:00+02:00",
        "2019-10-17 04:00:00-0500",
        "2019-10-17 09-AM",
        "2019-10-17 09:00 AM",
        "2019-10-17 9:00:00am",
        "2019-10-17 09:00:00.000000",
        "2019/10/17 09:00",
        "2019.10.17 09:00",
        "17.10.2019 09:00:00.000",
        "17.10.2019 10:00:00.000 GMT+0100",
        "17/10/2019 09:00",
        "10/17/2019 09:00",
        "20191017 090000",
        "20191017T090000Z",
        "20191017090000",
        "1571302800",
        "1571302800000",
        "1571302800000000",
        "1571302800000000000",
        "1571302800.0",
        "  2019-10-17 09:00  ",
    ],
)
def test_spellings_of_one_instant(text):
    # Alone, where a whole column may take a fast path, and beside one of another kind, where it cannot.
    assert instants(text) == [NINE]
    assert instants("2001-02-03", text) == ["2001-02-03 00:00:00", NINE]
    assert instants("2001-02-03T04:05:06Z", text) == ["2001-02-03 04:05:06", NINE]


def test_noon_and_midnight():
    assert instants("2019-10-17 12-AM", "2019-10-17 12-PM", "2019-10-17 01-PM") == [
        "2019-10-17 00:00:00",
        "2019-10-17 12:00:00",
        "2019-10-17 13:00:00",
    ]


def test_dates_alone_and_fractions():
    assert instants("2019-10-17", "20191017", "2019-10-17 09:00:00.25", "2019-10-17T09:00:00.123456789Z") == [
        "2019-10-17 00:00:00",
        "2019-10-17 00:00:00",
        "2019-10-17 09:00:00.250000",
        "2019-10-17 09:00:00.123456",
    ]


@pytest.mark.parametrize(
    "text",
    [
        "soon",
        "2019-02-30",
        "2019-13-01",
        "31.02.2019",
        "13/13/2019",
        "0001-01-01",
        "9999-01-01",
        "2019-10-17 24:00",
        "2019-10-17 09:60",
        "2019-10-17 13-PM",
        "2019-10-17 09:00 CEST",
        "2019-10-17 09:00+15:00",
        "10:00",
        "1",
        "123456789",
        "99999999999999999999",
        "-1571302800",
        "1.5713028e9 s",
        "201910170900123",
        "٢٠١٩-10-17",
    ],
)
def test_what_is_no_time_is_refused_with_its_row(text):
    with pytest.raises(Unreadable) as caught:
        instants("2019-10-17 09:00", None, text, "soon")
    assert (caught.value.row, caught.value.text) == (2, text)
    assert not is_time(text)


@settings(max_examples=200, deadline=None)
@given(
    # Not the years to come: two copies of the zone database may differ on them.
    st.datetimes(datetime(1981, 1, 1), datetime(2024, 1, 1)),  # noqa: DTZ001
    st.sampled_from(["America/New_York", "Europe/Berlin", "Australia/Lord_Howe", "Asia/Tokyo", "Africa/Casablanca"]),
)
@example(datetime(2019, 10, 27, 0, 30), "Europe/Berlin")  # noqa: DTZ001
@example(datetime(2019, 10, 27, 1, 30), "Europe/Berlin")  # noqa: DTZ001
def test_a_local_time_is_read_right_or_not_at_all(moment, zone):
    local = moment.replace(tzinfo=UTC, microsecond=0).astimezone(ZoneInfo(zone))
    wall = local.replace(tzinfo=None)
    times = read_times([pa.chunked_array([[wall.isoformat(" ")]])], zone)
    twice = local.replace(fold=0).utcoffset() != local.replace(fold=1).utcoffset()
    if twice:
        assert pd.isna(times.instants[0])
        assert times.reasons == {0: f"{wall} happened twice in {zone}"}
    else:
        assert pd.Timestamp(times.instants[0], tz="UTC") == local.astimezone(UTC)
    stated = read_times([pa.chunked_array([[local.isoformat()]])], "Asia/Tokyo")
    assert pd.Timestamp(stated.instants[0], tz="UTC") == local.astimezone(UTC)


@settings(max_examples=100, deadline=None)
@given(st.datetimes(datetime(1981, 1, 1), datetime(2099, 1, 1)), st.integers(-14 * 60, 14 * 60))  # noqa: DTZ001
def test_the_general_reader_agrees_with_the_fast_one(moment, offset_minutes):
    text = moment.replace(tzinfo=timezone(timedelta(minutes=offset_minutes))).isoformat()
    alone = instants(text)
    assert instants(text, "17.10.2019")[:1] == alone
    assert pd.Timestamp(alone[0], tz="UTC") == pd.Timestamp(text)


@settings(max_examples=200, deadline=None)
@given(st.text(alphabet="0123456789-/.: TZ+APM", max_size=24) | st.text(max_size=12))
def test_any_text_is_a_time_or_refused(text):
    with contextlib.suppress(Unreadable):
        instants(text)


def test_a_skipped_hour_is_rejected_with_its_reason(read):
    rows = "".join(f"2019-03-31 0{h}:30,1,2,1,2\n" for h in (1, 2, 3))
    source = read("time,o,h,l,c\n" + rows, tz="Europe/Berlin", timeframe_name="30m")
    assert source.frame["open_time"].dt.strftime("%H:%M").tolist() == ["00:30", "01:30"]
    rejected = source.rejected.iloc[0]
    assert rejected[["file", "line", "raw", "rule"]].tolist() == [
        "bars.csv",
        3,
        "2019-03-31 02:30,1,2,1,2",
        "unreadable_value",
    ]
    assert rejected["detail"] == "2019-03-31 02:30:00 did not exist in Europe/Berlin"
    assert pd.isna(rejected["open_time"])


def test_both_hours_that_happen_twice_are_rejected(read):
    rows = "".join(f"2019-10-27 {h}:30,1,2,1,{c}\n" for c, h in enumerate(("01", "02", "02", "03")))
    source = read("time,o,h,l,c\n" + rows, tz="Europe/Berlin")
    assert source.frame["close"].tolist() == [0, 3]
    assert source.rejected["line"].tolist() == [3, 4]
    assert set(source.rejected["detail"]) == {"2019-10-27 02:30:00 happened twice in Europe/Berlin"}


def test_a_row_without_a_time_is_rejected(read):
    source = read("time,o,h,l,c\n,1,2,1,2\n2020-01-01,1,2,1,2\nNaN,1,2,1,2\n")
    assert source.rejected["detail"].tolist() == ["the row has no time"] * 2
    assert source.rejected["line"].tolist() == [2, 4]
    assert source.frame["line"].tolist() == [3]


def test_day_and_month_follow_the_dates_that_show_them():
    assert instants("02/03/2020", "13/03/2020") == ["2020-03-02 00:00:00", "2020-03-13 00:00:00"]
    assert instants("02/03/2020", "03/13/2020") == ["2020-02-03 00:00:00", "2020-03-13 00:00:00"]
    assert instants("02-03-2020 01:00", "03-13-2020 01:00")[0] == "2020-02-03 01:00:00"
    assert instants("02.03.2020", "02/13/2020")[0] == "2020-03-02 00:00:00"


def test_a_date_that_could_be_either_way_is_rejected_where_the_others_contradict_each_other(read):
    dates = ("02/03/2020", "13/03/2020", "03/13/2020")
    source = read("time,o,h,l,c\n" + "".join(f"{date},1,2,1,{n}\n" for n, date in enumerate(dates)))
    assert source.rejected["detail"].tolist() == ["day and month of 02/03/2020 could be either way"]
    assert len(source.frame) == len(dates) - 1


@pytest.mark.parametrize("head", ["time,o,h,l,c\n", ""])
def test_a_file_whose_every_date_could_be_either_way_asks_which(read, head):
    text = head + "04/04/2020,1,2,1,2\n02/03/2020,1,2,1,2\n"
    with pytest.raises(SourceError) as caught:
        read(text)
    assert f"line {2 + bool(head)}: every date could be day or month first, as '02/03/2020'" in str(caught.value)
    assert "Use --dayfirst" in str(caught.value)
    for day_first, date in ((True, "2020-03-02"), (False, "2020-02-03")):
        assert str(read(text, day_first=day_first).frame["open_time"][0])[:10] == date


def test_a_stated_order_of_day_and_month_outweighs_dots_and_holds_for_every_row(read):
    row = "02.03.2020 10:00,1,2,1,2\n"
    assert read("time,o,h,l,c\n" + row).frame["open_time"].dt.month[0] == 3
    assert read("time,o,h,l,c\n" + row, day_first=False).frame["open_time"].dt.month[0] == 2
    with pytest.raises(SourceError, match="'03/13/2020', not a time"):
        read("time,o,h,l,c\n02/03/2020,1,2,1,2\n03/13/2020,1,2,1,2\n", day_first=True)


def test_date_and_time_in_two_columns(read):
    source = read("<DATE>\t<TIME>\t<OPEN>\t<HIGH>\t<LOW>\t<CLOSE>\n2020.01.02\t03:00:00\t1\t2\t1\t2\n")
    assert source.frame["open_time"][0] == pd.Timestamp("2020-01-02 03:00", tz="UTC")
    source = read("day,hour,o,h,l,c\n2020-01-02,3:00 PM,1,2,1,2\n", columns={"date": "day", "time": "hour"})
    assert source.frame["open_time"][0] == pd.Timestamp("2020-01-02 15:00", tz="UTC")
    with pytest.raises(SourceError, match=r"line 2: date and time is '2020-01-02 late', not a time"):
        read("date,time,o,h,l,c\n2020-01-02,late,1,2,1,2\n")


def test_an_offset_in_the_text_outweighs_the_zone_asked_for(read):
    text = "time,o,h,l,c\n2020-07-01T12:00:00Z,1,2,1,2\n2020-07-01 12:00,1,2,1,2\n1593604800,1,2,1,1\n"
    source = read(text, tz="America/New_York")
    assert source.frame["open_time"].dt.hour.tolist() == [12, 16, 16], "the zone is that of counts too"
    assert source.notes.detected["time_zone"] == "America/New_York (as stated), stated in some times"


def test_where_the_zone_comes_from(read):
    row = "2020-07-01 12:00,1,2,1,2\n"
    for head, zone, hour in (
        ("time,o,h,l,c\n", "UTC (assumed)", 12),
        ("Gmt time,o,h,l,c\n", "UTC (declared in the file)", 12),
        ("Time zone: America/New_York\ntime,o,h,l,c\n", "America/New_York (declared in the file)", 16),
    ):
        source = read(head + row)
        assert (source.notes.detected["time_zone"], source.frame["open_time"].dt.hour[0]) == (zone, hour)
    assert read("Gmt time,o,h,l,c\n" + row, tz="Asia/Tokyo").frame["open_time"].dt.hour[0] == 3


def test_only_a_zone_is_taken_for_a_declaration():
    assert declared_zone(["date"], ["Timestamps are EST timezone,https://example.com"]) == "EST"
    assert declared_zone(["date"], ["in the broker's time zone", "tz: nowhere", "Cuba, sugar prices"]) is None
    assert declared_zone(["timestamp_utc"], []) == "UTC"
    assert declared_zone(["outcome"], []) is None


@pytest.mark.parametrize(
    ("name", "near"),
    [("Europe/Lodon", "Europe/London"), ("utc", "UTC"), ("new york", "America/New_York"), ("Berlin", "Europe/Berlin")],
)
def test_an_unknown_zone_is_named_with_the_nearest(name, near):
    with pytest.raises(SourceError, match=rf"unknown time zone '{name}'\. Did you mean .*{near}"):
        SourceOptions(tz=name)


@pytest.mark.parametrize("name", ["", "../../etc/passwd", "localtime", "UTC+2", "a\nb"])
def test_what_is_no_zone_is_refused(name):
    with pytest.raises(SourceError, match="unknown time zone"):
        SourceOptions(tz=name)
