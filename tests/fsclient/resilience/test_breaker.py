from __future__ import annotations

import contextlib
import logging
import threading
from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fsclient.resilience.breaker import (
    BUCKETS,
    BreakerConfig,
    CircuitBreaker,
    LastCalls,
    LastSeconds,
    Permit,
    Rejected,
    Transition,
)
from tests.fsclient.clock import Clock

SMALL = BreakerConfig(
    window_calls=10,
    minimum_calls=4,
    failure_rate=0.5,
    slow_call_s=1.0,
    wait_open_s=10.0,
    probes=3,
    max_half_open_s=30.0,
)


@pytest.fixture
def clock() -> Clock:
    return Clock(1000.0)


@pytest.fixture
def breaker(clock: Clock) -> CircuitBreaker:
    return CircuitBreaker(SMALL, clock=clock)


def fail(breaker: CircuitBreaker, times: int = 1) -> None:
    for _ in range(times):
        breaker.acquire().failure(0.1)


def succeed(breaker: CircuitBreaker, times: int = 1, duration_s: float = 0.1) -> None:
    for _ in range(times):
        breaker.acquire().success(duration_s)


def half_open(breaker: CircuitBreaker, clock: Clock) -> Permit:
    """Trip it and take the first probe."""
    fail(breaker, SMALL.minimum_calls)
    clock.now += SMALL.wait_open_s
    return breaker.acquire()


def test_it_stays_closed_below_the_minimum_of_calls(breaker: CircuitBreaker) -> None:
    fail(breaker, SMALL.minimum_calls - 1)
    assert breaker.state == "closed"


def test_it_opens_at_the_failure_rate_not_below(breaker: CircuitBreaker) -> None:
    succeed(breaker, 3)
    fail(breaker, 2)
    assert breaker.state == "closed"  # 2 of 5
    fail(breaker)
    assert breaker.state == "open"  # 3 of 6


def test_open_it_rejects_and_says_for_how_long(breaker: CircuitBreaker, clock: Clock) -> None:
    fail(breaker, 4)
    clock.now += 4.0
    with pytest.raises(Rejected, match=r"open; ask again in 6 s") as rejected:
        breaker.acquire()
    assert rejected.value.retry_after_s == 6.0
    assert rejected.value.state == "open"
    assert breaker.snapshot().rejected == 1


def test_slow_answers_open_it_although_none_failed(clock: Clock) -> None:
    config = BreakerConfig(window_calls=10, minimum_calls=4, slow_call_rate=0.5, slow_call_s=1.0)
    breaker = CircuitBreaker(config, clock=clock)
    succeed(breaker, 3, duration_s=1.0)  # exactly the limit is not slow
    succeed(breaker, 2, duration_s=1.1)
    assert breaker.state == "closed"
    succeed(breaker, 1, duration_s=1.1)
    assert breaker.state == "open"


def test_fifty_callers_make_no_more_probes_than_permitted(breaker: CircuitBreaker, clock: Clock) -> None:
    fail(breaker, 4)
    clock.now += 10.0
    barrier = threading.Barrier(50)
    permits: list[Permit] = []
    rejected: list[Rejected] = []

    def caller() -> None:
        barrier.wait()
        try:
            permits.append(breaker.acquire())
        except Rejected as rejection:
            rejected.append(rejection)

    threads = [threading.Thread(target=caller) for _ in range(50)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(permits) == SMALL.probes
    assert len(rejected) == 50 - SMALL.probes
    assert {r.state for r in rejected} == {"half_open"}
    assert all(0 < r.retry_after_s <= SMALL.max_half_open_s for r in rejected)


def test_half_open_it_closes_after_all_probes_succeeded(breaker: CircuitBreaker, clock: Clock) -> None:
    first = half_open(breaker, clock)
    first.success(0.1)
    succeed(breaker)
    assert breaker.state == "half_open"
    succeed(breaker)
    assert breaker.state == "closed"
    assert breaker.snapshot().calls == 0  # the outage's failures are forgotten


def test_half_open_it_reopens_when_the_probes_fail(breaker: CircuitBreaker, clock: Clock) -> None:
    half_open(breaker, clock).failure(0.1)
    fail(breaker)
    succeed(breaker)
    assert breaker.state == "open"  # 2 of 3
    with pytest.raises(Rejected) as rejected:
        breaker.acquire()
    assert rejected.value.retry_after_s == SMALL.wait_open_s


@pytest.mark.parametrize("settle", [lambda p: p.success(0.1), lambda p: p.failure(0.1), lambda p: p.cancel()])
def test_a_call_from_before_the_trip_changes_nothing_afterwards(
    breaker: CircuitBreaker, clock: Clock, settle: Callable[[Permit], None]
) -> None:
    stale = [breaker.acquire() for _ in range(20)]
    probe = half_open(breaker, clock)
    before = breaker.snapshot()
    for permit in stale:
        settle(permit)
    assert breaker.snapshot() == before
    assert breaker.state == "half_open"
    probe.success(0.1)
    succeed(breaker, 2)
    assert breaker.state == "closed"
    before = breaker.snapshot()
    probe.failure(0.1)
    assert breaker.snapshot() == before


def test_a_probe_of_an_earlier_half_open_does_not_count_in_this_one(breaker: CircuitBreaker, clock: Clock) -> None:
    earlier = half_open(breaker, clock)
    fail(breaker, 2)
    clock.now += SMALL.max_half_open_s
    with pytest.raises(Rejected):
        breaker.acquire()
    clock.now += SMALL.wait_open_s
    breaker.acquire().success(0.1)
    succeed(breaker)
    earlier.success(0.1)
    assert breaker.state == "half_open"


def test_a_cancelled_probe_is_neither_good_nor_bad_and_free_again(breaker: CircuitBreaker, clock: Clock) -> None:
    first = half_open(breaker, clock)
    for _ in range(100):
        breaker.acquire().cancel()
    assert breaker.snapshot().calls == 0
    assert breaker.snapshot().probes_left == SMALL.probes - 1
    first.cancel()
    first.cancel()
    assert breaker.snapshot().probes_left == SMALL.probes


def test_cancelled_calls_do_not_count_when_closed(breaker: CircuitBreaker) -> None:
    for _ in range(100):
        breaker.acquire().cancel()
    assert breaker.snapshot().calls == 0


def test_a_permit_counts_once(breaker: CircuitBreaker) -> None:
    permit = breaker.acquire()
    for _ in range(10):
        permit.failure(0.1)
        permit.success(0.1)
    assert breaker.snapshot().calls == 1
    assert breaker.snapshot().failed == 1


def test_probes_that_never_end_do_not_hold_it_half_open_for_ever(breaker: CircuitBreaker, clock: Clock) -> None:
    half_open(breaker, clock)
    breaker.acquire()
    breaker.acquire()
    clock.now += SMALL.max_half_open_s
    with pytest.raises(Rejected):
        breaker.acquire()
    assert breaker.state == "open"
    clock.now += SMALL.wait_open_s
    succeed(breaker, SMALL.probes)
    assert breaker.state == "closed"


def test_a_window_of_time_forgets(clock: Clock) -> None:
    breaker = CircuitBreaker(BreakerConfig(window_calls=None, window_s=16.0, minimum_calls=4), clock=clock)
    fail(breaker, 3)
    clock.now += 17.0
    assert breaker.snapshot().calls == 0
    fail(breaker, 3)
    assert breaker.state == "closed"
    fail(breaker)
    assert breaker.state == "open"


def test_hooks_hear_every_change_with_what_led_to_it(clock: Clock) -> None:
    transitions: list[Transition] = []
    breaker = CircuitBreaker(SMALL, clock=clock, on_transition=transitions.append)
    half_open(breaker, clock).success(0.1)
    succeed(breaker, 2)
    assert [(t.before, t.after) for t in transitions] == [
        ("closed", "open"),
        ("open", "half_open"),
        ("half_open", "closed"),
    ]
    assert (transitions[0].calls, transitions[0].failed) == (4, 4)
    assert (transitions[2].calls, transitions[2].failed) == (3, 0)


def test_a_failing_hook_is_logged_and_breaks_no_call(clock: Clock, caplog: pytest.LogCaptureFixture) -> None:
    def hook(_: Transition) -> None:
        raise RuntimeError("the pager is down")

    breaker = CircuitBreaker(SMALL, clock=clock, on_transition=hook)
    with caplog.at_level(logging.ERROR, "feature_store_client"):
        fail(breaker, 4)
    assert breaker.state == "open"
    assert "the pager is down" in caplog.text


def test_a_hook_may_use_the_breaker(clock: Clock) -> None:
    """It is called outside of the lock: another thread can read the breaker while it runs."""
    states: list[str] = []

    def hook(_: Transition) -> None:
        reader = threading.Thread(target=lambda: states.append(breaker.snapshot().state))
        reader.start()
        reader.join(5)

    breaker = CircuitBreaker(SMALL, clock=clock, on_transition=hook)
    fail(breaker, 4)
    assert states == ["open"]


@pytest.mark.parametrize(
    ("settings", "offender"),
    [
        ({"minimum_calls": 0}, "minimum_calls"),
        ({"probes": 0}, "probes"),
        ({"window_calls": 0, "minimum_calls": 1}, "window_calls"),
        ({"failure_rate": 0.0}, "failure_rate"),
        ({"failure_rate": 50}, "failure_rate"),
        ({"slow_call_rate": float("nan")}, "slow_call_rate"),
        ({"slow_call_s": -1.0}, "slow_call_s"),
        ({"wait_open_s": float("inf")}, "wait_open_s"),
        ({"max_half_open_s": float("nan")}, "max_half_open_s"),
        ({"window_s": 10.0}, "window_calls or window_s"),
        ({"window_calls": None}, "window_calls or window_s"),
        ({"window_calls": 5, "minimum_calls": 6}, "minimum_calls=6"),
    ],
)
def test_a_config_that_cannot_be_meant_is_refused(settings: dict[str, Any], offender: str) -> None:
    with pytest.raises(ValueError, match=offender):
        BreakerConfig(**settings)


outcomes = st.lists(st.tuples(st.booleans(), st.booleans(), st.floats(0, 3)), max_size=60)


@given(outcomes, st.integers(1, 12))
def test_the_last_calls_are_what_a_plain_list_says(calls: list[tuple[bool, bool, float]], size: int) -> None:
    window = LastCalls(size)
    for failed, slow, _ in calls:
        window.add(failed=failed, slow=slow, now=0.0)
    last = calls[-size:]
    assert (window.calls, window.failed, window.slow) == (len(last), sum(c[0] for c in last), sum(c[1] for c in last))


@given(outcomes, st.floats(0.5, 20))
def test_the_last_seconds_hold_all_that_is_young_and_nothing_that_is_old(
    calls: list[tuple[bool, bool, float]], length_s: float
) -> None:
    window, now, recorded = LastSeconds(length_s), 50.0, []
    for failed, slow, passed_s in calls:
        now += passed_s
        window.add(failed=failed, slow=slow, now=now)
        recorded.append((now, failed, slow))
    window.slide(now)
    sure = [c for c in recorded if c[0] > now - length_s * (1 - 1 / BUCKETS) + 1e-6]
    possible = [c for c in recorded if c[0] >= now - length_s - 1e-6]
    assert len(sure) <= window.calls <= len(possible)
    assert sum(c[1] for c in sure) <= window.failed <= sum(c[1] for c in possible)
    assert sum(c[2] for c in sure) <= window.slow <= sum(c[2] for c in possible)


steps = st.lists(
    st.one_of(
        st.just(("acquire", 0)),
        st.tuples(st.sampled_from(["success", "failure", "cancel"]), st.integers(0, 50)),
        st.tuples(st.just("pass"), st.integers(1, 40)),
    ),
    max_size=120,
)


@given(steps)
def test_whatever_happens_probes_stay_capped_and_it_can_always_recover(history: list[tuple[str, int]]) -> None:
    clock, transitions = Clock(1000.0), []
    breaker = CircuitBreaker(SMALL, clock=clock, on_transition=transitions.append)
    permits: list[tuple[Permit, int]] = []
    for step, number in history:
        if step == "acquire":
            with contextlib.suppress(Rejected):
                permits.append((breaker.acquire(), len(transitions)))
                assert breaker.state != "open"
        elif step == "pass":
            clock.now += number
        elif permits:
            permit, generation = permits.pop(number % len(permits))
            before = len(transitions)
            permit.cancel() if step == "cancel" else getattr(permit, step)(0.1)
            assert generation == before or len(transitions) == before  # a stale permit moves nothing
        if breaker.state == "half_open":
            under_way = sum(generation == len(transitions) for _, generation in permits)
            assert under_way + breaker.snapshot().calls + breaker.snapshot().probes_left == SMALL.probes
    for _ in range(3):  # the store is well again: however it stood, it closes
        clock.now += SMALL.max_half_open_s + SMALL.wait_open_s
        for _ in range(SMALL.window_calls or 0):
            try:
                breaker.acquire().success(0.1)
            except Rejected:
                break
    assert breaker.state == "closed"
