"""Moments as they are stored, whole microseconds since 1970 in UTC, and as they are given out."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

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
