"""Leases in one process: which run gets which symbols, and that tokens and stamps only ever rise."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from sqlalchemy import create_engine, text

from feature_repo.moments import to_us
from flows.ledger import LeaseLost, Ledger, LedgerUnavailable
from flows.ledger.leases import Lease
from tests.flows.ledger.conftest import NOW, NOW_US, Clock, OpenLedger


def test_free_symbols_are_taken_in_the_order_asked_and_once(ledger: Ledger) -> None:
    lease = ledger.lease(["B", "A", "B"], owner="me")
    assert lease.symbols == ("B", "A")
    assert lease.refused == {}
    assert lease.token == NOW_US


def test_a_held_symbol_is_refused_and_its_holder_named(ledger: Ledger) -> None:
    ledger.lease(["A"], owner="host:1", ttl_s=60)
    second = ledger.lease(["A", "B"], owner="host:2")
    assert second.symbols == ("B",)
    assert second.refused["A"].owner == "host:1"
    assert second.refused["A"].until == NOW + timedelta(minutes=1)


def test_work_that_is_done_again_takes_over_its_own_lease_and_no_other(ledger: Ledger, clock: Clock) -> None:
    dead = ledger.lease(["A"], owner="run 7 on host:1")
    ledger.lease(["B"], owner="run 77 on host:1")
    clock.at += 20
    again = ledger.lease(["A", "B"], owner="run 7 on host:2", takes_over="run 7 on ")
    assert again.symbols == ("A",)
    assert again.refused["B"].owner == "run 77 on host:1"
    with pytest.raises(LeaseLost):
        dead.check()


def test_what_is_taken_over_stamps_after_all_that_its_holder_may_yet_stamp(ledger: Ledger, clock: Clock) -> None:
    believed_dead = ledger.lease(["A"], owner="run 7 on host:1", ttl_s=60)
    again = ledger.lease(["A"], owner="run 7 on host:2", takes_over="run 7 on ")
    clock.at += 59
    assert believed_dead.stamp(NOW) < again.stamp(NOW)


def test_nothing_free_is_a_lease_of_nothing(ledger: Ledger) -> None:
    ledger.lease(["A"], owner="host:1")
    with ledger.lease(["A"], owner="host:2") as second:
        second.check()
        assert second.symbols == ()


def test_leaving_gives_the_symbols_back(ledger: Ledger) -> None:
    with ledger.lease(["A"], owner="host:1"):
        pass
    assert ledger.lease(["A"], owner="host:2").symbols == ("A",)


def test_a_released_lease_holds_nothing(ledger: Ledger) -> None:
    lease = ledger.lease(["A"], owner="host:1")
    lease.release()
    lease.release()
    with pytest.raises(LeaseLost):
        lease.check()
    with pytest.raises(LeaseLost):
        lease.stamp(NOW)


def test_a_lease_past_its_time_is_ours_until_another_takes_it(ledger: Ledger, clock: Clock) -> None:
    first = ledger.lease(["A", "B"], owner="host:1", ttl_s=60)
    clock.at += 61
    first.check()
    second = ledger.lease(["B"], owner="host:2")
    assert second.symbols == ("B",)
    with pytest.raises(LeaseLost, match="B") as caught:
        first.check()
    assert caught.value.symbols == ("B",)
    first.release()
    second.check()
    assert ledger.lease(["A"], owner="host:3").symbols == ("A",)


def test_a_stamp_renews_a_lease_past_its_time(ledger: Ledger, clock: Clock) -> None:
    lease = ledger.lease(["A"], owner="host:1", ttl_s=60)
    clock.at += 61
    lease.stamp(NOW)
    assert ledger.lease(["A"], owner="host:2").symbols == ()


def test_a_stamp_asked_for_after_a_takeover_is_refused(ledger: Ledger, clock: Clock) -> None:
    lease = ledger.lease(["A"], owner="host:1", ttl_s=60)
    clock.at += 61
    ledger.lease(["A"], owner="host:2")
    with pytest.raises(LeaseLost):
        lease.stamp(NOW)


def test_stamps_are_not_before_now_nor_the_token_and_rise(ledger: Ledger) -> None:
    lease = ledger.lease(["A"], owner="me")
    late = NOW + timedelta(days=1)
    stamps = [lease.stamp(NOW - timedelta(days=1)), lease.stamp(NOW), lease.stamp(late), lease.stamp(NOW)]
    assert stamps[0] == NOW
    assert stamps[2] == late
    assert stamps == sorted(set(stamps))


def test_the_stamp_of_a_process_that_died_is_below_the_next_ones(ledger: Ledger, clock: Clock) -> None:
    """Fault: the holder is killed just after it stamped revisions far ahead of the clock."""
    stamped = ledger.lease(["A"], owner="dead", ttl_s=60).stamp(NOW + timedelta(days=30))
    clock.at += 61
    successor = ledger.lease(["A"], owner="next")
    assert successor.token > to_us(stamped)
    assert successor.stamp(NOW) > stamped


def test_a_clock_set_back_shortens_no_lease(ledger: Ledger, clock: Clock) -> None:
    """Fault: a holder stamps, its clock is set back by an hour, it renews and is killed.

    A minute later by that clock another would take the symbols, with a token below the stamp.
    """
    lease = ledger.lease(["A"], owner="killed", ttl_s=60)
    clock.at += 30
    stamped = lease.stamp(datetime.fromtimestamp(clock.at, UTC))
    clock.at -= 3600
    ledger._renew(lease)
    clock.at += 61
    assert ledger.lease(["A"], owner="next").symbols == ()
    clock.at += 3600
    assert ledger.lease(["A"], owner="next").token > to_us(stamped)


def test_a_naive_moment_is_refused(ledger: Ledger) -> None:
    with pytest.raises(ValueError, match="time zone"):
        ledger.lease(["A"], owner="me").stamp(datetime(2024, 1, 1))  # noqa: DTZ001 - the mistake itself


def test_a_lease_for_no_time_is_refused(ledger: Ledger) -> None:
    with pytest.raises(ValueError, match="ttl_s"):
        ledger.lease(["A"], owner="me", ttl_s=0)


def test_inside_with_a_lease_outlives_its_time(open_ledger: OpenLedger) -> None:
    ledger = open_ledger()
    with ledger.lease(["A"], owner="host:1", ttl_s=0.6) as lease:
        until = [ledger.lease(["A"], owner="host:2").refused["A"].until]
        while until[-1] - until[0] < timedelta(seconds=1):
            until.append(ledger.lease(["A"], owner="host:2").refused["A"].until)
            threading.Event().wait(0.02)
        lease.check()


def test_renewing_goes_on_when_the_database_comes_back(
    ledger: Ledger, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """Fault: the database does not answer one renewal."""
    renew, renewed = ledger._renew, threading.Event()
    answers: Iterator[bool] = iter([False])

    def fails_once(lease: Lease, last_us: int | None = None) -> tuple[str, ...]:
        if not next(answers, True):
            raise LedgerUnavailable("gone")
        lost = renew(lease, last_us)
        renewed.set()
        return lost

    monkeypatch.setattr(ledger, "_renew", fails_once)
    with ledger.lease(["A"], owner="me", ttl_s=0.03):
        assert renewed.wait(30)
    assert "could not be renewed" in caplog.text


def test_a_lease_that_cannot_be_released_hides_no_error_of_the_work(
    ledger: Ledger, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def fails(_lease: Lease) -> None:
        raise LedgerUnavailable("gone")

    monkeypatch.setattr(ledger, "_release", fails)
    with pytest.raises(ZeroDivisionError), ledger.lease(["A"], owner="me"):
        raise ZeroDivisionError
    assert "runs out by itself" in caplog.text


def test_a_renewal_takes_nothing_back(ledger: Ledger, clock: Clock, caplog: pytest.LogCaptureFixture) -> None:
    """Fault: the holder was stopped past its time, another took over, and the first one's renewals go on."""
    with ledger.lease(["A"], owner="stopped", ttl_s=0.03) as first:
        clock.at += 1
        second = ledger.lease(["A"], owner="next", ttl_s=3600)
        while "lost A" not in caplog.text:
            threading.Event().wait(0.01)
        with pytest.raises(LeaseLost):
            first.check()
    second.check()


def test_a_ledger_made_anew_goes_on_above_the_lost_one(tmp_path: Path, clock: Clock) -> None:
    """Fault: the ledger's file is gone. Tokens follow the clock, so later ones are higher all the same."""
    with Ledger(f"sqlite:///{tmp_path}/lost.db", now=clock) as lost:
        lease = lost.lease(["A"], owner="me")
        highest = max(lease.token, int(lease.stamp(NOW).timestamp() * 1e6))
    clock.at += 1
    with Ledger(f"sqlite:///{tmp_path}/new.db", now=clock) as new:
        assert new.lease(["A"], owner="me").token > highest


def test_threads_that_race_get_each_symbol_once(open_ledger: OpenLedger) -> None:
    ledger = open_ledger()
    symbols = [f"S{n}" for n in range(12)]
    leases: list[Lease] = []
    start = threading.Barrier(4)

    def take(order: int) -> None:
        start.wait()
        leases.append(ledger.lease(symbols[::order], owner=f"thread {order}"))

    threads = [threading.Thread(target=take, args=(order,)) for order in (1, -1, 2, -3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    leased = [symbol for lease in leases for symbol in lease.symbols]
    assert sorted(leased) == sorted(symbols)
    assert len({lease.token for lease in leases}) == 4


STEP = st.one_of(
    st.tuples(st.just("take"), st.sets(st.sampled_from("ABC"), min_size=1)),
    st.tuples(st.just("stamp"), st.integers(0, 20)),
    st.tuples(st.just("release"), st.integers(0, 20)),
    st.tuples(st.just("renew"), st.integers(0, 20)),
    st.tuples(st.just("die"), st.integers(0, 20)),
    st.tuples(st.just("clock"), st.sampled_from([0.000001, 1.0, 59.0, 61.0, -0.000002, -30.0, -3600.0])),
)


@settings(max_examples=40, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(steps=st.lists(STEP, max_size=25), ahead_s=st.sampled_from([-7200.0, 0.0, 7200.0]))
def test_tokens_and_stamps_rise_under_any_interleaving(
    open_ledger: OpenLedger, url: str, steps: list[tuple[str, object]], ahead_s: float
) -> None:
    """Of takers, releases, deaths and a clock that jumps both ways, on one ledger that examples share."""
    clock = Clock()
    ledger = open_ledger(clock)
    ledger.ping()
    engine = create_engine(url)
    with engine.begin() as connection:
        connection.execute(text("DELETE FROM ledger_leases"))
        highest: int = connection.execute(text("SELECT token FROM ledger_fence")).scalar_one()
    engine.dispose()
    stamps: dict[str, datetime] = dict.fromkeys("ABC", datetime(1970, 1, 1, tzinfo=UTC))
    alive: list[Lease] = []
    for step, argument in steps:
        if step == "take":
            lease = ledger.lease(sorted(argument), owner="me")  # type: ignore[call-overload]
            assert lease.token > highest
            highest = lease.token
            alive.append(lease)
        elif step == "clock":
            clock.at += argument  # type: ignore[operator]
        elif alive:
            lease = alive[argument % len(alive)]  # type: ignore[operator]
            if step == "stamp":
                try:
                    stamp = lease.stamp(datetime.fromtimestamp(clock.at + ahead_s, UTC))
                except LeaseLost:
                    continue
                assert all(stamp > stamps[symbol] for symbol in lease.symbols)
                stamps |= dict.fromkeys(lease.symbols, stamp)
            elif step == "renew":
                ledger._renew(lease)
            else:
                alive.remove(lease)
                if step == "release":
                    lease.release()
    ledger.close()
