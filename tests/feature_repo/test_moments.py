"""Dates in all the forms that callers write them in: one reading for client and commands."""

from __future__ import annotations

from datetime import UTC, date, datetime, timedelta, timezone
from typing import Any

import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st

from feature_repo.moments import parse_moment, to_datetime, to_us

JAN_31 = pd.Timestamp("2018-01-31", tz="UTC")
END_OF_JAN_31 = pd.Timestamp("2018-01-31 23:59:59.999999", tz="UTC")


@pytest.mark.parametrize(
    "day",
    ["2018-01-31", " 2018-01-31 ", "20180131", "2018-1-31", "2018/01/31", "2018.01.31", date(2018, 1, 31)],
    ids=str,
)
def test_an_end_date_alone_is_the_whole_day(day: Any) -> None:
    assert parse_moment(day) == JAN_31
    assert parse_moment(day, end=True) == END_OF_JAN_31


@pytest.mark.parametrize(
    "value",
    [
        "2018-01-31T00:00",
        "2018-01-31 00:00:00",
        "2018-01-31T00:00:00Z",
        "2018-01-31 02:00+02:00",
        "20180131T0000",
        datetime(2018, 1, 31),  # noqa: DTZ001  # naive on purpose
        datetime(2018, 1, 31, tzinfo=UTC),
        datetime(2018, 1, 31, 2, tzinfo=timezone(timedelta(hours=2))),
        pd.Timestamp("2018-01-31"),
        pd.Timestamp("2018-01-30 19:00", tz="America/New_York"),
        np.datetime64("2018-01-31"),
    ],
    ids=repr,
)
def test_a_moment_is_itself_and_naive_means_utc(value: Any) -> None:
    for end in (False, True):
        moment = parse_moment(value, end=end)
        assert moment == JAN_31
        assert (str(moment.tzinfo), moment.unit) == ("UTC", "us")


@pytest.mark.parametrize("value", ["", "now", "01/02/2018", "2018-02-30", "1677-12-31", "2262-01-01", None, 20180131])
def test_what_is_no_date_is_named_with_what_to_write(value: Any) -> None:
    with pytest.raises(ValueError, match="is no date from 1678 to 2261; give YYYY-MM-DD") as refused:
        parse_moment(value)
    assert repr(value) in str(refused.value)


@given(st.datetimes(datetime(1680, 1, 1), datetime(2260, 1, 1)))  # noqa: DTZ001
def test_text_datetime_and_timestamp_mean_the_same_moment(value: datetime) -> None:
    assert parse_moment(value.isoformat(sep="T", timespec="microseconds")) == parse_moment(value)
    assert parse_moment(pd.Timestamp(value)) == parse_moment(value.replace(tzinfo=UTC))


@given(st.datetimes(datetime(1, 1, 1), datetime(9999, 12, 31)))  # noqa: DTZ001
def test_microseconds_hold_every_moment_exactly(value: datetime) -> None:
    assert to_datetime(to_us(value.replace(tzinfo=UTC))) == value.replace(tzinfo=UTC)


def test_a_naive_moment_is_refused() -> None:
    with pytest.raises(ValueError, match="no time zone"):
        to_us(datetime(2018, 1, 31))  # noqa: DTZ001
