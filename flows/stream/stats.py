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
        bars: new bars, published at once.
        unchanged: bars that were stored already, as they are after a restart.
        settled: bars left to the batch flow: first, late and corrected ones.
        bad: entries that were quarantined.
        lags_s: of the newest thousand bars, seconds.
    """

    bars: int = 0
    unchanged: int = 0
    settled: int = 0
    bad: int = 0
    lags_s: deque[float] = field(default_factory=lambda: deque(maxlen=1000))

    def published(self, items: Sequence[tuple[Entry, LiveBar]], new: int, now_s: float) -> None:
        """Counts bars that went down the fast path, the last ``new`` of them new."""
        self.bars += new
        self.unchanged += len(items) - new
        self.lags_s.extend(now_s - entry.arrived_s for entry, _ in items[len(items) - new :])

    def left_to_batch(self, items: Sequence[tuple[Entry, LiveBar]], now_s: float) -> None:
        """Counts bars that the batch flow took."""
        self.settled += len(items)
        self.lags_s.extend(now_s - entry.arrived_s for entry, _ in items)

    @property
    def counts(self) -> dict[str, int]:
        """The counts as the ledger keeps them."""
        return {"bars": self.bars, "unchanged": self.unchanged, "settled": self.settled, "quarantined": self.bad}

    def log(self, *, seconds: float, before: int, backlog: int) -> None:
        """Logs the last ``seconds``, at whose beginning ``before`` bars had been taken."""
        lags = np.array(self.lags_s or [np.nan])
        figures = {
            "bars_per_s": round((self.bars + self.settled - before) / max(seconds, 1e-9), 1),
            "lag_ms_median": round(float(np.median(lags)) * 1e3, 1),
            "lag_ms_max": round(float(lags.max()) * 1e3, 1),
            "backlog": backlog,
            **self.counts,
        }
        _log.info("stream %s", " ".join(f"{name}={value}" for name, value in figures.items()), extra=figures)
