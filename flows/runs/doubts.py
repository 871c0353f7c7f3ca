"""Doubts, kept in two places: the ledger remembers them, the online store shows them to every lookup."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from feature_repo.stores.redis.doubt import lift_doubt, mark_doubt
from flows.ledger import Ledger


def cast_doubt(client: Any, project: str, ledger: Ledger, symbol: str, timeframe: str, reason: str) -> None:
    """Quarantines a symbol's views of a timeframe: what is looked up of them is ``stale`` from now on."""
    ledger.doubt(symbol, timeframe, reason)  # first: whatever happens to the mark, the next publish sets it again
    mark_doubt(client, project, symbol, timeframe, reason)


def end_doubt(client: Any, project: str, ledger: Ledger, symbol: str, timeframe: str) -> bool:
    """Ends a doubt, if there is one, in both places. Returns whether the online store showed it."""
    ledger.clear_doubt(symbol, timeframe)
    return lift_doubt(client, project, symbol, timeframe)


def restate_doubts(client: Any, project: str, ledger: Ledger, symbols: Iterable[str]) -> None:
    """Marks the doubts about these symbols again, where the online store has lost them: emptied, or another one."""
    names = set(symbols)
    for (symbol, timeframe), doubt in ledger.doubts().items():
        if symbol in names:
            mark_doubt(client, project, symbol, timeframe, doubt.reason)
