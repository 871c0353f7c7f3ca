"""What a run did, told by symbol and timeframe."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime

from feature_repo.catalog import TIMEFRAMES


@dataclass(frozen=True, slots=True, kw_only=True)
class Outcome:
    """What a run did for one symbol and timeframe.

    Attributes:
        bars: bars that the run made or computed anew: those that are new, were corrected, or depend on a correction.
        stored, revised, unchanged: what became of their indicator rows, as in ``flows.compute.changes``.
        quarantined: rows that a gate rejected.
        published: whether the online store took the symbol's views.
        as_of: close of the newest bar.
        age_bars: closed bars that an open market has made since.
        problem: why the symbol was stopped; empty when all went well.
    """

    symbol: str
    timeframe: str
    bars: int = 0
    stored: int = 0
    revised: int = 0
    unchanged: int = 0
    quarantined: int = 0
    published: bool = False
    as_of: datetime | None = None
    age_bars: int | None = None
    problem: str = ""


def describe(error: Exception) -> str:
    """An error as an outcome tells it."""
    return f"{type(error).__name__}: {error}"


def problems_of(outcomes: Iterable[Outcome]) -> list[str]:
    """What stopped whom, a line each."""
    return [f"{o.symbol} {o.timeframe}".strip() + f": {o.problem}" for o in outcomes if o.problem]


def in_order(outcomes: Iterable[Outcome]) -> list[Outcome]:
    """Symbols by name, timeframes from the shortest; one that is of no timeframe comes before them."""
    order = {tf: i for i, tf in enumerate(["", *TIMEFRAMES])}
    return sorted(outcomes, key=lambda o: (o.symbol, order[o.timeframe]))
