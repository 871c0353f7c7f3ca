"""The lengths of bars."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType

from feature_repo.catalog.errors import CatalogError


@dataclass(frozen=True, slots=True, kw_only=True)
class Timeframe:
    """A bar length. Lengths below four hours are cut from the UTC hour, longer ones from the session's day start."""

    name: str
    seconds: int

    @property
    def microseconds(self) -> int:
        return self.seconds * 1_000_000

    @property
    def from_day_start(self) -> bool:
        """Whether bars are cut from the session's day start instead of the UTC hour."""
        return self.seconds > 3600


TIMEFRAMES: Mapping[str, Timeframe] = MappingProxyType(
    {
        name: Timeframe(name=name, seconds=seconds)
        for name, seconds in (
            ("1m", 60),
            ("5m", 300),
            ("15m", 900),
            ("30m", 1800),
            ("1h", 3600),
            ("4h", 14_400),
            ("1d", 86_400),
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
