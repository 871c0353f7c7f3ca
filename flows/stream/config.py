"""Timing and limits of a stream."""

from __future__ import annotations

from dataclasses import dataclass

RETRY_S = (0.5, 1.0, 2.0, 5.0)
"""Waits between attempts at what is tried until it succeeds; the last one repeats."""


@dataclass(frozen=True, slots=True, kw_only=True)
class StreamConfig:
    """Timing and limits of a stream.

    Attributes:
        flush_s: bars are stored offline at most this long after they are online,
        flush_bars: or as soon as this many wait.
        idle_s: leases are given back when no bar has arrived for this long.
        ttl_s: leases of a process that died expire after this long; only then can another take over.
        early_s: a bar that arrives at most this long before it closes (clocks differ) waits for its close; an earlier
            one is rejected.
        max_symbols: symbols kept in memory, about 5 MB each; others are loaded again each time.
        read_bars: entries read at once per shard.
    """

    flush_s: float = 2.0
    flush_bars: int = 5_000
    idle_s: float = 10.0
    ttl_s: float = 15.0
    early_s: float = 2.0
    max_symbols: int = 500
    read_bars: int = 500


def retry_after_s(failures: int) -> float:
    """How long to wait after this many failures, counted from 0."""
    return RETRY_S[min(failures, len(RETRY_S) - 1)]
