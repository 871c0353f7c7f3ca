"""A run at work: how it ends, and the leases that it works under."""

from __future__ import annotations

from dataclasses import replace
from datetime import timedelta
from pathlib import Path

import pytest

from feature_repo.stores.delta.tables import DeltaTables
from flows.ledger import LeaseLost, Ledger, LedgerError, Run
from flows.ledger.events import Revision
from tests.flows.ledger.conftest import NOW, NOW_US, Clock

REVISION = Revision(
    run="", symbol="A", timeframe="1h", table="bars", first_open_us=0, last_open_us=1, stored=2, revised=0, at_us=NOW_US
)


@pytest.fixture
def tables(tmp_path: Path) -> DeltaTables:
    return DeltaTables(str(tmp_path / "offline"))


@pytest.fixture
def run(ledger: Ledger, tables: DeltaTables) -> Run:
    """A run that no record of the ledger is about."""
    return Run(ledger=ledger, tables=tables, now=NOW)


class Pauses:
    """Stands in for ``sleep``: lets time pass on the test's clock, and something happen at one of the pauses."""

    def __init__(self, clock: Clock) -> None:
        self.clock = clock
        self.lengths: list[float] = []

    def __call__(self, seconds: float) -> None:
        self.lengths.append(seconds)
        self.clock.at += seconds


# ----------------------------------------------------------------------------------------------- how a run ends


def test_a_run_without_problems_ends_as_completed_with_its_counts(ledger: Ledger, tables: DeltaTables) -> None:
    with ledger.run("ingest", tables=tables, now=NOW, parameters={"symbol": "A"}, flow_run="f-1") as run:
        assert ledger.runs()[0].state == "running"
        run.counts["stored"] = 3
    (record,) = ledger.runs()
    assert (record.id, record.kind, record.flow_run) == (run.id, "ingest", "f-1")
    assert record.parameters == {"symbol": "A"}
    assert (record.state, record.counts, record.problems) == ("completed", {"stored": 3}, ())


def test_a_run_with_problems_ends_as_stopped(ledger: Ledger, tables: DeltaTables) -> None:
    with ledger.run("ingest", tables=tables, now=NOW, parameters={}) as run:
        run.counts["stored"] = 1
        run.problems.append("A 1h: no bars")
    (record,) = ledger.runs()
    assert (record.state, record.counts, record.problems) == ("stopped", {"stored": 1}, ("A 1h: no bars",))


@pytest.mark.parametrize("error", [ValueError("bad file"), KeyboardInterrupt("bad file")])
def test_a_run_with_an_exception_ends_as_failed_and_raises_it(
    ledger: Ledger, tables: DeltaTables, error: BaseException
) -> None:
    with pytest.raises(type(error), match="bad file"), ledger.run("ingest", tables=tables, now=NOW, parameters={}):
        raise error
    (record,) = ledger.runs()
    assert (record.state, record.problems) == ("failed", (f"{type(error).__name__}: bad file",))


def test_a_failed_run_has_released_its_leases(ledger: Ledger, tables: DeltaTables) -> None:
    with (
        pytest.raises(ValueError, match="bad file"),
        ledger.run("ingest", tables=tables, now=NOW, parameters={}) as run,
        run.lease_of("A"),
    ):
        raise ValueError("bad file")
    assert ledger.lease(["A"], owner="next").symbols == ("A",)


def test_a_run_without_a_record_leaves_nothing_in_the_ledger(ledger: Ledger, run: Run) -> None:
    run.touch()
    run.record(revisions=[REVISION])
    assert (ledger.runs(), ledger.revisions()) == ([], [])


def test_what_a_run_wrote_is_recorded(ledger: Ledger, tables: DeltaTables) -> None:
    with ledger.run("ingest", tables=tables, now=NOW, parameters={}) as run:
        run.record(revisions=[replace(REVISION, run=run.id)])
    assert ledger.revisions() == [replace(REVISION, run=run.id)]


def test_a_sign_of_life_keeps_a_run_from_being_lost(ledger: Ledger, tables: DeltaTables, clock: Clock) -> None:
    with ledger.run("ingest", tables=tables, now=NOW, parameters={}) as run:
        clock.at += 599
        run.touch()
        clock.at += 600
        assert ledger.runs()[0].state == "running"


def test_its_moment_in_microseconds(run: Run) -> None:
    assert run.now_us == NOW_US


# ------------------------------------------------------------------------------------------------------- leases


def test_a_run_without_a_lease_says_how_to_take_one(run: Run) -> None:
    with pytest.raises(LedgerError, match="take one with `leases`"):
        _ = run.lease


def test_a_run_with_a_lease_is_the_same_run(run: Run) -> None:
    with run.lease_of("A") as lease:
        holding = run.holding(lease)
        assert holding.lease is lease
        assert replace(holding, current_lease=None) == run


def test_free_symbols_are_leased_together_without_a_pause(run: Run, clock: Clock) -> None:
    pauses = Pauses(clock)
    leased = []
    for lease in run.leases(["B", "A"], wait_s=5, sleep=pauses):
        with lease:
            leased.append((lease.symbols, dict(lease.refused)))
    assert (leased, pauses.lengths) == ([(("B", "A"), {})], [])


def test_a_busy_symbol_is_leased_once_it_is_released(ledger: Ledger, run: Run, clock: Clock) -> None:
    other = ledger.lease(["B"], owner="other")
    pauses = Pauses(clock)

    def sleep(seconds: float) -> None:
        pauses(seconds)
        if len(pauses.lengths) == 3:
            other.release()

    leased = []
    for lease in run.leases(["A", "B"], wait_s=5, sleep=sleep):
        with lease:
            leased.append(lease.symbols)
    assert leased == [("A",), ("B",)]
    assert len(pauses.lengths) == 3


def test_a_symbol_that_stays_busy_is_waited_for_once_and_refused(ledger: Ledger, run: Run, clock: Clock) -> None:
    """However many symbols are busy, the wait is one wait."""
    ledger.lease(["B", "C"], owner="other", ttl_s=3600)
    pauses = Pauses(clock)
    leases = list(run.leases(["A", "B", "C"], wait_s=2, sleep=pauses))
    assert [lease.symbols for lease in leases] == [("A",), ()]
    assert {name: holder.owner for name, holder in leases[-1].refused.items()} == {"B": "other", "C": "other"}
    assert sum(pauses.lengths) == 2


def test_without_a_wait_a_busy_symbol_is_refused_at_once(ledger: Ledger, run: Run, clock: Clock) -> None:
    ledger.lease(["A"], owner="other")
    pauses = Pauses(clock)
    lease = run.lease_of("A", sleep=pauses)
    assert (lease.symbols, [*lease.refused], pauses.lengths) == ((), ["A"], [])


def test_an_exception_under_a_lease_releases_it(ledger: Ledger, run: Run) -> None:
    (lease,) = run.leases(["A"])
    with pytest.raises(ValueError, match="bad symbol"), lease:
        raise ValueError("bad symbol")
    assert ledger.lease(["A"], owner="next").symbols == ("A",)


def test_a_second_attempt_takes_over_the_lease_of_the_first(ledger: Ledger, run: Run) -> None:
    attempt = replace(run, id="7")
    first = attempt.lease_of("A")
    assert attempt.lease_of("A").symbols == ("A",)
    with pytest.raises(LeaseLost):
        first.check()


def test_runs_without_a_record_do_not_take_over_each_others_leases(run: Run) -> None:
    run.lease_of("A")
    second = run.lease_of("A")
    assert second.symbols == ()
    assert second.refused["A"].until == NOW + timedelta(minutes=1)
    assert second.refused["A"].owner == run.owner
