"""Around every call to a store: breaker, then retry, under the caller's deadline; vendor errors become ours."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable
from contextvars import ContextVar
from dataclasses import dataclass
from typing import Any, TypeVar

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
R = TypeVar("R")

TRANSIENT: tuple[type[Exception], ...] = (RedisConnectionError, RedisTimeoutError, RedisClusterException, OSError)
"""What another attempt may mend."""
REFUSED: tuple[type[Exception], ...] = (RedisAuthenticationError, NoPermissionError)
"""Refused credentials: to redis-py they are a connection error like others, but no other attempt mends them."""
OUTAGE: tuple[type[Exception], ...] = (
    *(RedisError, RedisClusterException),  # which is not of its family
    *(OSError, CodecError, EmbeddedServerError, DeadlineExceededError),
)
"""What says that a store cannot answer now."""


_tally: ContextVar[CallStats | None] = ContextVar("fsclient_tally", default=None)


class CallStats:
    """How one call was answered, for its metrics: whether the cache had it, and how often a store was asked for it."""

    __slots__ = ("attempts", "hit")

    def __init__(self) -> None:
        self.hit: bool | None = None
        self.attempts = 0

    def count(self) -> None:
        """Count what is asked on behalf of this call from here on, by the tasks that it starts too."""
        _tally.set(self)


@dataclass(frozen=True, slots=True, kw_only=True)
class Begun:
    """A call whose first attempt was made by ``Guard.begin`` and failed; ``Guard.run`` goes on with it."""

    permit: Permit
    started: float
    failure: Exception


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

    def begin(
        self,
        ask: Callable[[], asyncio.Future[R] | None],
        decode: Callable[[R], T],
        deadline: Deadline,
        *,
        answered: Callable[[T], None],
        failed: Callable[[Begun], None],
    ) -> bool:
        """Makes the first attempt without a task, which costs more than the read; most calls need no other.

        Args:
            ask: sends the question; None when that can't be done at once.
            decode: makes the answer of what the store replied.
            answered: gets the answer, in the turn of the loop in which it has come.
            failed: gets what ``run`` goes on with.

        Returns:
            Whether the attempt is under way: not while the breaker counts probes. Else nothing was done.
        """
        if self.breaker.state != "closed":
            return False
        try:
            future = ask()
        except TRANSIENT:
            return False
        if future is None:
            return False
        try:
            permit = self.breaker.acquire()
        except Rejected:  # another thread's call has tripped it just now
            future.cancel()
            return False
        tally = _tally.get()
        if tally is not None:
            tally.attempts += 1
        started = self.clock()
        timer = future.get_loop().call_later(deadline.remaining_s, _give_up, future)

        def ended(future: asyncio.Future[R]) -> None:
            timer.cancel()
            try:
                answer = decode(future.result())
            except Exception as error:
                failed(Begun(permit=permit, started=started, failure=error))
                return
            permit.success(self.clock() - started)
            self.retry.budget.deposit()
            answered(answer)

        future.add_done_callback(ended)
        return True

    async def run(self, attempt: Callable[[], Awaitable[T]], deadline: Deadline, begun: Begun | None = None) -> T:
        """What ``attempt`` gives.

        Args:
            begun: the call as ``begin`` has left it; a new one when not given.

        Raises:
            CircuitOpenError: the store failed too often just now and was not asked.
            RequestTimeout: the deadline passed.
            AuthenticationError: the store refuses the credentials; no outage, so the breaker does not count it.
            FeatureStoreUnavailable: the store failed in every attempt.
        """
        permit = self._permit() if begun is None else begun.permit
        started = self.clock() if begun is None else begun.started
        failed = None if begun is None else begun.failure
        tally = _tally.get()

        def counted(_: int) -> Awaitable[T]:
            if tally is not None:
                tally.attempts += 1
            return attempt()

        try:
            answer = await call(
                counted, policy=self.retry, deadline=deadline, on=TRANSIENT, never=REFUSED, failed=failed
            )
        except REFUSED as error:  # the store is well
            permit.cancel()
            raise AuthenticationError(
                f"{self.store} refuses the user or password of its URL, or the user may not read "
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

    def _permit(self) -> Permit:
        try:
            return self.breaker.acquire()
        except Rejected as rejected:
            raise CircuitOpenError(
                f"{self.store} failed too often; it is asked again in {rejected.retry_after_s:.1f} s",
                retry_after_s=rejected.retry_after_s,
            ) from None


def _give_up(future: asyncio.Future[Any]) -> None:
    if not future.done():
        future.set_exception(DeadlineExceededError("no answer within the deadline"))


def _translated(store: str, error: Exception) -> FeatureStoreUnavailable:
    if isinstance(error, DeadlineExceededError | RedisTimeoutError | asyncio.TimeoutError):
        return RequestTimeout(f"{store} did not answer in time; raise timeout_s or see `fstore status`")
    # The vendor's own text may hold the URL with its password, so only its kind is told.
    return FeatureStoreUnavailable(f"{store} is out of reach ({type(error).__name__}); see `fstore status`")
