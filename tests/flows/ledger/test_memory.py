"""What the ledger remembers beside leases, watermarks and runs, and what it may forget."""

from __future__ import annotations

from dataclasses import replace
from datetime import timedelta

import numpy as np
import pytest

from flows.ledger import Alert, Doubt, IngestedSeries, Ledger, LedgerError, Revision, Verdict, Watermark
from tests.flows.ledger.conftest import NOW, NOW_US, Clock, OpenLedger

DAY_US = 86_400_000_000


def verdict(run: str, symbol: str = "A", at_us: int = NOW_US) -> Verdict:
    return Verdict(
        run=run,
        symbol=symbol,
        timeframe="1h",
        kind="bars",
        passed=False,
        reason="too many bad rows",
        rows=100,
        bad_rows=6,
        by_rule={"high_below_low": 6},
        at_us=at_us,
    )


def revision(run: str, symbol: str = "A", at_us: int = NOW_US) -> Revision:
    return Revision(
        run=run,
        symbol=symbol,
        timeframe="1h",
        table="indicators",
        first_open_us=NOW_US - DAY_US,
        last_open_us=NOW_US,
        stored=20,
        revised=4,
        at_us=at_us,
    )


def test_events_are_read_back_newest_first(ledger: Ledger) -> None:
    run = ledger.begin("materialize", parameters={})
    times = [NOW_US - 2, NOW_US, NOW_US - 1]
    verdicts = [verdict(run, at_us=at_us) for at_us in times]
    revisions = [revision(run, symbol="B", at_us=at_us) for at_us in times]
    ledger.record(verdicts=verdicts, revisions=revisions)
    newest_first = [1, 2, 0]
    assert ledger.verdicts() == [verdicts[n] for n in newest_first]
    assert ledger.revisions() == [revisions[n] for n in newest_first]
    assert ledger.verdicts(symbol="B") == []
    assert ledger.revisions(symbol="B", since_us=NOW_US - 1, limit=1) == [revisions[1]]
    assert len(ledger.verdicts(since_us=NOW_US - 1)) == 2


def test_numbers_of_numpy_are_numbers(ledger: Ledger) -> None:
    run = ledger.begin("materialize", parameters={})
    record = replace(verdict(run), passed=np.True_, rows=np.int64(7), by_rule={"gap": np.int32(2)}, at_us=np.int64(5))
    ledger.record(verdicts=[record])
    assert ledger.verdicts() == [replace(record, passed=True, rows=7, by_rule={"gap": 2}, at_us=5)]


def test_events_of_an_unknown_run_are_refused_all_together(ledger: Ledger) -> None:
    run = ledger.begin("materialize", parameters={})
    with pytest.raises(LedgerError, match="must name a run"):
        ledger.record(verdicts=[verdict(run)], revisions=[revision("nobody")])
    assert ledger.verdicts() == []


def test_a_fraction_of_a_microsecond_is_refused(ledger: Ledger) -> None:
    run = ledger.begin("materialize", parameters={})
    with pytest.raises(LedgerError, match="cannot hold"):
        ledger.record(verdicts=[replace(verdict(run), at_us=1.5)])


def test_a_download_taken_again_is_no_newer_than_it_was(ledger: Ledger) -> None:
    assert ledger.ingested_at("A", "1m", "digest") is None
    ledger.record_ingest("run", "A", "1m", "digest", "a.csv", 10, NOW)
    ledger.record_ingest("later", "A", "1m", "digest", "copy.csv", 10, NOW + timedelta(days=1))
    assert ledger.ingested_at("A", "1m", "digest") == NOW
    assert ledger.ingested_at("B", "1m", "digest") is None


def test_a_series_is_listed_as_it_grows(ledger: Ledger) -> None:
    first = IngestedSeries(symbol="A", timeframe="1m", first_us=10, last_us=10, listed_us=20)
    ledger.list_series([])
    ledger.list_series([first, replace(first, symbol="B")])
    ledger.list_series([replace(first, first_us=5, listed_us=30)])
    assert ledger.series(["A"]) == {("A", "1m"): replace(first, first_us=5, listed_us=30)}
    assert set(ledger.series()) == {("A", "1m"), ("B", "1m")}


def test_a_doubt_lasts_from_its_first_reason_until_it_is_cleared(ledger: Ledger, clock: Clock) -> None:
    ledger.doubt("A", "1h", "rsi_14 differs")
    clock.at += 60
    ledger.doubt("A", "1h", "sma_50 differs")
    assert ledger.doubts() == {("A", "1h"): Doubt(reason="sma_50 differs", since=NOW)}
    ledger.clear_doubt("A", "1h")
    ledger.clear_doubt("A", "1h")
    assert ledger.doubts() == {}


def test_a_backfill_goes_on_where_it_stopped(ledger: Ledger, open_ledger: OpenLedger) -> None:
    ledger.mark_backfilled("2023", "A", "1h")
    ledger.mark_backfilled("2023", "A", "1h")
    ledger.mark_backfilled("2022", "B", "1h")
    assert open_ledger().backfill_done("2023") == {("A", "1h")}
    ledger.forget_backfill("2023")
    assert ledger.backfill_done("2023") == set()
    assert ledger.backfill_done("2022") == {("B", "1h")}


def test_an_incident_begins_once_and_ends_once(ledger: Ledger, clock: Clock) -> None:
    assert ledger.close_alert("stale", "A 1h") is False
    assert ledger.open_alert("stale", "A 1h", "3 bars old") is True
    assert ledger.open_alert("stale", "A 1h", "4 bars old") is False
    assert ledger.open_alert("stale", "B 1h", "9 bars old") is True
    clock.at += 60
    assert ledger.close_alert("stale", "A 1h") is True
    assert ledger.close_alert("stale", "A 1h") is False
    assert ledger.open_alert("stale", "A 1h", "again") is True
    again, _, first = ledger.alerts()
    assert (again.detail, again.closed) == ("again", None)
    ended = NOW + timedelta(minutes=1)
    assert first == Alert(rule="stale", subject="A 1h", detail="3 bars old", opened=NOW, closed=ended)
    assert {alert.subject for alert in ledger.alerts(open_only=True)} == {"A 1h", "B 1h"}
    assert len(ledger.alerts(limit=1)) == 1


def test_what_is_history_may_go_and_what_work_depends_on_stays(ledger: Ledger, clock: Clock) -> None:
    old = {name: ledger.begin("ingest", parameters={}) for name in ("ended", "lost", "alive")}
    ledger.end(old["ended"], state="completed", counts={})
    ledger.record(verdicts=[verdict(old["alive"])], revisions=[revision(old["ended"])])
    ledger.advance(
        ledger.lease(["A"], owner="me"), [Watermark(symbol="A", timeframe="1h", event_us=1, seen_us=1, recipe="")]
    )
    ledger.record_ingest(old["ended"], "A", "1h", "digest", "a.csv", 1, NOW)
    ledger.doubt("A", "1h", "differs")
    ledger.mark_backfilled("done", "A", "1h")
    ledger.mark_backfilled("half done", "A", "1h")
    ledger.open_alert("stale", "A", "")
    ledger.open_alert("stale", "B", "")
    ledger.close_alert("stale", "B")

    clock.at += 86_400
    ledger.touch(old["alive"])
    ledger.mark_backfilled("half done", "B", "1h")
    new = ledger.begin("ingest", parameters={})
    # Two runs, a verdict, a revision, a mark of a backfill and an alert.
    assert ledger.prune(NOW + timedelta(hours=1)) == 6
    assert {run.id for run in ledger.runs()} == {old["alive"], new}
    assert (ledger.verdicts(), ledger.revisions()) == ([], [])
    assert ledger.backfill_done("done") == set()
    assert ledger.backfill_done("half done") == {("A", "1h"), ("B", "1h")}
    assert [alert.subject for alert in ledger.alerts()] == ["A"]
    assert set(ledger.watermarks()) == set(ledger.doubts()) == {("A", "1h")}
    assert ledger.ingested_at("A", "1h", "digest") == NOW
    assert ledger.prune(NOW + timedelta(hours=1)) == 0


def test_a_run_that_may_live_is_not_pruned(ledger: Ledger) -> None:
    ledger.begin("ingest", parameters={})
    assert ledger.prune(NOW + timedelta(days=1)) == 0
