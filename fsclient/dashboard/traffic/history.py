"""The intervals of one resolution: each is read once, and again only when its version has changed.

Memory is bounded by the number of minutes and hours and by the rows that each may have (see ``metrics.history``).
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from fsclient.dashboard.traffic.columns import NOTHING, Columns, Ints
from fsclient.metrics.histogram import BUCKETS
from fsclient.metrics.history import SlotRows
from fsclient.metrics.store import KEPT_S, SECONDS, Resolution, When, read_counts, read_versions, times_between

_BATCH = 500


@dataclass(frozen=True, slots=True)
class Totals:
    """Everything counted since the first reading, added up; it never shrinks, even when old intervals are dropped.

    Attributes:
        series: (method, source) as numbers -> calls, errors, hits, misses, stale, retries; seconds; histogram.
        errors: (method, kind) as numbers -> calls.
    """

    series: dict[tuple[int, int], tuple[Ints, float, Ints]] = field(default_factory=dict)
    errors: dict[tuple[int, int], int] = field(default_factory=dict)

    def follow(self, before: Columns | None, after: Columns) -> None:
        """Adds the difference between an interval's counts before and after."""
        for part, sign in ((before, -1), (after, 1)):
            if part is None:
                continue
            for about, figures, seconds, histogram in zip(
                part.about.tolist(), part.figures, part.seconds.tolist(), part.histogram, strict=True
            ):
                key = about[1], about[2]
                total = self.series.get(key, (np.zeros(6, np.int64), 0.0, np.zeros(BUCKETS, np.int64)))
                more = histogram.astype(np.int64)
                self.series[key] = total[0] + sign * figures, total[1] + sign * seconds, total[2] + sign * more
            for _, method, _, kind, calls in part.errors.tolist():
                self.errors[method, kind] = self.errors.get((method, kind), 0) + sign * calls


class History:
    """The intervals of one resolution, of all processes or of one."""

    def __init__(self, resolution: Resolution, process_id: str | None = None) -> None:
        self.resolution: Resolution = resolution
        self.process_id = process_id
        self.versions: dict[When, int] = {}
        self.parts: dict[When, Columns] = {}
        self._joined: Columns | None = None
        self.totals = Totals()

    def refresh(self, client: Any, project: str, now: float, columns: Callable[[When, SlotRows], Columns]) -> None:
        """Reads intervals that changed and drops those that are too old."""
        step, kept = SECONDS[self.resolution], KEPT_S[self.resolution]
        times = [*times_between(self.resolution, now - kept + step, now + step)]
        versions = read_versions(client, project, times)
        changed = [when for when, version in versions.items() if self.versions.get(when) != version]
        expired = [when for when in self.versions if when not in versions]
        for when in expired:
            del self.versions[when]
            self.parts.pop(when, None)
        for first in range(0, len(changed), _BATCH):
            batch = changed[first : first + _BATCH]
            for when, rows in read_counts(client, project, batch, process_id=self.process_id).items():
                part = columns(when, rows)
                self.totals.follow(self.parts.get(when), part)
                self.parts[when] = part
            self.versions |= {when: versions[when] for when in batch}
        if changed or expired:
            self._joined = None

    def joined(self) -> Columns:
        """All intervals together."""
        if self._joined is None:
            self._joined = Columns.joined([NOTHING, *(self.parts[when] for when in sorted(self.parts))])
        return self._joined
