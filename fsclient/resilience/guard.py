"""Around every call to a store: breaker, then retry, under the caller's deadline; vendor errors become ours."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import TypeVar

from redis.exceptions import AuthenticationError as RedisAuthenticationError
from redis.exceptions import ConnectionError as RedisConnectionError
from redis.exceptions import NoPermissionError, RedisClusterException, RedisError
from redis.exceptions import TimeoutError as RedisTimeoutError

from feature_repo.stores.redis.codec import CodecError
from feature_repo.stores.redis.embedded import EmbeddedServerError
from fsclient.errors import AuthenticationError, CircuitOpenError, FeatureStoreUnavailable, RequestTimeout
from fsclient.resilience.breaker import CircuitBreaker, Permit, Rejected
from fsclient.resilience.retry import Deadline, DeadlineExceededError, RetryPolicy, call

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
