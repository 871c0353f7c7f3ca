"""Trying again: when, how often at most, and never past the caller's deadline.

Delays are exponential with full jitter (M. Brooker, "Exponential Backoff And Jitter", AWS Architecture Blog, 2015): the
wait before the n-th retry is drawn evenly from 0 to ``min(cap_s, base_s * 2 ** (n - 1))``. Here it is only decided:
``guard`` makes the attempts.
"""

from __future__ import annotations

import math
import random
import threading
import time
from collections.abc import Callable
from contextvars import ContextVar
from dataclasses import dataclass, field
from typing import NamedTuple


class DeadlineExceededError(TimeoutError):
    """The deadline passed before a call was answered."""


class Deadline(NamedTuple):
    """The moment a call must be over, shared by all of its attempts and waits. A named tuple, as calls make several.

    Attributes:
        at: the moment, in seconds of ``clock``.
        clock: monotonic seconds.
    """

    at: float
    clock: Callable[[], float] = time.monotonic

    @classmethod
    def after(cls, timeout_s: float, *, clock: Callable[[], float] = time.monotonic) -> Deadline:
        """The deadline ``timeout_s`` seconds from now; infinite for none.

        Raises:
            ValueError: ``timeout_s`` is negative or NaN.
        """
        if not timeout_s >= 0:
            raise ValueError(f"timeout_s must be 0 or more seconds, not {timeout_s}")
        return cls(at=clock() + timeout_s, clock=clock)

    @property
    def remaining_s(self) -> float:
        """Seconds left, never below 0."""
        return max(0.0, self.at - self.clock())

    @property
    def expired(self) -> bool:
        return self.clock() >= self.at


class RetryBudget:
    """How many retries all calls together may add, so that an outage is not answered by a multiple of the load.

    A token bucket: each call that succeeds puts ``ratio`` of a token in, up to ``reserve``, and each retry takes one
    out; it starts full. So of n calls, ok of them successful, at most ``reserve + ratio * ok`` are retried: a lone
    failure is, and an outage, which puts nothing in, gets ``reserve`` retries however long it lasts. Thread-safe.

    Args:
        ratio: retries for one successful call, 0 to 1.
        reserve: retries that may come without any.

    Attributes:
        is_full: whether a deposit would change nothing, as long as no call fails.

    Raises:
        ValueError: a ratio out of its range, or a reserve below 1 that could never pay a retry.
    """

    def __init__(self, *, ratio: float = 0.1, reserve: float = 10.0) -> None:
        if not 0 <= ratio <= 1:
            raise ValueError(f"ratio must be between 0 and 1, not {ratio}")
        if not 1 <= reserve < math.inf:
            raise ValueError(f"reserve must be at least 1 and finite, not {reserve}")
        self._ratio = ratio
        self._reserve = reserve
        self._tokens = reserve
        self.is_full = True
        self._lock = threading.Lock()

    def deposit(self) -> None:
        """A call succeeded."""
        with self._lock:
            self._tokens = min(self._reserve, self._tokens + self._ratio)
            self.is_full = self._tokens == self._reserve

    def withdraw(self) -> bool:
        """Pay for one retry; False when there is not enough left."""
        with self._lock:
            if self._tokens < 1.0:
                return False
            self._tokens -= 1.0
            self.is_full = False
            return True


@dataclass(frozen=True, slots=True, kw_only=True)
class RetryPolicy:
    """Whether to try again, and after how long.

    Attributes:
        max_attempts: the first one and its retries; 1 never retries.
        base_s: the longest wait before the first retry; doubles with each.
        cap_s: no wait is longer.
        budget: what all calls share; one for the life of a client.
        uniform: returns numbers evenly spread over [0, 1).

    Raises:
        ValueError: a value out of its range.
    """

    max_attempts: int = 3
    base_s: float = 0.05
    cap_s: float = 2.0
    budget: RetryBudget = field(default_factory=RetryBudget)
    uniform: Callable[[], float] = random.random

    def __post_init__(self) -> None:
        if self.max_attempts < 1:
            raise ValueError(f"max_attempts counts the first attempt too: at least 1, not {self.max_attempts}")
        if not 0 <= self.base_s <= self.cap_s < math.inf:
            raise ValueError(f"0 <= base_s <= cap_s < infinity must hold, not {self.base_s} and {self.cap_s}")

    def next_delay(self, attempt: int, deadline: Deadline) -> float | None:
        """Seconds to wait after the ``attempt``-th attempt (1 is the first) failed; None to give up.

        It gives up when the attempts are used up, when the wait would outlast the deadline, and when the budget is
        empty; only an answer that is not None takes from the budget.
        """
        if attempt >= self.max_attempts:
            return None
        longest_s = min(self.cap_s, math.ldexp(self.base_s, min(attempt - 1, 1000)))
        delay_s = self.uniform() * longest_s
        if delay_s >= deadline.remaining_s or not self.budget.withdraw():
            return None
        return delay_s


class CallStats:
    """How one call of the client was answered so far, for its metrics. Every call makes one, so it has no ``__init__``.

    Attributes:
        hit: whether the cache had the answer; None when it was not asked.
        attempts: how often a store was asked.
    """

    hit: bool | None = None
    attempts: int = 0


CALL_STATS: ContextVar[CallStats | None] = ContextVar("fsclient_call_stats", default=None)
"""The call on whose behalf a store is asked, in its task and in those that it starts."""
