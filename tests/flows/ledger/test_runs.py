"""Runs: begun, seen, ended, lost."""

from __future__ import annotations

from datetime import date, timedelta
from pathlib import Path

import numpy as np
import pytest

from flows.ledger import Ledger, LedgerError, UnknownRun
from tests.flows.ledger.conftest import NOW, Clock


def test_a_run_from_its_beginning_to_its_end(ledger: Ledger, clock: Clock) -> None:
    run = ledger.begin("materialize", parameters={"symbols": ["A"], "full": True}, flow_run="f-1")
    (record,) = ledger.runs()
    assert (record.id, record.kind, record.state, record.flow_run) == (run, "materialize", "running", "f-1")
    assert record.parameters == {"symbols": ["A"], "full": True}
    assert (record.started, record.ended) == (NOW, None)
    clock.at += 5
    ledger.end(run, state="completed", counts={"stored": np.int64(3)}, problems=["one gap"])
    (record,) = ledger.runs()
    assert (record.state, record.counts, record.problems) == ("completed", {"stored": 3}, ("one gap",))
    assert record.ended == NOW + timedelta(seconds=5)


def test_the_newest_come_first(ledger: Ledger, clock: Clock) -> None:
    ids = []
    for kind in ("ingest", "verify", "ingest"):
        clock.at += 1
        ids.append(ledger.begin(kind, parameters={}))
    assert [run.id for run in ledger.runs()] == ids[::-1]
    assert [run.id for run in ledger.runs(kind="ingest")] == [ids[2], ids[0]]
    assert [run.id for run in ledger.runs(limit=1)] == [ids[2]]


def test_a_run_unseen_for_ten_minutes_is_lost_unless_it_ends(ledger: Ledger, clock: Clock) -> None:
    """Fault: the process of a run was killed."""
    run = ledger.begin("ingest", parameters={})
    clock.at += 599
    ledger.touch(run)
    clock.at += 600
    assert ledger.runs()[0].state == "running"
    clock.at += 1
    assert ledger.runs()[0].state == "lost"
    ledger.end(run, state="failed", counts={})
    assert ledger.runs()[0].state == "failed"


def test_the_first_end_stands(ledger: Ledger) -> None:
    run = ledger.begin("ingest", parameters={})
    ledger.end(run, state="stopped", counts={"stored": 1})
    ledger.end(run, state="completed", counts={})
    ledger.touch(run)
    assert (ledger.runs()[0].state, ledger.runs()[0].counts) == ("stopped", {"stored": 1})


def test_an_unknown_run_is_told(ledger: Ledger) -> None:
    with pytest.raises(UnknownRun, match="nobody"):
        ledger.touch("nobody")
    with pytest.raises(UnknownRun):
        ledger.end("nobody", state="failed", counts={})


def test_a_state_that_is_no_end_is_refused(ledger: Ledger) -> None:
    with pytest.raises(LedgerError, match="completed, failed, stopped"):
        ledger.end(ledger.begin("ingest", parameters={}), state="lost", counts={})  # type: ignore[arg-type]


def test_parameters_that_json_has_no_word_for_are_kept_as_text(ledger: Ledger) -> None:
    ledger.begin("ingest", parameters={"file": Path("a.csv"), "day": date(2024, 1, 2), "views": {"b", "a"}})
    assert ledger.runs()[0].parameters == {"file": "a.csv", "day": "2024-01-02", "views": ["a", "b"]}


def test_a_value_that_cannot_be_kept_is_told(ledger: Ledger) -> None:
    with pytest.raises(LedgerError, match="cannot hold"):
        ledger.begin("ingest", parameters={"share": float("nan")})
    assert ledger.runs() == []
