"""Doubts, kept in two places: the ledger remembers them, the online store shows them to every lookup."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from feature_repo.series import Series
from feature_repo.stores.redis.doubt import lift_doubt, mark_doubt
from flows.ledger import Ledger


def cast_doubt(client: Any, project: str, ledger: Ledger, series: Series, reason: str) -> None:
    """Quarantines a series' views: what is looked up of them is ``stale`` from now on."""
    ledger.doubt(*series.key, reason)  # first: whatever happens to the mark, the next publish sets it again
    mark_doubt(client, project, *series.key, reason)


def end_doubt(client: Any, project: str, ledger: Ledger, series: Series) -> bool:
    """Ends a doubt, if there is one, in both places. Returns whether the online store showed it."""
    ledger.clear_doubt(*series.key)
    return lift_doubt(client, project, *series.key)


def restate_doubts(client: Any, project: str, ledger: Ledger, symbols: Iterable[str]) -> None:
    """Marks the doubts about these symbols again, where the online store has lost them: emptied, or another one."""
    names = set(symbols)
    for (symbol, timeframe), doubt in ledger.doubts().items():
        if symbol in names:
            mark_doubt(client, project, symbol, timeframe, doubt.reason)
