"""When a circuit breaker opens, and how it closes again."""

from __future__ import annotations

from dataclasses import dataclass

from fsclient.resilience.outcomes import LastCalls, LastSeconds, Outcomes


@dataclass(frozen=True, slots=True, kw_only=True)
class BreakerConfig:
    """One breaker's thresholds and waits, checked.

    Attributes:
        window_calls: judge the last so many calls; None to judge by time.
        window_s: judge the calls of the last so many seconds (moved in sixteenths); None to judge by number.
        minimum_calls: fewer calls in the window than this never open it.
        failure_rate: share of failed calls, above 0 to 1, from which on it opens.
        slow_call_rate: share of slow calls, above 0 to 1, from which on it opens.
        slow_call_s: a call that took longer than this is slow, whether it failed or not.
        wait_open_s: how long it stays open before it lets probes through.
        probes: calls let through half open; their rates decide once all have ended.
        max_half_open_s: probes that have not all ended by then count as failed, so that a lost permit or a hanging
            call cannot keep it half open for ever.

    Raises:
        ValueError: a value out of its range.
    """

    window_calls: int | None = 100
    window_s: float | None = None
    minimum_calls: int = 10
    failure_rate: float = 0.5
    slow_call_rate: float = 1.0
    slow_call_s: float = 60.0
    wait_open_s: float = 10.0
    probes: int = 3
    max_half_open_s: float = 60.0

    def __post_init__(self) -> None:
        if (self.window_calls is None) == (self.window_s is None):
            raise ValueError("a breaker judges by number or by time: give window_calls or window_s, the other as None")
        for name in ("minimum_calls", "probes", "window_calls"):
            value = getattr(self, name)
            if value is not None and value < 1:
                raise ValueError(f"{name} must be at least 1, not {value}")
        for name in ("window_s", "slow_call_s", "wait_open_s", "max_half_open_s"):
            value = getattr(self, name)
            if value is not None and not 0 < value < float("inf"):
                raise ValueError(f"{name} must be positive and finite, not {value}")
        for name in ("failure_rate", "slow_call_rate"):
            if not 0 < getattr(self, name) <= 1:
                raise ValueError(f"{name} must be a share above 0 and up to 1, not {getattr(self, name)}")
        if self.window_calls is not None and self.minimum_calls > self.window_calls:
            raise ValueError(
                f"minimum_calls={self.minimum_calls} can never be reached in window_calls={self.window_calls}; "
                "lower the one or raise the other"
            )

    def new_window(self) -> Outcomes:
        """An empty window of the kind and size that was asked for."""
        if self.window_calls is not None:
            return LastCalls(self.window_calls)
        return LastSeconds(self.window_s or 0.0)
