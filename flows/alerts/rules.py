"""What is watched. A rule is data; its name is what an incident is known by, so it stays as it is."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import timedelta


@dataclass(frozen=True, slots=True, kw_only=True)
class ViewAge:
    """A view online is older than so many bars of an open market.

    Attributes:
        bars: timeframe -> how many closed bars it may lack; a timeframe that is not in it is not watched.
        history_after: a symbol without a bar for so long is history that was loaded, not a feed that is late.
    """

    name: str = "view_age"
    bars: Mapping[str, int] = field(
        default_factory=lambda: {"1m": 10, "5m": 4, "15m": 3, "30m": 3, "1h": 2, "4h": 2, "1d": 2}
    )
    history_after: timedelta = timedelta(days=14)


@dataclass(frozen=True, slots=True, kw_only=True)
class GateFailed:
    """The newest verdict of the quality gate on a symbol and timeframe is that it does not pass."""

    name: str = "gate"


@dataclass(frozen=True, slots=True, kw_only=True)
class InDoubt:
    """What is online did not prove equal to what is stored or recomputed."""

    name: str = "parity"


@dataclass(frozen=True, slots=True, kw_only=True)
class BreakerOpen:
    """A client's breaker keeps its calls from a store.

    Attributes:
        seen_within: a process that published longer ago has ended, and its last word counts no more.
    """

    name: str = "breaker"
    seen_within: timedelta = timedelta(minutes=2)


@dataclass(frozen=True, slots=True, kw_only=True)
class NoRun:
    """No run of the materialize flow that covers a timeframe has completed for so many bars of an open market.

    Attributes:
        bars: timeframe -> how many closed bars may pass between two; a timeframe that is not in it is not watched.
    """

    name: str = "no_run"
    bars: Mapping[str, int] = field(
        default_factory=lambda: {"1m": 15, "5m": 6, "15m": 4, "30m": 4, "1h": 3, "4h": 2, "1d": 2}
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class Unreachable:
    """A store does not answer. What other rules ask of it is unknown then, so their incidents neither begin nor end."""

    name: str = "store"


Rule = Unreachable | ViewAge | GateFailed | InDoubt | BreakerOpen | NoRun

RULES: tuple[Rule, ...] = (Unreachable(), ViewAge(), GateFailed(), InDoubt(), BreakerOpen(), NoRun())
