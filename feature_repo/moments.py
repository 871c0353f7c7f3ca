"""Moments: as callers write them, as they are stored (whole microseconds since 1970 in UTC), and as they return."""

from __future__ import annotations

import re
from datetime import UTC, date, datetime, timedelta
from typing import TYPE_CHECKING, TypeAlias

import numpy as np

if TYPE_CHECKING:
    import pandas as pd

When: TypeAlias = "str | datetime | date | pd.Timestamp | np.datetime64"
"""A date or time in any of the forms that callers have it in."""

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_MICROSECOND = timedelta(microseconds=1)


def to_us(moment: datetime) -> int:
    """An aware datetime as microseconds, exactly.

    Raises:
        ValueError: a naive datetime.
    """
    if moment.tzinfo is None:
        raise ValueError(f"{moment} has no time zone; moments are UTC, as datetime.now(UTC)")
    return (moment - _EPOCH) // _MICROSECOND


def to_datetime(us: int) -> datetime:
    """Microseconds as an aware datetime in UTC, exactly."""
    return _EPOCH + us * _MICROSECOND


_DATE = re.compile(r"\s*(\d{4}([-/.])\d{1,2}\2\d{1,2}|\d{8})(?!\d)\s*", re.ASCII)
_FIRST_YEAR, _LAST_YEAR = 1678, 2261  # what nanoseconds since 1970 can hold, which pandas may count in


def parse_moment(value: When, *, end: bool = False) -> pd.Timestamp:
    """A date or time as a UTC timestamp in whole microseconds: the one reading of dates of client and commands.

    A naive time is UTC. A date alone is its first moment; as an ``end`` it is its last, so that an inclusive end means
    that whole day. Never guessed: ``01/02/2018`` could be two days, and ``now`` is another moment each time.

    Args:
        value: ``2024-01-31``, ``2024/1/31``, ``20240131``, each with or without an ISO time; or a date, datetime,
            pandas Timestamp or NumPy datetime64.

    Raises:
        ValueError: it is no date, names no day of the calendar, or lies outside of the years 1678 to 2261.
    """
    import pandas as pd

    day_alone = isinstance(value, date) and not isinstance(value, datetime)
    try:
        if isinstance(value, str):
            day = _DATE.match(value)
            if day is None:
                raise ValueError
            day_alone = day.end() == len(value)
        elif not isinstance(value, date | np.datetime64):
            raise TypeError
        moment = pd.Timestamp(value)
        moment = moment.tz_localize("UTC") if moment.tzinfo is None else moment.tz_convert("UTC")
        if not _FIRST_YEAR <= moment.year <= _LAST_YEAR:
            raise ValueError
        moment = moment.as_unit("us")
        return moment + pd.Timedelta(days=1) - pd.Timedelta(microseconds=1) if end and day_alone else moment
    except (ValueError, TypeError, OverflowError):
        raise ValueError(
            f"{value!r} is no date from {_FIRST_YEAR} to {_LAST_YEAR}; give YYYY-MM-DD, an ISO time, or a datetime"
        ) from None
