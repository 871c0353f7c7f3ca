"""Quarantined rows, released or discarded, through the dashboard's own way in: ledger, tables and all."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pandas as pd
import pytest

from feature_repo.catalog import SYMBOLS, TIMEFRAMES
from feature_repo.series import Series
from feature_repo.stores.quarantine import QuarantinedRow
from flows.cli.operations import LedgerOperations
from flows.compute.rejected import quarantine_rows
from flows.runs.store import store_quarantine
from flows.settings import Settings
from fsclient.dashboard.operations import OperationsError
from fsclient.dashboard.quarantine import Quarantine

NOW = datetime(2024, 6, 26, 12, 30, tzinfo=UTC)
OPENS = [datetime(2024, 6, 26, hour, tzinfo=UTC) for hour in (8, 9, 10)]
HOUR = TIMEFRAMES["1h"]


@pytest.fixture
def settings(tmp_path: Path) -> Iterator[Settings]:
    settings = Settings(home=tmp_path, redis_url=f"unix://{tmp_path}/nobody.sock")
    yield settings
    settings.ledger().close()


@pytest.fixture
def operations(settings: Settings) -> LedgerOperations:
    return LedgerOperations(settings, prefect_url="http://prefect:4200/", now=lambda: NOW)


def quarantined(settings: Settings, **changed: Any) -> list[QuarantinedRow]:
    """Three bars in quarantine, newest first."""
    bad = pd.DataFrame({
        "open_time": pd.Series(OPENS, dtype="datetime64[us, UTC]"), "open": [1.1, 1.2, 1.3], "high": [1.05, 1.15, 1.25],
        "low": [1.0, 1.1, 1.2], "close": [1.02, 1.12, 1.22], "volume": [1.0, None, 3.0], "rule": "high_below_open",
        "rules": "high_below_open", "detail": "", "file": "bars.csv", "line": [2, 3, 4],
    }).assign(**changed)  # fmt: skip
    rows = quarantine_rows(bad, kind="bars", timeframe=HOUR, now=NOW - timedelta(hours=1))
    store_quarantine(settings.tables(), rows, Series(symbol=SYMBOLS["EUR/USD"], timeframe=HOUR))
    return list(Quarantine(settings.tables()).rows())


def decisions(settings: Settings) -> list[str | None]:
    return [row.decision for row in Quarantine(settings.tables()).rows()]


def test_a_released_row_is_a_bar_as_it_was_and_marked(settings: Settings, operations: LedgerOperations) -> None:
    rows = quarantined(settings)
    assert operations.release_quarantined(rows[:2], by="ada") == 2
    bars = settings.tables().read("bars", symbols=["EUR/USD"], timeframe="1h").to_pylist()
    assert [bar["open_time"] for bar in bars] == OPENS[1:]
    assert [bar["high"] for bar in bars] == [1.15, 1.25]
    assert pd.isna(bars[0]["volume"])
    assert all(
        bar["created"] >= NOW and bar["event_timestamp"] == bar["open_time"] + timedelta(hours=1) for bar in bars
    )
    assert all(bar["source_bars"] is None for bar in bars)
    assert decisions(settings) == ["released", "released", None]
    (run,) = operations.runs()
    assert (run.kind, run.state, run.counts["stored"]) == ("release", "completed", 2)
    (revision,) = operations.revisions()
    assert (revision.symbol, revision.stored, revision.revised) == ("EUR/USD", 2, 0)


def test_releasing_again_stores_nothing(settings: Settings, operations: LedgerOperations) -> None:
    rows = quarantined(settings)
    operations.release_quarantined(rows, by="ada")
    assert operations.release_quarantined(rows, by="ada") == 0


def test_a_discarded_row_is_marked_and_stored_nowhere(settings: Settings, operations: LedgerOperations) -> None:
    rows = quarantined(settings)
    assert operations.discard_quarantined(rows[:1], by="ada") == 1
    assert decisions(settings) == ["discarded", None, None]
    assert settings.tables().version("bars") is None


def test_the_same_row_from_the_next_download_stays_decided(settings: Settings, operations: LedgerOperations) -> None:
    operations.discard_quarantined(quarantined(settings), by="ada")
    assert [row.decision for row in quarantined(settings)] == ["discarded"] * 3


@pytest.mark.parametrize(
    ("values", "why"),
    [
        ({"close": None}, "lacks a price"),
        ({"close": "inf"}, "no positive number"),
        ({"low": -1.0}, "no positive number"),
        ({"text": "garbage"}, ""),
    ],
)
def test_what_is_no_bar_is_refused_and_nothing_is_written(
    settings: Settings, operations: LedgerOperations, values: dict[str, Any], why: str
) -> None:
    good, bad, _ = quarantined(settings)
    row = json.dumps({**json.loads(bad.row), **values} if why else values)
    with pytest.raises(OperationsError, match=why or "lacks a price"):
        operations.release_quarantined([good, replace(bad, row=row)], by="ada")
    assert settings.tables().version("bars") is None
    assert decisions(settings) == [None, None, None]


def test_a_row_that_fits_no_bar_or_fits_one_twice_is_refused(settings: Settings, operations: LedgerOperations) -> None:
    row = quarantined(settings)[0]
    with pytest.raises(OperationsError, match="fits no bar"):
        operations.release_quarantined([replace(row, open_time=OPENS[0] + timedelta(minutes=7))], by="ada")
    with pytest.raises(OperationsError, match="the same bar"):
        operations.release_quarantined([row, row], by="ada")
    with pytest.raises(OperationsError, match="no bar"):
        operations.release_quarantined([replace(row, kind="indicators")], by="ada")


def test_a_symbol_that_another_run_holds_is_left_alone(settings: Settings, operations: LedgerOperations) -> None:
    rows = quarantined(settings)
    busy = pytest.raises(OperationsError, match="run 7 on trader-1 is working on EUR/USD")
    with settings.ledger().lease(["EUR/USD"], owner="run 7 on trader-1"), busy:
        operations.release_quarantined(rows, by="ada")
    assert operations.runs()[0].state == "failed"
    assert decisions(settings) == [None, None, None]


def test_runs_link_to_the_engine_when_they_have_a_flow_run(settings: Settings, operations: LedgerOperations) -> None:
    settings.ledger().begin("materialize", parameters={}, flow_run="a/b c")
    settings.ledger().begin("ingest", parameters={})
    urls = {run.kind: run.url for run in operations.runs()}
    assert urls == {"materialize": "http://prefect:4200/runs/flow-run/a%2Fb%20c", "ingest": ""}


def test_a_ledger_that_is_away_is_an_operations_error(tmp_path: Path) -> None:
    (tmp_path / "ledger.db").mkdir()
    operations = LedgerOperations(Settings(home=tmp_path, redis_url="unix:///nobody.sock"))
    for ask in (operations.runs, operations.verdicts, operations.revisions, operations.alerts, operations.doubts):
        with pytest.raises(OperationsError, match="FSTORE_LEDGER_URL"):
            ask()
