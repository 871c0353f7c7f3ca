"""The last outcomes of calls, counted in constant time: by number of calls, or by time."""

from __future__ import annotations

from collections import deque
from typing import Protocol

BUCKETS = 16
"""Parts that a window of time moves by: what it holds is between 15/16 of its length and the whole."""


class Outcomes(Protocol):
    """Counts over a sliding window; a call may be failed and slow at once."""

    calls: int
    failed: int
    slow: int

    def add(self, *, failed: bool, slow: bool, now: float) -> None:
        """Count one call that ended at ``now``."""

    def slide(self, now: float) -> None:
        """Forget what has left the window by ``now``."""


class LastCalls:
    """The outcomes of the last ``size`` calls."""

    __slots__ = ("_ring", "_size", "calls", "failed", "slow")

    def __init__(self, size: int) -> None:
        self._size = size
        self._ring: deque[tuple[bool, bool]] = deque()
        self.calls = self.failed = self.slow = 0

    def add(self, *, failed: bool, slow: bool, now: float) -> None:  # noqa: ARG002  # the protocol's
        if self.calls == self._size:
            was_failed, was_slow = self._ring.popleft()
            self.calls -= 1
            self.failed -= was_failed
            self.slow -= was_slow
        self._ring.append((failed, slow))
        self.calls += 1
        self.failed += failed
        self.slow += slow

    def slide(self, now: float) -> None:
        """Nothing: time does not move this window."""


class LastSeconds:
    """The outcomes of the last ``length_s`` seconds, however many calls they were: memory is ``BUCKETS`` counts."""

    __slots__ = ("_buckets", "_width_s", "calls", "failed", "slow")

    def __init__(self, length_s: float) -> None:
        self._width_s = length_s / BUCKETS
        self._buckets: deque[list[int]] = deque()  # number of the bucket, calls, failed, slow
        self.calls = self.failed = self.slow = 0

    def add(self, *, failed: bool, slow: bool, now: float) -> None:
        self.slide(now)
        number = int(now // self._width_s)
        if not self._buckets or self._buckets[-1][0] < number:
            self._buckets.append([number, 0, 0, 0])
        newest = self._buckets[-1]
        newest[1] += 1
        newest[2] += failed
        newest[3] += slow
        self.calls += 1
        self.failed += failed
        self.slow += slow

    def slide(self, now: float) -> None:
        oldest = int(now // self._width_s) - BUCKETS + 1
        while self._buckets and self._buckets[0][0] < oldest:
            _, calls, failed, slow = self._buckets.popleft()
            self.calls -= calls
            self.failed -= failed
            self.slow -= slow
