"""Time that a test sets."""

from __future__ import annotations


class Clock:
    """A clock that stands still until it is set; seconds."""

    def __init__(self, now: float = 0.0) -> None:
        self.now = now

    def __call__(self) -> float:
        return self.now
