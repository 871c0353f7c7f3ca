"""A closed bar on its way into the stream, and its form there: named fields of text, nothing that could be executed."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime

from feature_repo import catalog
from feature_repo.catalog import BAR_FIELDS
from feature_repo.moments import to_us

_KEYS = ("symbol", "timeframe", "open_us", *BAR_FIELDS)
_LONGEST = 2000


class BadEntryError(ValueError):
    """An entry of the stream that is no bar; the message says why.

    Attributes:
        rule: what it breaks, as the quarantine names it: ``unknown_symbol``, ``unknown_timeframe`` or ``unreadable``.
    """

    def __init__(self, rule: str, message: str) -> None:
        super().__init__(message)
        self.rule = rule


@dataclass(frozen=True, slots=True, kw_only=True)
class LiveBar:
    """One closed bar as a source tells it; whether it can be true is the gate's question.

    Attributes:
        open_us: when it opened, microseconds since 1970-01-01 UTC.
        volume: NaN where the source reports none.
    """

    symbol: str
    timeframe: str
    open_us: int
    open: float
    high: float
    low: float
    close: float
    volume: float = math.nan

    @property
    def values(self) -> tuple[float, ...]:
        """Its numbers, in the order of ``BAR_FIELDS``."""
        return self.open, self.high, self.low, self.close, self.volume


def to_fields(bar: LiveBar) -> dict[str, str]:
    """An entry's fields; ``repr`` keeps every bit of a float."""
    numbers = {name: repr(value) for name, value in zip(BAR_FIELDS, bar.values, strict=True)}
    return {"symbol": bar.symbol, "timeframe": bar.timeframe, "open_us": str(bar.open_us), **numbers}


def from_fields(fields: Mapping[bytes, bytes]) -> LiveBar:
    """The bar of an entry.

    Raises:
        BadEntryError: a field is missing, is no number, or names what the catalog does not have.
    """
    try:
        texts = [fields[name.encode()].decode() for name in _KEYS]
        open_us, *numbers = int(texts[2]), *map(float, texts[3:])
    except KeyError as error:
        raise BadEntryError("unreadable", f"the field {error.args[0].decode()} is missing") from None
    except ValueError as error:  # no number, or no UTF-8
        raise BadEntryError("unreadable", str(error)[:200]) from None
    if texts[0] not in catalog.SYMBOLS:
        raise BadEntryError("unknown_symbol", "the catalog has no such symbol")
    if texts[1] not in catalog.TIMEFRAMES:
        raise BadEntryError("unknown_timeframe", f"known: {', '.join(catalog.TIMEFRAMES)}")
    if not _YEARS[0] <= open_us < _YEARS[1]:
        raise BadEntryError("unreadable", "open_us leaves the years 1970 to 2261: it is microseconds since 1970")
    return LiveBar(symbol=texts[0], timeframe=texts[1], open_us=open_us, **dict(zip(BAR_FIELDS, numbers, strict=True)))


_YEARS = 0, 9_214_646_400_000_000


def from_json(text: str | bytes) -> LiveBar:
    """A bar told as JSON: ``symbol``, ``timeframe``, ``open_time`` (ISO 8601 with its offset, or a whole number of
    milliseconds since 1970), ``open``, ``high``, ``low``, ``close`` and, if known, ``volume``; numbers or their text.

    Raises:
        BadEntryError: it is something else. Names are not looked up yet.
    """
    try:
        told = json.loads(text)
        volume = told.get("volume")
        return LiveBar(
            symbol=str(told["symbol"]),
            timeframe=str(told["timeframe"]),
            open_us=_microseconds(told["open_time"]),
            **{name: float(told[name]) for name in BAR_FIELDS[:4]},
            volume=math.nan if volume is None else float(volume),
        )
    except (KeyError, TypeError, ValueError, AttributeError, OverflowError) as error:
        raise BadEntryError("unreadable", f"{type(error).__name__}: {error}"[:200]) from None


def as_text(fields: Mapping[bytes, bytes]) -> str:
    """An entry's fields as JSON for the quarantine, cut where they are too long to keep."""
    told = {_shown(name): _shown(value) for name, value in list(fields.items())[:16]}
    return json.dumps({"entry": told})


def _shown(value: bytes) -> str:
    text = value.decode("utf-8", "backslashreplace")
    return text if len(text) <= _LONGEST else text[:_LONGEST] + "…"


def _microseconds(told: object) -> int:
    if isinstance(told, bool):
        raise TypeError("open_time is no time")
    if isinstance(told, int):
        return told * 1000
    moment = datetime.fromisoformat(str(told))
    if moment.tzinfo is None:
        raise ValueError("open_time names no offset; write it as 2024-06-03T12:00:00Z")
    return to_us(moment)
