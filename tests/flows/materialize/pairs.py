"""Three symbols with bars, of which one is in trouble."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pandas as pd

from flows.runs.outcome import Outcome

PAIRS = ["EUR/USD", "GBP/USD", "USD/JPY"]


def make_pairs(make_bars: Callable[..., pd.DataFrame], take: Callable[..., Any]) -> None:
    for symbol in PAIRS:
        take(make_bars(100, symbol=symbol), symbol=symbol)


def check_only(
    outcomes: dict[tuple[str, str], Outcome], read_online: Callable[..., Any], symbol: str, problem: str
) -> None:
    """``symbol`` is the only one with a problem, and the others are online."""
    problems = {o.symbol: o.problem for o in outcomes.values() if o.problem}
    assert [*problems] == [symbol]
    assert problem in problems[symbol]
    for other in PAIRS:
        assert (read_online(other, "1h") is not None) == (other != symbol)
