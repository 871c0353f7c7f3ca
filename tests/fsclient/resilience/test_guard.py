"""A call through the policies around a store: what counts, what is tried again, and as which error it ends."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator

import pytest
from redis.exceptions import AuthenticationError as RedisAuthenticationError
from redis.exceptions import ConnectionError as RedisConnectionError

from feature_repo.stores.redis.codec import CodecError
from fsclient.errors import AuthenticationError, CircuitOpenError, FeatureStoreUnavailable, RequestTimeout
from fsclient.resilience.breaker import BreakerConfig, CircuitBreaker
from fsclient.resilience.guard import Guard
from fsclient.resilience.retry import CALL_STATS, CallStats, Deadline, RetryBudget, RetryPolicy


class Call:
    """A call through a guard, whose store answers as the test says, attempt by attempt."""

    def __init__(self, *outcomes: str | Exception, retries: int = 1) -> None:
        self.breaker = CircuitBreaker(BreakerConfig(window_calls=4, minimum_calls=2, failure_rate=0.5, probes=1))
        self.budget = RetryBudget(reserve=1)
        retry = RetryPolicy(max_attempts=1 + retries, base_s=0.0, budget=self.budget)
        self.guard = Guard(store="online", breaker=self.breaker, retry=retry)
        self.outcomes: Iterator[str | Exception] = iter(outcomes)
        self.stats = CallStats()

    async def attempt(self) -> str:
        outcome = next(self.outcomes, None)
        if outcome is None:
            await asyncio.Event().wait()
        if isinstance(outcome, Exception):
            raise outcome
        return str(outcome)

    async def run(self, timeout_s: float = 60.0) -> str:
        CALL_STATS.set(self.stats)
        return await self.guard.run(self.attempt, Deadline.after(timeout_s))

    @property
    def counted(self) -> tuple[int, int]:
        """Calls and failed calls that the breaker has counted."""
        snapshot = self.breaker.snapshot()
        return snapshot.calls, snapshot.failed


async def test_an_answer_counts_as_a_success() -> None:
    call = Call("first")
    assert await call.run() == "first"
    assert (call.counted, call.stats.attempts) == ((1, 0), 1)


async def test_a_failed_first_attempt_is_retried_and_counts_once() -> None:
    """Fault: the connection is cut while the reply is due."""
    call = Call(RedisConnectionError("lost"), "second")
    assert await call.run() == "second"
    assert (call.counted, call.stats.attempts) == ((1, 0), 2)


async def test_the_first_attempt_is_one_of_those_allowed() -> None:
    call = Call(RedisConnectionError("lost"), "second", retries=0)
    with pytest.raises(FeatureStoreUnavailable, match="out of reach"):
        await call.run()
    assert call.counted == (1, 1)


async def test_its_retry_is_paid_from_the_budget() -> None:
    call = Call(RedisConnectionError("lost"), "second")
    assert call.budget.withdraw()
    with pytest.raises(FeatureStoreUnavailable):
        await call.run()


async def test_no_reply_by_the_deadline_is_a_timeout() -> None:
    """Fault: a black hole."""
    call = Call()
    with pytest.raises(RequestTimeout):
        await call.run(timeout_s=0.001)
    assert call.counted == (1, 1)


async def test_a_reply_that_cannot_be_decoded_is_a_failure_of_the_store() -> None:
    call = Call(CodecError("no double"))
    with pytest.raises(FeatureStoreUnavailable):
        await call.run()
    assert call.counted == (1, 1)


async def test_refused_credentials_are_not_tried_again_and_count_nothing() -> None:
    call = Call(RedisAuthenticationError("WRONGPASS"), "second")
    with pytest.raises(AuthenticationError):
        await call.run()
    assert (call.counted, call.stats.attempts) == ((0, 0), 1)


@pytest.mark.parametrize("mistake", [KeyError("EUR/USX"), ZeroDivisionError()])
async def test_a_mistake_is_not_tried_again_and_counts_nothing(mistake: Exception) -> None:
    call = Call(mistake, "second")
    with pytest.raises(type(mistake)):
        await call.run()
    assert (call.counted, call.stats.attempts) == ((0, 0), 1)


async def test_a_cancelled_call_counts_nothing() -> None:
    call = Call()
    task = asyncio.create_task(call.run())
    await asyncio.sleep(0)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert call.counted == (0, 0)


async def test_an_open_breaker_asks_nobody_and_says_for_how_long() -> None:
    call = Call("first")
    for _ in range(2):
        call.breaker.acquire().failure(0.0)
    with pytest.raises(CircuitOpenError, match="asked again in") as error:
        await call.run()
    assert error.value.retry_after_s > 0
    assert call.stats.attempts == 0
