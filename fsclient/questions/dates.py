"""Callers' dates, in all the forms that they come in, as moments."""

from __future__ import annotations

import pandas as pd

from feature_repo.moments import When, parse_moment
from fsclient.errors import InvalidRequestError

__all__ = ["When", "moment"]


def moment(value: When, what: str, *, end: bool = False) -> pd.Timestamp:
    """A caller's date as ``feature_repo.moments.parse_moment`` reads it.

    Raises:
        InvalidRequestError: it is none; the message names ``what``.
    """
    try:
        return parse_moment(value, end=end)
    except ValueError as error:
        raise InvalidRequestError(f"{what} {error}") from None
