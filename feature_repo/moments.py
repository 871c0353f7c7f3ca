"""Conversions of moments: from what callers write, to stored microseconds since 1970 in UTC, to aware datetimes."""

from __future__ import annotations

import re
from datetime import UTC, date, datetime, timedelta
from typing import TYPE_CHECKING, TypeAlias

import numpy as np

if TYPE_CHECKING:
    import pandas as pd

When: TypeAlias = "str | datetime | date | pd.Timestamp | np.datetime64"
"""A date or time in any form that callers may pass."""

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
_FIRST_YEAR, _LAST_YEAR = 1678, 2261  # the range of nanoseconds since 1970, which pandas may count in


def parse_moment(value: When, *, end: bool = False) -> pd.Timestamp:
    """Parses a date or time as a UTC timestamp in whole microseconds, for the client and for all commands.

    A naive time is UTC. A date alone is its first moment, and as an ``end`` its last, so that an inclusive end means
    that whole day. Nothing is guessed: ``01/02/2018`` could be either of two days, and ``now`` differs on each call.

    Args:
        value: ``2024-01-31``, ``2024/1/31``, ``20240131``, each with or without an ISO time; or a date, datetime,
            pandas Timestamp or NumPy datetime64.

    Raises:
        ValueError: it is not a date, does not exist in the calendar, or lies outside of the years 1678 to 2261.
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
