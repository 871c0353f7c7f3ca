"""The first attempt without a task, and what follows when it fails."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any

import pytest
from redis.exceptions import AuthenticationError as RedisAuthenticationError
from redis.exceptions import ConnectionError as RedisConnectionError

from feature_repo.stores.redis.codec import CodecError
from fsclient.errors import AuthenticationError, FeatureStoreUnavailable, RequestTimeout
from fsclient.resilience.breaker import BreakerConfig, CircuitBreaker
from fsclient.resilience.guard import Begun, CallStats, Guard
from fsclient.resilience.retry import Deadline, RetryBudget, RetryPolicy


class Call:
    """A call through a guard, whose store is asked by a future that the test settles."""

    def __init__(self, *, retries: int = 1) -> None:
        self.breaker = CircuitBreaker(BreakerConfig(window_calls=4, minimum_calls=2, failure_rate=0.5, probes=1))
        self.budget = RetryBudget(reserve=1)
        retry = RetryPolicy(max_attempts=1 + retries, base_s=0.0, budget=self.budget)
        self.guard = Guard(store="online", breaker=self.breaker, retry=retry)
        self.future: asyncio.Future[bytes] = asyncio.get_running_loop().create_future()
        self.answers: list[str] = []
        self.failures: list[Begun] = []

    def begin(
        self,
        ask: Callable[[], Any] | None = None,
        *,
        decode: Callable[[bytes], str] = bytes.decode,
        timeout_s: float = 60.0,
    ) -> bool:
        return self.guard.begin(
            ask or (lambda: self.future),
            decode,
            Deadline.after(timeout_s),
            answered=self.answers.append,
            failed=self.failures.append,
        )

    async def go_on(self, answer: str | Exception = "second", timeout_s: float = 60.0) -> str:
        (begun,) = self.failures

        async def attempt() -> str:
            if isinstance(answer, Exception):
                raise answer
            return answer

        return await self.guard.run(attempt, Deadline.after(timeout_s), begun)


async def settled() -> None:
    await asyncio.sleep(0)


async def test_an_answer_needs_no_task_and_counts_as_a_success() -> None:
    call, tally = Call(), CallStats()
    tally.count()
    before = asyncio.all_tasks()
    assert call.begin()
    call.future.set_result(b"first")
    await settled()
    assert (call.answers, call.failures, tally.attempts) == (["first"], [], 1)
    assert asyncio.all_tasks() == before
    assert (call.breaker.snapshot().calls, call.breaker.snapshot().failed) == (1, 0)


async def test_a_failed_first_attempt_is_retried_and_counts_once() -> None:
    """Fault: the connection is cut while the reply is due."""
    call, tally = Call(), CallStats()
    tally.count()
    assert call.begin()
    call.future.set_exception(RedisConnectionError("lost"))
    await settled()
    assert call.breaker.snapshot().calls == 0  # the call is not over
    assert await call.go_on() == "second"
    assert (call.answers, tally.attempts) == ([], 2)
    assert (call.breaker.snapshot().calls, call.breaker.snapshot().failed) == (1, 0)


async def test_the_first_attempt_is_one_of_those_allowed() -> None:
    call = Call(retries=0)
    assert call.begin()
    call.future.set_exception(RedisConnectionError("lost"))
    await settled()
    with pytest.raises(FeatureStoreUnavailable, match="out of reach"):
        await call.go_on()
    assert (call.breaker.snapshot().calls, call.breaker.snapshot().failed) == (1, 1)


async def test_its_retry_is_paid_from_the_budget() -> None:
    call = Call()
    assert call.budget.withdraw()
    assert call.begin()
    call.future.set_exception(RedisConnectionError("lost"))
    await settled()
    with pytest.raises(FeatureStoreUnavailable):
        await call.go_on()


async def test_no_reply_by_the_deadline_is_a_timeout() -> None:
    """Fault: a black hole."""
    call = Call()
    assert call.begin(timeout_s=0.0)
    while not call.failures:
        await asyncio.sleep(0)
    with pytest.raises(RequestTimeout):
        await call.go_on(timeout_s=0.0)
    assert call.breaker.snapshot().failed == 1


async def test_a_reply_that_cannot_be_decoded_is_a_failure_of_the_store() -> None:
    def decode(_: bytes) -> str:
        raise CodecError("no double")

    call = Call()
    assert call.begin(decode=decode)
    call.future.set_result(b"torn")
    await settled()
    with pytest.raises(FeatureStoreUnavailable):
        await call.go_on()
    assert (call.answers, call.breaker.snapshot().failed) == ([], 1)


async def test_refused_credentials_are_not_tried_again_and_count_nothing() -> None:
    call = Call()
    assert call.begin()
    call.future.set_exception(RedisAuthenticationError("WRONGPASS"))
    await settled()
    with pytest.raises(AuthenticationError):
        await call.go_on()
    assert call.breaker.snapshot().calls == 0


@pytest.mark.parametrize("connection", [None, RedisConnectionError("closed")])
async def test_without_an_open_connection_nothing_is_begun(connection: Exception | None) -> None:
    def ask() -> None:
        if connection is not None:
            raise connection

    call = Call()
    assert not call.begin(ask)
    assert call.breaker.snapshot().calls == 0


async def test_an_open_breaker_and_its_probes_are_left_to_the_ordinary_way() -> None:
    call, asked = Call(), []
    for _ in range(2):
        call.breaker.acquire().failure(0.0)
    assert call.breaker.state == "open"
    assert not call.begin(lambda: asked.append(1))
    assert asked == []
