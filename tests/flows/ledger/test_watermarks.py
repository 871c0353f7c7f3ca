"""Watermarks: they only go forward, and only under the lease."""

from __future__ import annotations

from dataclasses import replace

import pytest
from sqlalchemy import select

from feature_repo.moments import to_us
from flows.ledger import LeaseLost, Ledger, LedgerError, Watermark
from flows.ledger.schema import LEASES
from tests.flows.ledger.conftest import NOW, NOW_US, Clock

MARK = Watermark(symbol="A", timeframe="1h", event_us=NOW_US - 1000, seen_us=NOW_US - 500, recipe="one")
KEY = ("A", "1h")


def test_what_was_advanced_is_read_back_by_symbol_and_timeframe(ledger: Ledger) -> None:
    marks = [MARK, replace(MARK, timeframe="4h"), replace(MARK, symbol="B")]
    ledger.advance(ledger.lease(["A", "B"], owner="me"), marks)
    assert ledger.watermarks() == {(mark.symbol, mark.timeframe): mark for mark in marks}
    assert set(ledger.watermarks(["B"])) == {("B", "1h")}
    assert ledger.watermarks([]) == {}


def test_no_moment_goes_back(ledger: Ledger) -> None:
    lease = ledger.lease(["A"], owner="me")
    ledger.advance(lease, [MARK])
    ledger.advance(lease, [replace(MARK, event_us=MARK.event_us - 5, seen_us=MARK.seen_us + 5)])
    assert ledger.watermarks()[KEY] == replace(MARK, seen_us=MARK.seen_us + 5)
    ledger.advance(lease, [replace(MARK, event_us=MARK.event_us + 5, seen_us=0)])
    assert ledger.watermarks()[KEY] == replace(MARK, event_us=MARK.event_us + 5, seen_us=MARK.seen_us + 5)


def test_rows_of_one_call_do_not_undo_each_other(ledger: Ledger) -> None:
    ledger.advance(ledger.lease(["A"], owner="me"), [MARK, replace(MARK, event_us=1)])
    assert ledger.watermarks()[KEY] == MARK


def test_a_changed_recipe_starts_over(ledger: Ledger) -> None:
    lease = ledger.lease(["A"], owner="me")
    ledger.advance(lease, [MARK])
    again = replace(MARK, recipe="two", event_us=7, seen_us=3)
    ledger.advance(lease, [again])
    assert ledger.watermarks()[KEY] == again


def test_a_bar_of_the_future_counts_up_to_now(ledger: Ledger) -> None:
    """Fault: a source with a wrong clock. Its bar would hide every bar until then."""
    ledger.advance(ledger.lease(["A"], owner="me"), [replace(MARK, event_us=NOW_US + 10**15)])
    assert ledger.watermarks()[KEY].event_us == NOW_US


def test_a_lost_lease_advances_nothing(ledger: Ledger, clock: Clock) -> None:
    first = ledger.lease(["A", "B"], owner="stopped", ttl_s=60)
    clock.at += 61
    ledger.lease(["B"], owner="next")
    with pytest.raises(LeaseLost) as caught:
        ledger.advance(first, [MARK])
    assert caught.value.symbols == ("B",)
    assert ledger.watermarks() == {}


def test_a_released_lease_advances_nothing(ledger: Ledger) -> None:
    lease = ledger.lease(["A"], owner="me")
    lease.release()
    with pytest.raises(LeaseLost):
        ledger.advance(lease, [MARK])


def test_a_symbol_that_was_not_leased_is_refused(ledger: Ledger) -> None:
    with pytest.raises(LedgerError, match="B is not of this lease, which holds A"):
        ledger.advance(ledger.lease(["A"], owner="me"), [MARK, replace(MARK, symbol="B")])
    assert ledger.watermarks() == {}


def test_advancing_remembers_the_stamp(ledger: Ledger) -> None:
    lease = ledger.lease(["A"], owner="me")
    stamped = lease.stamp(NOW)
    ledger.advance(lease, [])
    with ledger._reading() as connection:
        assert connection.execute(select(LEASES.c.last_us)).scalar_one() == to_us(stamped)
