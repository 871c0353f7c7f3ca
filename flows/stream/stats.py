"""What a stream has done, for its log and its run in the ledger."""

from __future__ import annotations

import logging
from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np

from flows.stream.bar import LiveBar
from flows.stream.reader import Entry

_log = logging.getLogger("fstore")


@dataclass(slots=True)
class StreamStats:
    """Counts of entries, and how long bars took from their arrival in Redis until they were online.

    Attributes:
        bars: bars that were new, published at once.
        unchanged: bars that were known already, as they are after a restart.
        settled: bars that the batch flow took: first, late and corrected ones.
        bad: entries that were quarantined.
        lags_s: of the newest thousand bars, seconds.
    """

    bars: int = 0
    unchanged: int = 0
    settled_bars: int = 0
    bad: int = 0
    lags_s: deque[float] = field(default_factory=lambda: deque(maxlen=1000))

    def took(self, items: Sequence[tuple[Entry, LiveBar]], new: int, now_s: float) -> None:
        """Notes bars that went through the hot path, ``new`` of them new."""
        self.bars += new
        self.unchanged += len(items) - new
        self.lags_s.extend(now_s - entry.arrived_s for entry, _ in items[len(items) - new :])

    def settled(self, items: Sequence[tuple[Entry, LiveBar]], now_s: float) -> None:
        """Notes bars that the batch flow took."""
        self.settled_bars += len(items)
        self.lags_s.extend(now_s - entry.arrived_s for entry, _ in items)

    @property
    def counts(self) -> dict[str, int]:
        """As the ledger keeps them."""
        return {"bars": self.bars, "unchanged": self.unchanged, "settled": self.settled_bars, "quarantined": self.bad}

    def log(self, *, seconds: float, before: int, backlog: int) -> None:
        """Tells the log of the last ``seconds``, ``before`` which so many bars had been taken."""
        lags = np.array(self.lags_s or [np.nan])
        told = {
            "bars_per_s": round((self.bars + self.settled_bars - before) / max(seconds, 1e-9), 1),
            "lag_ms_median": round(float(np.median(lags)) * 1e3, 1),
            "lag_ms_max": round(float(lags.max()) * 1e3, 1),
            "backlog": backlog,
            **self.counts,
        }
        _log.info("stream %s", " ".join(f"{name}={value}" for name, value in told.items()), extra=told)
