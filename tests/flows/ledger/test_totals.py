"""What the database adds up is the truth, however much there is of it."""

from __future__ import annotations

from datetime import date, timedelta

from flows.ledger import Ledger, Revision, RunTotal, Verdict, VerdictTotal
from tests.flows.ledger.conftest import NOW, NOW_US, Clock

DAY_US = 86_400_000_000


def verdict(run: str, *, at_us: int = NOW_US, passed: bool = True, symbol: str = "EUR/USD", rows: int = 10) -> Verdict:
    return Verdict(
        run=run, symbol=symbol, timeframe="1h", kind="bars", passed=passed, rows=rows, bad_rows=0 if passed else 3,
        reason="" if passed else "3 rows are bad", at_us=at_us,
    )  # fmt: skip


def test_every_verdict_is_counted_by_day_kind_and_result(ledger: Ledger) -> None:
    run = ledger.begin("ingest", parameters={})
    ledger.record(verdicts=[verdict(run) for _ in range(1_100)])
    ledger.record(verdicts=[verdict(run, passed=False), verdict(run, at_us=NOW_US - DAY_US)])
    ledger.record(verdicts=[verdict(run, at_us=NOW_US - 9 * DAY_US)])
    today = date(2024, 6, 3)
    assert ledger.verdict_totals(NOW - timedelta(days=2)) == [
        VerdictTotal(day=today - timedelta(days=1), kind="bars", passed=True, verdicts=1, rows=10, bad_rows=0),
        VerdictTotal(day=today, kind="bars", passed=False, verdicts=1, rows=10, bad_rows=3),
        VerdictTotal(day=today, kind="bars", passed=True, verdicts=1_100, rows=11_000, bad_rows=0),
    ]


def test_a_gate_fails_while_its_newest_verdict_did_not_pass(ledger: Ledger) -> None:
    run = ledger.begin("ingest", parameters={})
    failed = verdict(run, passed=False, symbol="GBP/USD", at_us=NOW_US - 5)
    recovered = [verdict(run, passed=False, at_us=NOW_US - 9), verdict(run, at_us=NOW_US - 8)]
    ledger.record(verdicts=[failed, *recovered, *(verdict(run, symbol="USD/JPY") for _ in range(1_100))])
    assert ledger.failing(NOW - timedelta(days=1)) == [failed]
    assert ledger.failing(NOW + timedelta(days=1)) == []


def test_runs_are_counted_by_kind_and_state(ledger: Ledger, clock: Clock) -> None:
    stream = ledger.begin("stream", parameters={})
    ledger.begin("materialize", parameters={})  # never heard of again
    clock.at += 2 * 86_400
    ledger.touch(stream)
    for state in ("completed", "completed", "failed"):
        ledger.end(ledger.begin("ingest", parameters={}), state=state, counts={})  # type: ignore[arg-type]
    since = NOW + timedelta(days=1)
    assert ledger.run_totals(since) == [
        RunTotal(kind="ingest", state="completed", runs=2),
        RunTotal(kind="ingest", state="failed", runs=1),
        RunTotal(kind="stream", state="running", runs=1),
    ]
    assert RunTotal(kind="materialize", state="lost", runs=1) in ledger.run_totals(NOW)


def test_stored_rows_and_open_alerts_are_counted(ledger: Ledger) -> None:
    assert ledger.rows_stored(NOW) == 0
    run = ledger.begin("ingest", parameters={})
    revision = Revision(run=run, symbol="EUR/USD", timeframe="1h", table="bars", first_open_us=1, last_open_us=2,
                        stored=700, revised=5, at_us=NOW_US)  # fmt: skip
    ledger.record(revisions=[revision, revision])
    assert ledger.rows_stored(NOW) == 1_400
    for n in range(250):
        ledger.open_alert("freshness", f"S{n} 1h", "late")
    ledger.open_alert("gate", "EUR/USD 1h", "stopped")
    ledger.close_alert("freshness", "S0 1h")
    assert ledger.open_alerts() == {"freshness": 249, "gate": 1}


def test_the_last_end_of_a_kind_of_run_is_found_by_its_parameters(ledger: Ledger, clock: Clock) -> None:
    daily = ledger.begin("materialize", parameters={"timeframes": ["1d"]})
    ledger.end(daily, state="stopped", counts={})
    clock.at += 60
    for state in ("completed", "failed"):
        for _ in range(3):
            ledger.end(ledger.begin("materialize", parameters={"timeframes": None}), state=state, counts={})  # type: ignore[arg-type]
        clock.at += 60
    ledger.end(ledger.begin("ingest", parameters={}), state="completed", counts={})
    ends = {str(end.parameters["timeframes"]): end.ended for end in ledger.last_ends("materialize")}
    assert ends == {"['1d']": NOW, "None": NOW + timedelta(seconds=60)}
