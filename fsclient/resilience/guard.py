"""Around every call to a store: breaker, then retry, under the caller's deadline; vendor errors become ours."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable
from contextvars import ContextVar
from dataclasses import dataclass
from typing import TypeVar

from redis.exceptions import AuthenticationError as RedisAuthenticationError
from redis.exceptions import ConnectionError as RedisConnectionError
from redis.exceptions import NoPermissionError, RedisClusterException, RedisError
from redis.exceptions import TimeoutError as RedisTimeoutError

from feature_repo.stores.codec import CodecError
from feature_repo.stores.embedded import EmbeddedServerError
from fsclient.errors import AuthenticationError, CircuitOpenError, FeatureStoreUnavailable, RequestTimeout
from fsclient.resilience.breaker import CircuitBreaker, Rejected
from fsclient.resilience.retry import Deadline, DeadlineExceededError, RetryPolicy, call

T = TypeVar("T")

TRANSIENT: tuple[type[Exception], ...] = (RedisConnectionError, RedisTimeoutError, RedisClusterException, OSError)
"""What another attempt may mend."""
REFUSED: tuple[type[Exception], ...] = (RedisAuthenticationError, NoPermissionError)
"""Refused credentials: to redis-py they are a connection error like others, but no other attempt mends them."""
OUTAGE: tuple[type[Exception], ...] = (
    *(RedisError, RedisClusterException),  # which is not of its family
    *(OSError, CodecError, EmbeddedServerError, DeadlineExceededError),
)
"""What says that a store cannot answer now."""


_tally: ContextVar[Tally | None] = ContextVar("fsclient_tally", default=None)


class Tally:
    """How one call was answered, for its metrics: whether the cache had it, and how often a store was asked for it."""

    __slots__ = ("attempts", "hit")

    def __init__(self) -> None:
        self.hit: bool | None = None
        self.attempts = 0

    def count(self) -> None:
        """Count what is asked on behalf of this call from here on, by the tasks that it starts too."""
        _tally.set(self)


@dataclass(frozen=True, slots=True, kw_only=True)
class Guard:
    """The policies around one store.

    Attributes:
        store: its name, for messages.
        breaker, retry: shared by all calls to it.
    """

    store: str
    breaker: CircuitBreaker
    retry: RetryPolicy
    clock: Callable[[], float] = time.monotonic

    async def run(self, attempt: Callable[[], Awaitable[T]], deadline: Deadline) -> T:
        """What ``attempt`` gives.

        Raises:
            CircuitOpenError: the store failed too often just now and was not asked.
            RequestTimeout: the deadline passed.
            AuthenticationError: the store refuses the credentials; no outage, so the breaker does not count it.
            FeatureStoreUnavailable: the store failed in every attempt.
        """
        try:
            permit = self.breaker.acquire()
        except Rejected as rejected:
            raise CircuitOpenError(
                f"the {self.store} store failed too often; it is asked again in {rejected.retry_after_s:.1f} s",
                retry_after_s=rejected.retry_after_s,
            ) from None
        tally = _tally.get()

        def counted(_: int) -> Awaitable[T]:
            if tally is not None:
                tally.attempts += 1
            return attempt()

        started = self.clock()
        try:
            answer = await call(counted, policy=self.retry, deadline=deadline, on=TRANSIENT, never=REFUSED)
        except REFUSED as error:  # the store is well
            permit.cancel()
            raise AuthenticationError(
                f"the {self.store} store refuses the user or password of its URL, or the user may not read "
                f"({type(error).__name__}); correct FSTORE_REDIS_URL"
            ) from None
        except OUTAGE as error:
            permit.failure(self.clock() - started)
            raise _translated(self.store, error) from error
        except BaseException:  # cancelled, or somebody's mistake: says nothing about the store
            permit.cancel()
            raise
        permit.success(self.clock() - started)
        return answer


def _translated(store: str, error: Exception) -> FeatureStoreUnavailable:
    if isinstance(error, DeadlineExceededError | RedisTimeoutError | asyncio.TimeoutError):
        return RequestTimeout(f"the {store} store did not answer in time; raise timeout_s or see `fstore status`")
    # The vendor's own text may hold the URL with its password, so only its kind is told.
    return FeatureStoreUnavailable(f"the {store} store is out of reach ({type(error).__name__}); see `fstore status`")
