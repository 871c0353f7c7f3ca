from __future__ import annotations

import asyncio
import math
import random
import selectors
from collections.abc import Awaitable, Callable, Coroutine
from itertools import count
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fsclient.resilience import guard
from fsclient.resilience.retry import CALL_STATS, CallStats, Deadline, DeadlineExceededError, RetryBudget, RetryPolicy
from tests.fsclient.clock import Clock


class VirtualTimeLoop(asyncio.SelectorEventLoop):
    """An event loop whose time jumps to the next timer instead of waiting for it."""

    def __init__(self) -> None:
        super().__init__(_NoWaiting(self))
        self.now = 0.0

    def time(self) -> float:
        return self.now


class _NoWaiting(selectors.SelectSelector):
    def __init__(self, loop: VirtualTimeLoop) -> None:
        super().__init__()
        self._loop = loop

    def select(self, timeout: float | None = None) -> Any:
        if timeout is None:
            raise AssertionError("the test would wait for ever")
        self._loop.now += timeout
        return super().select(0)


def run(main: Coroutine[Any, Any, Any]) -> Any:
    with asyncio.Runner(loop_factory=VirtualTimeLoop) as runner:
        return runner.run(main)


def now() -> float:
    return asyncio.get_running_loop().time()


def in_seconds(timeout_s: float) -> Deadline:
    return Deadline.after(timeout_s, clock=now)


async def call(attempt: Callable[[int], Awaitable[Any]], **options: Any) -> Any:
    """``guard.call`` whose attempts are numbered: 1 for the first."""
    numbers = count(1)
    return await guard.call(lambda: attempt(next(numbers)), **options)


def plenty() -> RetryBudget:
    return RetryBudget(reserve=1e6)


# --------------------------------------------------------------------------------------------------- deadline


def test_a_deadline_runs_down_and_expires() -> None:
    clock = Clock()
    deadline = Deadline.after(2.0, clock=clock)
    clock.now = 0.5
    assert (deadline.remaining_s, deadline.expired) == (1.5, False)
    clock.now = 2.0
    assert (deadline.remaining_s, deadline.expired) == (0.0, True)
    clock.now = 9.0
    assert (deadline.remaining_s, deadline.expired) == (0.0, True)


@pytest.mark.parametrize("timeout_s", [-1.0, math.nan])
def test_an_invalid_timeout_is_refused(timeout_s: float) -> None:
    with pytest.raises(ValueError, match="timeout_s"):
        Deadline.after(timeout_s)


# ----------------------------------------------------------------------------------------------------- policy


@given(
    attempt=st.integers(1, 10_000),
    share=st.floats(0, 1, exclude_max=True),
    base_s=st.floats(0, 5),
    more_s=st.floats(0, 60),
)
def test_a_delay_is_spread_over_zero_to_the_doubling_cap(
    attempt: int, share: float, base_s: float, more_s: float
) -> None:
    policy = RetryPolicy(
        max_attempts=attempt + 1, base_s=base_s, cap_s=base_s + more_s, budget=plenty(), uniform=lambda: share
    )
    delay_s = policy.next_delay(attempt, Deadline.after(math.inf))
    assert delay_s is not None
    assert delay_s == share * min(policy.cap_s, base_s * 2.0 ** min(attempt - 1, 1000))


def test_it_gives_up_after_the_last_attempt() -> None:
    policy = RetryPolicy(max_attempts=3)
    forever = Deadline.after(math.inf)
    assert policy.next_delay(2, forever) is not None
    assert policy.next_delay(3, forever) is None


def test_it_gives_up_when_the_wait_would_outlast_the_deadline_and_pays_nothing_for_it() -> None:
    budget = RetryBudget(reserve=1.0)
    policy = RetryPolicy(base_s=1.0, budget=budget, uniform=lambda: 0.5)
    clock = Clock()
    assert policy.next_delay(1, Deadline.after(0.5, clock=clock)) is None
    assert policy.next_delay(1, Deadline.after(0.51, clock=clock)) == 0.5
    assert not budget.withdraw()


@pytest.mark.parametrize(
    ("settings", "offender"),
    [
        ({"max_attempts": 0}, "max_attempts"),
        ({"base_s": -0.1}, "base_s"),
        ({"base_s": 3.0, "cap_s": 2.0}, "cap_s"),
        ({"cap_s": math.inf}, "cap_s"),
        ({"base_s": math.nan}, "base_s"),
    ],
)
def test_a_policy_that_cannot_be_meant_is_refused(settings: dict[str, Any], offender: str) -> None:
    with pytest.raises(ValueError, match=offender):
        RetryPolicy(**settings)


# ----------------------------------------------------------------------------------------------------- budget


@given(st.lists(st.booleans(), max_size=400), st.sampled_from([0.0, 0.1, 0.5]), st.integers(1, 20))
def test_retries_never_exceed_the_reserve_and_a_share_of_the_successes(
    calls: list[bool], ratio: float, reserve: int
) -> None:
    budget = RetryBudget(ratio=ratio, reserve=reserve)
    retries = 0
    for successful in calls:
        if successful:
            budget.deposit()
        else:
            retries += budget.withdraw()
    assert retries <= reserve + ratio * sum(calls) + 1e-9


def test_calls_that_succeed_earn_the_next_retry() -> None:
    budget = RetryBudget(ratio=0.5, reserve=1)
    assert budget.withdraw()

    async def attempt(_: int) -> None: ...

    async def main() -> None:
        await call(attempt, policy=RetryPolicy(budget=budget), deadline=in_seconds(1), on=OSError)

    run(main())
    assert not budget.withdraw()
    run(main())
    assert budget.withdraw()


@pytest.mark.parametrize(("settings", "offender"), [({"ratio": 1.1}, "ratio"), ({"reserve": 0.5}, "reserve")])
def test_a_budget_that_cannot_be_meant_is_refused(settings: dict[str, Any], offender: str) -> None:
    with pytest.raises(ValueError, match=offender):
        RetryBudget(**settings)


@pytest.mark.parametrize(("outage_s", "calls_per_s"), [(1, 100), (60, 5), (60, 100)])
def test_in_an_outage_of_any_length_retries_add_at_most_a_tenth(outage_s: int, calls_per_s: int) -> None:
    """Fault: the store refuses every connection for the whole outage, and every caller would like three attempts."""
    budget, uniform = RetryBudget(), random.Random(7).random
    attempts = {"before": 0, "during": 0, "after": 0}

    async def call_once(phase: str) -> None:
        async def attempt(_: int) -> str:
            attempts[phase] += 1
            if phase == "during":
                raise ConnectionError("refused")
            return "ok"

        policy = RetryPolicy(budget=budget, uniform=uniform)
        try:
            await call(attempt, policy=policy, deadline=in_seconds(1.0), on=ConnectionError)
        except ConnectionError:
            assert phase == "during"

    async def strategy() -> None:
        for phase, seconds in (("before", 10), ("during", outage_s), ("after", 10)):
            async with asyncio.TaskGroup() as group:
                for _ in range(seconds * calls_per_s):
                    group.create_task(call_once(phase))
                    await asyncio.sleep(1 / calls_per_s)

    run(strategy())
    calls = outage_s * calls_per_s
    assert calls < attempts["during"] <= 1.1 * calls
    assert attempts["after"] == 10 * calls_per_s


# ----------------------------------------------------------------------------------------------------- driver


def fast(**settings: Any) -> RetryPolicy:
    return RetryPolicy(base_s=0.1, budget=plenty(), uniform=lambda: 0.5, **settings)


def test_a_transient_failure_is_retried_after_the_policys_delay() -> None:
    attempts: list[tuple[int, float]] = []

    async def attempt(number: int) -> str:
        attempts.append((number, now()))
        if number < 3:
            raise ConnectionError("reset")
        return "answer"

    async def main() -> str:
        return await call(attempt, policy=fast(), deadline=in_seconds(5), on=ConnectionError)

    assert run(main()) == "answer"
    assert attempts == [(1, 0.0), (2, pytest.approx(0.05)), (3, pytest.approx(0.15))]


@pytest.mark.parametrize(("max_attempts", "expected"), [(1, 1), (3, 3)])
def test_every_attempt_is_counted_for_the_call_on_whose_behalf_it_is_made(max_attempts: int, expected: int) -> None:
    stats = CallStats()

    async def attempt(_: int) -> None:
        raise ConnectionError("reset")

    async def main() -> None:
        CALL_STATS.set(stats)
        await call(attempt, policy=fast(max_attempts=max_attempts), deadline=in_seconds(5), on=ConnectionError)

    with pytest.raises(ConnectionError):
        run(main())
    assert stats.attempts == expected


def test_the_last_failure_is_raised_as_it_is() -> None:
    async def attempt(number: int) -> None:
        raise ConnectionError(f"reset {number}")

    async def main() -> None:
        await call(attempt, policy=fast(max_attempts=2), deadline=in_seconds(5), on=(ConnectionError, OSError))

    with pytest.raises(ConnectionError, match="reset 2"):
        run(main())


def test_what_is_not_named_is_not_retried() -> None:
    attempts: list[int] = []

    async def attempt(number: int) -> None:
        attempts.append(number)
        raise KeyError("EUR/USX")

    async def main() -> None:
        await call(attempt, policy=fast(), deadline=in_seconds(5), on=ConnectionError)

    with pytest.raises(KeyError):
        run(main())
    assert attempts == [1]


def test_what_no_attempt_fixes_is_not_retried_though_its_family_is() -> None:
    async def attempt(number: int) -> None:
        raise ConnectionRefusedError(number)

    async def main() -> None:
        await call(attempt, policy=fast(), deadline=in_seconds(5), on=OSError, never=(ConnectionRefusedError,))

    with pytest.raises(ConnectionRefusedError, match="1"):
        asyncio.run(main())


def test_an_attempt_that_hangs_is_cut_off_at_the_deadline() -> None:
    """Fault: a black hole: the connection stands, the answer never comes."""
    cut: list[bool] = []

    async def attempt(_: int) -> None:
        try:
            await asyncio.Event().wait()
        finally:
            cut.append(True)

    async def main() -> float:
        with pytest.raises(DeadlineExceededError, match="1 attempts"):
            await call(attempt, policy=fast(), deadline=in_seconds(2), on=TimeoutError)
        return now()

    assert run(main()) == pytest.approx(2.0)
    assert cut == [True]


def test_later_attempts_get_only_what_is_left_of_the_deadline() -> None:
    """Fault: the store answers with an error after 0.9 s each time."""

    async def attempt(_: int) -> None:
        await asyncio.sleep(0.9)
        raise ConnectionError("reset by peer")

    async def main() -> float:
        with pytest.raises(DeadlineExceededError, match="3 attempts") as exceeded:
            await call(attempt, policy=fast(max_attempts=99), deadline=in_seconds(2), on=ConnectionError)
        assert exceeded.value.__cause__ is not None
        return now()

    assert run(main()) == pytest.approx(2.0)


def test_an_attempts_own_timeout_is_a_failure_like_others() -> None:
    async def attempt(number: int) -> int:
        if number == 1:
            raise TimeoutError("socket timed out")
        return number

    async def main() -> int:
        return await call(attempt, policy=fast(), deadline=in_seconds(5), on=TimeoutError)

    assert run(main()) == 2


def test_an_error_that_the_cut_off_provoked_is_a_passed_deadline() -> None:
    async def attempt(_: int) -> None:
        try:
            await asyncio.Event().wait()
        except asyncio.CancelledError:
            raise ConnectionError("closed while waiting") from None

    async def main() -> None:
        await call(attempt, policy=fast(), deadline=in_seconds(1), on=ConnectionError)

    with pytest.raises(DeadlineExceededError) as exceeded:
        run(main())
    assert isinstance(exceeded.value.__cause__, ConnectionError)


def test_with_a_deadline_that_has_passed_nothing_is_tried() -> None:
    async def attempt(_: int) -> None:
        raise AssertionError("tried")

    async def main() -> None:
        await call(attempt, policy=fast(), deadline=in_seconds(0), on=ConnectionError)

    with pytest.raises(DeadlineExceededError, match="0 attempts"):
        run(main())


@pytest.mark.parametrize("where", ["attempt", "wait"])
def test_cancellation_ends_the_call_at_once(where: str) -> None:
    attempts: list[int] = []

    async def attempt(number: int) -> None:
        attempts.append(number)
        if where == "attempt":
            await asyncio.Event().wait()
        raise ConnectionError("reset")

    async def main() -> None:
        policy = RetryPolicy(base_s=2, budget=plenty(), uniform=lambda: 0.99)
        task = asyncio.create_task(call(attempt, policy=policy, deadline=in_seconds(60), on=Exception))
        await asyncio.sleep(0.5)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        assert now() == pytest.approx(0.5)

    run(main())
    assert attempts == [1]


@pytest.mark.parametrize("on", [BaseException, asyncio.CancelledError, (OSError, KeyboardInterrupt), None, "OSError"])
def test_only_ordinary_exceptions_can_be_retried(on: Any) -> None:
    async def attempt(_: int) -> None: ...

    async def main() -> None:
        await call(attempt, policy=fast(), deadline=in_seconds(1), on=on)

    with pytest.raises(TypeError, match="on= takes exception classes"):
        run(main())


def test_no_deadline_is_no_limit() -> None:
    async def attempt(_: int) -> float:
        await asyncio.sleep(1e6)
        return now()

    async def main() -> float:
        return await call(attempt, policy=fast(), deadline=in_seconds(math.inf), on=OSError)

    assert run(main()) == pytest.approx(1e6)
