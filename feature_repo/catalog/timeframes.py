"""The lengths of bars."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType

from feature_repo.catalog.errors import CatalogError

_MINUTE_S, _HOUR_S, _DAY_S = 60, 3600, 86_400
_NAME = re.compile(r"([1-9][0-9]{0,5})([smhdw])", re.ASCII)
_UNITS_S = {"s": 1, "m": _MINUTE_S, "h": _HOUR_S, "d": _DAY_S, "w": 7 * _DAY_S}


@dataclass(frozen=True, slots=True, kw_only=True)
class Timeframe:
    """A bar length. Lengths up to an hour are cut from the UTC hour, longer ones from the session's day start.

    So bars up to an hour must fill an hour, and longer ones a day: of others the last one before each cut would be
    shorter than its name, and those of several days would have no day to begin on.

    Attributes:
        name: a number and a unit, as ``15m``, ``4h`` or ``1d``.

    Raises:
        ValueError: bars of this length cannot be right, or the name says another length.
    """

    name: str
    seconds: int

    def __post_init__(self) -> None:
        match = _NAME.fullmatch(self.name)
        if match is None or int(match[1]) * _UNITS_S[match[2]] != self.seconds:
            raise ValueError(
                f"catalog: timeframe {self.name!r} of {self.seconds} s: a name is its length, as 15m, 4h or 1d"
            )
        what = f"catalog: timeframe {self.name!r} cannot be:"
        if self.seconds % _MINUTE_S:
            raise ValueError(f"{what} bars are of whole minutes")
        if self.seconds > _DAY_S:
            raise ValueError(f"{what} bars are of a day at most")
        whole, of = (_HOUR_S, "an hour") if self.seconds <= _HOUR_S else (_DAY_S, "a day")
        if whole % self.seconds:
            raise ValueError(f"{what} its bars do not fill {of}, as {_near(whole, self.seconds)} do")

    @property
    def microseconds(self) -> int:
        return self.seconds * 1_000_000

    @property
    def from_day_start(self) -> bool:
        """Whether bars are cut from the session's day start instead of the UTC hour."""
        return self.seconds > 3600


def _near(whole_s: int, seconds: int) -> str:
    """The next shorter and the next longer length that fills an hour or a day."""
    fitting = [s for s in range(_MINUTE_S, whole_s + 1, _MINUTE_S) if whole_s % s == 0]
    near = (max(s for s in fitting if s < seconds), min(s for s in fitting if s > seconds))
    return " or ".join(f"{s // _HOUR_S}h" if s % _HOUR_S == 0 else f"{s // _MINUTE_S}m" for s in near)


TIMEFRAMES: Mapping[str, Timeframe] = MappingProxyType(
    {
        frame.name: frame
        for frame in (
            Timeframe(name="1m", seconds=60),
            Timeframe(name="5m", seconds=300),
            Timeframe(name="15m", seconds=900),
            Timeframe(name="30m", seconds=1800),
            Timeframe(name="1h", seconds=3600),
            Timeframe(name="4h", seconds=14_400),
            Timeframe(name="1d", seconds=86_400),
        )
    }
)


def timeframe(name: str) -> Timeframe:
    """The timeframe called ``name``.

    Raises:
        CatalogError: there is no such timeframe.
    """
    try:
        return TIMEFRAMES[name]
    except (KeyError, TypeError):
        raise CatalogError("timeframe", name, TIMEFRAMES, f"Known: {', '.join(TIMEFRAMES)}.") from None


def check_timeframes(timeframes: Mapping[str, Timeframe]) -> None:
    """Refuses lengths that are listed twice, or out of order: longer bars are made of those before them.

    Raises:
        ValueError: naming the timeframe.
    """
    previous: Timeframe | None = None
    for frame in timeframes.values():
        if previous is not None and frame.seconds <= previous.seconds:
            raise ValueError(f"catalog: timeframe {frame.name!r} is not longer than {previous.name!r} before it")
        previous = frame


check_timeframes(TIMEFRAMES)
