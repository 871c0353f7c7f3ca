"""A live bar and its forms: entry of a Redis Stream, JSON message, rows of a bars table.

In the stream a bar is named fields of text, nothing that could be executed.
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime

import numpy as np
import pandas as pd

from feature_repo import catalog
from feature_repo.catalog import BAR_FIELDS
from feature_repo.moments import to_us
from flows.compute.derive import opens_us
from flows.sources.columns import FINISHED, UNFINISHED, key

_KEYS = ("symbol", "timeframe", "open_us", *BAR_FIELDS)
_FIRST_US, _LAST_US = 315_532_800_000_000, 4_102_444_800_000_000  # 1980-01-01, 2100-01-01
_UNITS = (("seconds", 1_000_000), ("milliseconds", 1_000), ("microseconds", 1), ("nanoseconds", 1 / 1_000))
_FLAGS = {"true": True, "false": False, "1": True, "0": False}
_MAX_TEXT = 2000


class BadEntryError(ValueError):
    """An entry of the stream that is not a bar; the message says why.

    Attributes:
        rule: what it breaks, as the quarantine names it: ``unknown_symbol``, ``unknown_timeframe``,
            ``impossible_time`` or ``unreadable``.
    """

    def __init__(self, rule: str, message: str) -> None:
        super().__init__(message)
        self.rule = rule


@dataclass(frozen=True, slots=True, kw_only=True)
class LiveBar:
    """One closed bar as a source reports it; whether it can be true is for the gate to decide.

    Attributes:
        open_us: open time, microseconds since 1970-01-01 UTC.
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


# ------------------------------------------------------------------------------------------ entries of the stream


def to_fields(bar: LiveBar) -> dict[str, str]:
    """An entry's fields; ``repr`` keeps every bit of a float."""
    numbers = {name: repr(value) for name, value in zip(BAR_FIELDS, bar.values, strict=True)}
    return {"symbol": bar.symbol, "timeframe": bar.timeframe, "open_us": str(bar.open_us), **numbers}


def from_fields(fields: Mapping[bytes, bytes]) -> LiveBar:
    """The bar of an entry.

    Raises:
        BadEntryError: a field is missing, is not a number, names something the catalog does not have, or is a time at
            which no bar can have opened; or the source rejected the message itself.
    """
    if b"text" in fields:  # see ``unreadable_fields``
        raise BadEntryError(_shown(fields.get(b"rule", b"unreadable")), _shown(fields.get(b"detail", b"no bar")))
    try:
        texts = [fields[name.encode()].decode() for name in _KEYS]
        open_us, *numbers = int(texts[2]), *map(float, texts[3:])
    except KeyError as error:
        raise BadEntryError("unreadable", f"the field {error.args[0].decode()} is missing") from None
    except ValueError as error:  # not a number, or not UTF-8
        raise BadEntryError("unreadable", str(error)[:200]) from None
    if texts[0] not in catalog.SYMBOLS:
        raise BadEntryError("unknown_symbol", "the catalog has no such symbol")
    if texts[1] not in catalog.TIMEFRAMES:
        raise BadEntryError("unknown_timeframe", f"known: {', '.join(catalog.TIMEFRAMES)}")
    _check_count("open_us", open_us, "microseconds")
    return LiveBar(symbol=texts[0], timeframe=texts[1], open_us=open_us, **dict(zip(BAR_FIELDS, numbers, strict=True)))


def unreadable_fields(text: str, error: BadEntryError) -> dict[str, str]:
    """An entry that carries what a source sent instead of a bar, and why it is not one."""
    return {"text": text[:10_000], "rule": error.rule, "detail": str(error)}


def as_text(fields: Mapping[bytes, bytes]) -> str:
    """An entry's fields as JSON for the quarantine, cut where they are too long to keep."""
    shown = {_shown(name): _shown(value) for name, value in list(fields.items())[:16]}
    return json.dumps({"entry": shown})


def _shown(value: bytes) -> str:
    text = value.decode("utf-8", "backslashreplace")
    return text if len(text) <= _MAX_TEXT else text[:_MAX_TEXT] + "…"


# ------------------------------------------------------------------------------------------------- JSON messages


def from_json(text: str | bytes) -> LiveBar | None:
    """The bar of a JSON message: ``symbol``, ``timeframe``, ``open_time`` (ISO 8601 with its offset, or a whole number
    of milliseconds since 1970), ``open``, ``high``, ``low``, ``close`` and, if known, ``volume``. Numbers may be text.

    Returns:
        None when the message says that its bar is not finished, as with ``"complete": false`` or ``"is_closed": 0``:
        the names of such flags are those of a file's columns.

    Raises:
        BadEntryError: the message is something else. Names are not looked up yet.
    """
    try:
        message = json.loads(text)
        if not _is_finished(message):
            return None
        volume = message.get("volume")
        return LiveBar(
            symbol=str(message["symbol"]),
            timeframe=str(message["timeframe"]),
            open_us=_microseconds(message["open_time"]),
            **{name: float(message[name]) for name in BAR_FIELDS[:4]},
            volume=math.nan if volume is None else float(volume),
        )
    except BadEntryError:
        raise
    except (KeyError, TypeError, ValueError, AttributeError, OverflowError) as error:
        raise BadEntryError("unreadable", f"{type(error).__name__}: {error}"[:200]) from None


def from_milliseconds(open_time: int) -> int:
    """A count of milliseconds since 1970-01-01 UTC as microseconds.

    Raises:
        BadEntryError: it is in another unit, or outside the years 1980 to 2099.
    """
    _check_count("open_time", open_time, "milliseconds")
    return open_time * 1000


def _is_finished(message: Mapping[str, object]) -> bool:
    for name, value in message.items():
        column = key(name)
        if column in FINISHED or column in UNFINISHED:
            flag = _FLAGS.get(str(value).lower())  # None: not a flag, such as the time at which a bar closed
            if flag is not None and flag != (column in FINISHED):
                return False
    return True


def _microseconds(open_time: object) -> int:
    if isinstance(open_time, bool):
        raise TypeError("open_time is not a time")
    if isinstance(open_time, int):
        return from_milliseconds(open_time)
    moment = datetime.fromisoformat(str(open_time))
    if moment.tzinfo is None:
        raise ValueError("open_time has no offset; write it as 2024-06-03T12:00:00Z")
    open_us = to_us(moment)
    if not _FIRST_US <= open_us < _LAST_US:
        raise BadEntryError("impossible_time", f"open_time is {moment.isoformat()}, outside the years 1980 to 2099")
    return open_us


def _check_count(name: str, count: int, unit: str) -> None:
    """Raises: BadEntryError, unless the count is a moment of the years 1980 to 2099 in this unit.

    In those years no count in one unit is a plausible count in another.
    """
    plausible = next((each for each, us in _UNITS if _FIRST_US <= count * us < _LAST_US), None)
    if plausible == unit:
        return
    what = f"a count of {plausible}" if plausible else "outside the years 1980 to 2099"
    raise BadEntryError("impossible_time", f"{name} is {str(count)[:40]}, {what}; {unit} since 1970 are expected")


# -------------------------------------------------------------------------------------------------------- tables


def frame_of(bars: Sequence[LiveBar]) -> pd.DataFrame:
    """Bars as a bars table, in the given order: ``open_time`` datetime64[us, UTC], ``BAR_FIELDS`` float64."""
    opens = np.array([bar.open_us for bar in bars], np.int64)
    frame = pd.DataFrame([bar.values for bar in bars], columns=list(BAR_FIELDS), dtype=np.float64)
    frame.insert(0, "open_time", pd.DatetimeIndex(opens.view("datetime64[us]")).tz_localize("UTC"))
    return frame


def bars_of(frame: pd.DataFrame, symbol: str, timeframe: str) -> list[LiveBar]:
    """A bars table as live bars."""
    rows = frame[list(BAR_FIELDS)].to_numpy().tolist()
    return [
        LiveBar(symbol=symbol, timeframe=timeframe, open_us=us, **dict(zip(BAR_FIELDS, row, strict=True)))
        for us, row in zip(opens_us(frame).tolist(), rows, strict=True)
    ]
