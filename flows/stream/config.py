"""How a stream takes its time."""

from __future__ import annotations

from dataclasses import dataclass

RETRY_S = (0.5, 1.0, 2.0, 5.0)


@dataclass(frozen=True, slots=True, kw_only=True)
class StreamConfig:
    """How a stream takes its time.

    Attributes:
        flush_s: bars are stored offline at most so long after they are online.
        flush_bars: or as soon as so many wait.
        idle_s: leases are given back when no bar has come for so long.
        ttl_s: leases of one that died run out after so long; another can only then take over.
        early_s: a bar that arrives so long before it closes (clocks differ) waits for its close; earlier it is none.
        most_symbols: how many symbols are kept in memory, about 5 MB each; more are read again and again.
        read_bars: entries that are read at once, a shard.
    """

    flush_s: float = 2.0
    flush_bars: int = 5_000
    idle_s: float = 10.0
    ttl_s: float = 15.0
    early_s: float = 2.0
    most_symbols: int = 500
    read_bars: int = 500


def retry_after_s(failures: int) -> float:
    """How long to wait after so many failures, from 0, of what is tried until it succeeds."""
    return RETRY_S[min(failures, len(RETRY_S) - 1)]
