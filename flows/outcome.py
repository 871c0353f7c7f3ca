"""What a run did, told by symbol and timeframe."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime


@dataclass(frozen=True, slots=True, kw_only=True)
class Outcome:
    """What a run did for one symbol and timeframe.

    Attributes:
        bars: bars that the run made or computed anew: those that are new, were corrected, or depend on a correction.
        stored, revised, unchanged: what became of their indicator rows, as in ``flows.revisions``.
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
