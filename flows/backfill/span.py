"""The range of a backfill, and what makes two calls the same backfill."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime

from feature_repo.catalog import Session, Timeframe
from feature_repo.moments import to_us
from feature_repo.sessions import grid_opens
from flows.runs.plan import DEFINITIONS_DIGEST

_LONGEST_BAR_US = 2 * 86_400_000_000


@dataclass(frozen=True, slots=True, kw_only=True)
class Span:
    """Bars that open from ``start_us`` to ``end_us``, both inclusive, microseconds since 1970-01-01 UTC; None: open."""

    start_us: int | None = None
    end_us: int | None = None

    def first_open(self, session: Session, timeframe: Timeframe) -> int | None:
        """Open of the first bar of the grid within the span; None when it has no start."""
        if self.start_us is None:
            return None
        return int(grid_opens(session, timeframe, self.start_us, self.start_us + _LONGEST_BAR_US)[0])


def span_of(start: datetime | None, end: datetime | None) -> Span:
    """The span of two aware moments.

    Raises:
        ValueError: ``start`` is later than ``end``.
    """
    if start is not None and end is not None and start > end:
        raise ValueError(f"start {start} is later than end {end}")
    return Span(
        start_us=None if start is None else to_us(start.astimezone(UTC)),
        end_us=None if end is None else to_us(end.astimezone(UTC)),
    )


def backfill_key(symbols: Sequence[str] | None, timeframes: Sequence[str], span: Span) -> str:
    """What identifies a backfill: what was asked for, and the definitions."""
    asked = [
        sorted(set(symbols)) if symbols else None,
        sorted(timeframes),
        span.start_us,
        span.end_us,
        DEFINITIONS_DIGEST,
    ]
    return hashlib.sha256(json.dumps(asked).encode()).hexdigest()[:16]
