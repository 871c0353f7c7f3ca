"""Trying again: when, how often at most, and never past the caller's deadline.

Delays are exponential with full jitter (M. Brooker, "Exponential Backoff And Jitter", AWS Architecture Blog, 2015): the
wait before the n-th retry is drawn evenly from 0 to ``min(cap_s, base_s * 2 ** (n - 1))``. Retrying is done here and
nowhere below, or attempts would multiply.
"""

from __future__ import annotations

import asyncio
import math
import random
import threading
import time
from collections.abc import Awaitable, Callable, Hashable
from contextvars import ContextVar
from dataclasses import dataclass, field
from functools import cache
from typing import Any, NamedTuple, TypeVar

T = TypeVar("T")


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
        self._lock = threading.Lock()

    def deposit(self) -> None:
        """A call succeeded."""
        with self._lock:
            self._tokens = min(self._reserve, self._tokens + self._ratio)

    def withdraw(self) -> bool:
        """Pay for one retry; False when there is not enough left."""
        with self._lock:
            if self._tokens < 1.0:
                return False
            self._tokens -= 1.0
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


@dataclass(slots=True)
class CallStats:
    """How one call of the client was answered so far, for its metrics.

    Attributes:
        hit: whether the cache had the answer; None when it was not asked.
        attempts: how often a store was asked.
    """

    hit: bool | None = None
    attempts: int = 0


CALL_STATS: ContextVar[CallStats | None] = ContextVar("fsclient_call_stats", default=None)
"""The call on whose behalf a store is asked, in its task and in those that it starts."""


async def call(
    attempt_fn: Callable[[], Awaitable[T]],
    *,
    policy: RetryPolicy,
    deadline: Deadline,
    on: type[Exception] | tuple[type[Exception], ...],
    never: tuple[type[Exception], ...] = (),
    sleep: Callable[[float], Awaitable[None]] = asyncio.sleep,
) -> T:
    """What ``attempt_fn`` returns, tried again as ``policy`` allows, each attempt cut off at the deadline.

    Each attempt is counted in ``CALL_STATS``.

    Args:
        attempt_fn: makes one attempt.
        on: the exceptions that another attempt may fix. There is no default: nobody retries everything by accident.
            Cancellation is never retried.
        never: exceptions of ``on`` that no other attempt fixes.

    Raises:
        DeadlineExceededError: the deadline passed, before or during an attempt; its cause is the last failure.
        TypeError: ``on`` is something else than exception classes.
        Exception: the last attempt's own, when it is not of ``on`` or the policy gave up.
    """
    _check_retryable(on)  # type: ignore[arg-type]  # classes are hashable, whatever their metaclass says
    stats = CALL_STATS.get()
    attempt = 0
    failure: Exception | None = None
    while (remaining_s := deadline.remaining_s) > 0:
        attempt += 1
        if stats is not None:
            stats.attempts += 1
        limit = _Limit(remaining_s)
        try:
            with limit:
                answer = await attempt_fn()
        except Exception as error:
            failure = error
            if limit.expired:
                break
            can_retry = isinstance(error, on) and not isinstance(error, never)
            delay_s = policy.next_delay(attempt, deadline) if can_retry else None
            if delay_s is None:
                raise
            await sleep(delay_s)
        else:
            policy.budget.deposit()
            return answer
    raise DeadlineExceededError(f"no answer within the deadline ({attempt} attempts made)") from failure


class _Limit:
    """``asyncio.timeout``, which costs more than the read that it bounds, without what is not needed here."""

    __slots__ = ("_cancelling", "_task", "_timeout_s", "_timer", "expired")

    def __init__(self, timeout_s: float) -> None:
        self._timeout_s = timeout_s
        self.expired = False

    def __enter__(self) -> None:
        self._task: asyncio.Task[Any] = asyncio.current_task()  # type: ignore[assignment]  # coroutines run in one
        self._cancelling = self._task.cancelling()
        finite = self._timeout_s < math.inf
        self._timer = self._task.get_loop().call_later(self._timeout_s, self._expire) if finite else None

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, _: object) -> None:
        if self._timer is not None:
            self._timer.cancel()
        if self.expired and self._task.uncancel() <= self._cancelling and kind is asyncio.CancelledError:
            raise TimeoutError from error

    def _expire(self) -> None:
        self.expired = True
        self._task.cancel()


@cache
def _check_retryable(on: Hashable) -> None:
    for kind in on if isinstance(on, tuple) else (on,):
        if not (isinstance(kind, type) and issubclass(kind, Exception)):
            raise TypeError(f"on= takes exception classes that derive from Exception, not {kind!r}")
