"""Around every call to a store: breaker, then retry, under the caller's deadline; vendor errors become ours.

Retrying is done here and nowhere below, or attempts would multiply.
"""

from __future__ import annotations

import asyncio
import math
import time
from collections.abc import Awaitable, Callable, Hashable
from dataclasses import dataclass
from functools import cache
from typing import Any, TypeVar

from redis.exceptions import AuthenticationError as RedisAuthenticationError
from redis.exceptions import ConnectionError as RedisConnectionError
from redis.exceptions import NoPermissionError, RedisClusterException, RedisError
from redis.exceptions import TimeoutError as RedisTimeoutError

from feature_repo.stores.redis.codec import CodecError
from feature_repo.stores.redis.embedded import EmbeddedServerError
from fsclient.errors import AuthenticationError, CircuitOpenError, FeatureStoreUnavailable, RequestTimeout
from fsclient.resilience.breaker import CircuitBreaker, Permit, Rejected
from fsclient.resilience.retry import CALL_STATS, Deadline, DeadlineExceededError, RetryPolicy

T = TypeVar("T")

TRANSIENT: tuple[type[Exception], ...] = (RedisConnectionError, RedisTimeoutError, RedisClusterException, OSError)
"""What another attempt may fix."""
REFUSED: tuple[type[Exception], ...] = (RedisAuthenticationError, NoPermissionError)
"""Refused credentials: to redis-py they are a connection error like others, but no other attempt fixes them."""
OUTAGE: tuple[type[Exception], ...] = (
    *(RedisError, RedisClusterException),  # which is not of its family
    *(OSError, CodecError, EmbeddedServerError, DeadlineExceededError),
)
"""What says that a store cannot answer now."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Guard:
    """The policies around one store.

    Attributes:
        store: what it is called in messages, such as "the online store".
        breaker, retry: shared by all calls to it.
    """

    store: str
    breaker: CircuitBreaker
    retry: RetryPolicy
    clock: Callable[[], float] = time.monotonic

    async def run(self, attempt: Callable[[], Awaitable[T]], deadline: Deadline) -> T:
        """What ``attempt`` returns.

        Raises:
            CircuitOpenError: the store failed too often just now and was not asked.
            RequestTimeout: the deadline passed.
            AuthenticationError: the store refuses the credentials; no outage, so the breaker does not count it.
            FeatureStoreUnavailable: the store failed in every attempt.
        """
        permit = self._permit()
        started = self.clock()
        try:
            answer = await call(attempt, policy=self.retry, deadline=deadline, on=TRANSIENT, never=REFUSED)
        except REFUSED as error:  # the store is healthy
            permit.cancel()
            raise AuthenticationError(
                f"{self.store} refuses the user or password of its URL, or the user may not read "
                f"({type(error).__name__}); correct FSTORE_REDIS_URL"
            ) from None
        except OUTAGE as error:
            permit.failure(self.clock() - started)
            raise _translated(self.store, error) from error
        except BaseException:  # cancelled, or a mistake of ours or the caller's: says nothing about the store
            permit.cancel()
            raise
        permit.success(self.clock() - started)
        return answer

    def _permit(self) -> Permit:
        try:
            return self.breaker.acquire()
        except Rejected as rejected:
            raise CircuitOpenError(
                f"{self.store} failed too often; it is asked again in {rejected.retry_after_s:.1f} s",
                retry_after_s=rejected.retry_after_s,
            ) from None


def _translated(store: str, error: Exception) -> FeatureStoreUnavailable:
    if isinstance(error, DeadlineExceededError | RedisTimeoutError | asyncio.TimeoutError):
        return RequestTimeout(f"{store} did not answer in time; raise timeout_s or see `fstore status`")
    # The vendor's own text may hold the URL with its password, so only its kind is shown.
    return FeatureStoreUnavailable(f"{store} is out of reach ({type(error).__name__}); see `fstore status`")


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
    while (remaining_s := deadline.at - deadline.clock()) > 0:
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
            if not policy.budget.is_full:
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
