"""Symbols that another run works on: waiting for one, and telling of it."""

from __future__ import annotations

import time
from collections.abc import Callable

from flows.ledger import Holder, Lease, Ledger
from flows.runs.record import attempts, owner

_PAUSE_S = 0.5


def lease_symbol(
    ledger: Ledger, name: str, run: str, *, wait_s: float, sleep: Callable[[float], None] = time.sleep
) -> Lease:
    """A lease of the symbol, as soon as whoever works on it is done; of nothing when that takes longer than ``wait_s``.

    What an earlier attempt of the same run holds is taken over.
    """
    for _ in range(int(wait_s / _PAUSE_S)):
        lease = ledger.lease([name], owner=owner(run), takes_over=attempts(run))
        if lease.symbols:
            return lease
        sleep(_PAUSE_S)
    return ledger.lease([name], owner=owner(run), takes_over=attempts(run))


def busy(holder: Holder) -> str:
    """Why a symbol was left alone, as an outcome tells it."""
    return f"{holder.owner} is working on it, until {holder.until:%H:%M:%S} UTC at least; run again then"
