"""A circuit breaker: a store that fails or crawls is left alone for a while instead of being asked again and again.

The semantics are resilience4j's (https://resilience4j.readme.io/docs/circuitbreaker). It decides and counts; it makes
no call and starts no timer. The caller takes a permit first and reports afterwards how it went::

    permit = breaker.acquire()  # raises Rejected
    try:
        answer = ask()
    except OSError:
        permit.failure(elapsed_s)
        raise
    except BaseException:
        permit.cancel()  # neither good nor bad: cancelled, or the caller's own mistake
        raise
    permit.success(elapsed_s)

A call that its own deadline cut off is a failure, though inside of it that looks like a cancellation: measure from
outside of the timeout, as ``guard`` does.
"""

from __future__ import annotations

import logging
import threading
import time
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal, Protocol

State = Literal["closed", "open", "half_open"]

_log = logging.getLogger("feature_store_client")


@dataclass(frozen=True, slots=True, kw_only=True)
class BreakerConfig:
    """One breaker's thresholds and waits, checked.

    Attributes:
        window_calls: judge this many of the last calls; None to judge by time.
        window_s: judge the calls of this many last seconds (moved in sixteenths); None to judge by number.
        minimum_calls: fewer calls in the window than this never open it.
        failure_rate: share of failed calls, above 0 to 1, from which on it opens.
        slow_call_rate: share of slow calls, above 0 to 1, from which on it opens.
        slow_call_s: a call that took longer than this is slow, whether it failed or not.
        wait_open_s: how long it stays open before it lets probes through.
        probes: calls let through half open; their rates decide once all have ended.
        max_half_open_s: probes that have not all ended by then count as failed, so that a lost permit or a hanging
            call cannot keep it half open forever.

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
            raise ValueError("a breaker judges by number or by time: set window_calls or window_s, the other to None")
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


class Rejected(Exception):  # noqa: N818  # a decision about a call, not an error of one
    """The breaker lets no call through now.

    Attributes:
        state: ``"open"``, or ``"half_open"`` when all its probes are under way.
        retry_after_s: seconds until it lets a call through; half open, until it does so at the latest.
    """

    def __init__(self, state: State, retry_after_s: float) -> None:
        super().__init__(f"the circuit is {state.replace('_', ' ')}; ask again in {retry_after_s:.3g} s")
        self.state = state
        self.retry_after_s = retry_after_s


@dataclass(frozen=True, slots=True, kw_only=True)
class BreakerSnapshot:
    """A breaker at one moment.

    Attributes:
        calls, failed, slow: outcomes in the window; half open, those of the probes.
        rejected: calls turned away since it was made.
        probes_left: calls that half open still lets through; 0 otherwise.
        retry_after_s: seconds until the wait is over; 0 when closed.
    """

    state: State
    calls: int
    failed: int
    slow: int
    rejected: int
    probes_left: int
    retry_after_s: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Transition:
    """A change of state, and the outcomes that led to it."""

    before: State
    after: State
    calls: int
    failed: int
    slow: int


class Permit:
    """Leave to make one call. It counts once, by whichever of its methods is called first.

    A permit of a time before the last change of state counts nothing: a call that began before the trip can neither
    close the breaker nor reopen it.
    """

    __slots__ = ("_breaker", "_generation")

    def __init__(self, breaker: CircuitBreaker, generation: int) -> None:
        self._breaker = breaker
        self._generation = generation

    def success(self, duration_s: float) -> None:
        """The call was answered after ``duration_s`` seconds."""
        self._breaker._settle(self, failed=False, duration_s=duration_s)

    def failure(self, duration_s: float) -> None:
        """The call failed after ``duration_s`` seconds, through the fault of the store that the breaker guards."""
        self._breaker._settle(self, failed=True, duration_s=duration_s)

    def cancel(self) -> None:
        """The call says nothing about the store that the breaker guards; its probe is free again."""
        self._breaker._settle(self, failed=None, duration_s=0.0)


_SETTLED = -1  # the generation of a permit that has counted


class CircuitBreaker:
    """See the module. Thread-safe; calls nothing but ``on_transition``, and that outside of its lock.

    Args:
        config: when it opens and how it closes.
        clock: monotonic seconds.
        on_transition: called after each change of state; what it raises is logged and goes no further.
    """

    def __init__(
        self,
        config: BreakerConfig | None = None,
        *,
        clock: Callable[[], float] = time.monotonic,
        on_transition: Callable[[Transition], None] | None = None,
    ) -> None:
        self._config = config or BreakerConfig()
        self._clock = clock
        self._on_transition = on_transition
        # Reentrant: a signal handler that takes a snapshot may interrupt its own thread inside the lock.
        self._lock = threading.RLock()
        self._state: State = "closed"
        self._generation = 0
        self._until = 0.0
        self._probes_left = 0
        self._rejected = 0
        self._outcomes = self._config.new_window()

    @property
    def state(self) -> State:
        """The state now. An open breaker whose wait is over stays open until the next call comes."""
        return self._state

    def snapshot(self) -> BreakerSnapshot:
        """State and counts, all of one moment."""
        with self._lock:
            now = self._clock()
            self._outcomes.slide(now)
            return BreakerSnapshot(
                state=self._state,
                calls=self._outcomes.calls,
                failed=self._outcomes.failed,
                slow=self._outcomes.slow,
                rejected=self._rejected,
                probes_left=self._probes_left,
                retry_after_s=0.0 if self._state == "closed" else max(0.0, self._until - now),
            )

    def acquire(self) -> Permit:
        """Leave for one call.

        Raises:
            Rejected: open, or half open with all probes under way.
        """
        with self._lock:
            if self._state == "closed":
                return Permit(self, self._generation)
            now = self._clock()
            transition = None
            if now >= self._until:
                transition = self._enter("half_open" if self._state == "open" else "open", now)
            if self._probes_left > 0:
                self._probes_left -= 1
                decision: Permit | Rejected = Permit(self, self._generation)
            else:
                self._rejected += 1
                decision = Rejected(self._state, max(0.0, self._until - now))
        self._announce(transition)
        if isinstance(decision, Rejected):
            raise decision
        return decision

    def _settle(self, permit: Permit, *, failed: bool | None, duration_s: float) -> None:
        with self._lock:
            generation, permit._generation = permit._generation, _SETTLED
            if generation != self._generation:  # settled before, or of a state that is over
                return
            if failed is None:
                self._probes_left += self._state == "half_open"
                return
            now = self._clock()
            self._outcomes.add(failed=failed, slow=duration_s > self._config.slow_call_s, now=now)
            transition = self._judge(now)
        self._announce(transition)

    def _judge(self, now: float) -> Transition | None:
        """What the outcomes so far decide: nothing before there are enough of them."""
        seen, config = self._outcomes, self._config
        if not seen.failed and not seen.slow and self._state == "closed":
            return None
        if seen.calls < (config.minimum_calls if self._state == "closed" else config.probes):
            return None
        if seen.failed / seen.calls >= config.failure_rate or seen.slow / seen.calls >= config.slow_call_rate:
            return self._enter("open", now)
        return self._enter("closed", now) if self._state == "half_open" else None

    def _enter(self, state: State, now: float) -> Transition:
        left = self._outcomes
        transition = Transition(before=self._state, after=state, calls=left.calls, failed=left.failed, slow=left.slow)
        self._state = state
        self._generation += 1
        self._probes_left = self._config.probes if state == "half_open" else 0
        self._until = now + (self._config.max_half_open_s if state == "half_open" else self._config.wait_open_s)
        if state != "open":  # open, a snapshot still shows what tripped it
            self._outcomes = self._config.new_window() if state == "closed" else LastCalls(self._config.probes)
        return transition

    def _announce(self, transition: Transition | None) -> None:
        if transition is None or self._on_transition is None:
            return
        try:
            self._on_transition(transition)
        except Exception:
            _log.exception("a breaker's on_transition hook failed at %s -> %s", transition.before, transition.after)


# ------------------------------------------------------------------------------------------- windows of outcomes

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
