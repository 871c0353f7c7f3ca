"""Callers' dates, in all the forms that they come in, as moments."""

from __future__ import annotations

import re
from datetime import date, datetime
from typing import TypeAlias

import numpy as np
import pandas as pd

from fsclient.errors import InvalidRequestError

When: TypeAlias = str | datetime | date | pd.Timestamp | np.datetime64

_DATE = re.compile(r"\s*(\d{4}([-/.])\d{1,2}\2\d{1,2}|\d{8})(?!\d)\s*", re.ASCII)
_FIRST, _LAST = pd.Timestamp("1678-01-01", tz="UTC"), pd.Timestamp("2262-01-01", tz="UTC")
_DAY_LESS_1_US = pd.Timedelta(days=1) - pd.Timedelta(microseconds=1)


def moment(value: When, what: str, *, end: bool = False) -> pd.Timestamp:
    """A caller's date as a UTC timestamp in whole microseconds: naive means UTC, an end date alone the whole day.

    Raises:
        InvalidRequestError: it is no date, names no day of the calendar, or lies outside of the years 1678 to 2261.
    """
    day_alone = isinstance(value, date) and not isinstance(value, datetime)
    try:
        if isinstance(value, str):
            found = _DATE.match(value)  # never guessed: 01/02/2018 is two days, and "now" is another each time
            if found is None:
                raise ValueError
            day_alone = found.end() == len(value)
        elif not isinstance(value, date | np.datetime64):
            raise TypeError
        stamp = pd.Timestamp(value)
        stamp = stamp.tz_localize("UTC") if stamp.tzinfo is None else stamp.tz_convert("UTC")
        if not _FIRST <= stamp < _LAST:
            raise ValueError
        stamp = stamp.as_unit("us")
        return stamp + _DAY_LESS_1_US if end and day_alone else stamp
    except (ValueError, TypeError, OverflowError):
        raise InvalidRequestError(
            f"{what} {value!r} is no date from 1678 to 2261; give YYYY-MM-DD, an ISO time, or a datetime"
        ) from None
