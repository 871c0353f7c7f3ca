"""A round of watching over real stores and a real ledger."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import replace
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import pandas as pd
import pytest

from feature_repo.stores.tables import OfflineTablesError
from flows.alerts import check_alerts
from flows.alerts.facts import MATERIALIZE
from flows.ledger import Ledger, Run, Verdict
from flows.materialize import materialize_symbols
from flows.settings import Settings
from fsclient.metrics.store import Process, write


class Box:
    """A channel that keeps what it is sent."""

    name = "box"

    def __init__(self) -> None:
        self.messages: list[tuple[str, str]] = []

    def send(self, title: str, body: str) -> None:
        self.messages.append((title, body))


@pytest.fixture
def close(published: pd.DataFrame) -> datetime:
    """When the newest bar that is online closed: a Friday, 04:00 UTC."""
    moment: datetime = (published["open_time"].max() + timedelta(hours=1)).to_pydatetime()
    assert moment.strftime("%A %H:%M") == "Friday 04:00"
    return moment


def test_all_is_well_after_a_run(settings: Settings, close: datetime) -> None:
    checked = check_alerts(settings, close + timedelta(minutes=5), channels=[Box()])
    assert (checked.findings, checked.begun, checked.accepted) == ((), (), 0)


def test_a_feed_that_stops_is_reported_and_its_return_too(settings: Settings, close: datetime) -> None:
    box, late = Box(), close + timedelta(hours=5)
    checked = check_alerts(settings, late, channels=[box])
    assert checked.begun == (("view_age", "EUR/USD 1h"),)
    assert checked.accepted == 1
    assert "5 bars old" in box.messages[0][1]
    assert check_alerts(settings, late + timedelta(hours=1), channels=[box]).begun == ()
    assert len(box.messages) == 1
    assert check_alerts(settings, close, channels=[box]).ended == checked.begun
    assert len(box.messages) == 2


def test_a_weekend_is_not_an_incident(
    settings: Settings,
    ledger: Ledger,
    make_bars: Callable[..., pd.DataFrame],
    take: Callable[..., object],
    now: datetime,
) -> None:
    bars = make_bars(718)
    friday = bars["open_time"].max().to_pydatetime() + timedelta(hours=1)
    assert friday.strftime("%A %H:%M") == "Friday 22:00"  # 17:00 in New York
    take(bars)
    materialize_symbols(Run(ledger=ledger, tables=settings.tables(), now=now), ["EUR/USD"], ["1h"], settings)
    assert check_alerts(settings, friday + timedelta(hours=47), channels=[]).findings == ()
    monday = check_alerts(settings, friday + timedelta(hours=53), channels=[])
    assert monday.begun == (("view_age", "EUR/USD 1h"),)


def test_gate_doubt_breaker_and_silence_are_seen(settings: Settings, redis: Any, close: datetime) -> None:
    now = close + timedelta(minutes=5)
    ledger = settings.ledger()
    run = ledger.begin(MATERIALIZE, parameters={"timeframes": ["4h"]})
    at_us = 1 + max(verdict.at_us for verdict in ledger.verdicts())
    failed = Verdict(
        run=run, symbol="EUR/USD", timeframe="1h", kind="bars", passed=False, reason="inverted", at_us=at_us
    )
    ledger.record(verdicts=[failed])
    ledger.doubt("EUR/USD", "4h", "sma_5 differs")
    ledger.end(run, state="completed", counts={})
    process = Process(host="h", pid=7, start_s=0.0, seen_s=now.timestamp(), states={"breaker.online": "open"})
    write(redis, settings.repo().project, process, {})
    findings = {(f.rule, f.subject) for f in check_alerts(settings, now, channels=[]).findings}
    assert findings == {("gate", "EUR/USD 1h bars"), ("parity", "EUR/USD 4h"), ("breaker", "h:7 online")}
    # The run ended when this test ran, years after `now`: the bars since are counted from then.
    much_later = datetime.fromtimestamp(time.time(), now.tzinfo) + timedelta(days=14)
    silent = {(f.rule, f.subject) for f in check_alerts(settings, much_later, channels=[]).findings}
    assert ("no_run", "4h") in silent
    assert not any(rule == "view_age" for rule, _ in silent)  # by then it is history


def test_an_unavailable_store_is_reported_and_closes_nothing(
    settings: Settings, close: datetime, tmp_path: Path
) -> None:
    box, late = Box(), close + timedelta(hours=5)
    begun = check_alerts(settings, late, channels=[box]).begun
    ledger_url = f"sqlite:///{settings.home / 'ledger.db'}"
    unreachable = replace(settings, redis_url=f"unix://{tmp_path / 'none.sock'}", ledger_url=ledger_url)
    checked = check_alerts(unreachable, late, channels=[box])
    assert checked.begun == (("store", "online"),)
    assert checked.ended == ()
    assert checked.unknown == dict.fromkeys(begun, "the online store does not answer")
    assert "does not answer" in box.messages[-1][1]
    (incident,) = [alert for alert in settings.ledger().alerts(open_only=True) if alert.rule == "view_age"]
    assert "facts unknown since" in incident.detail
    back = check_alerts(settings, late, channels=[box])
    assert back.ended == (("store", "online"),)
    assert {(f.rule, f.subject) for f in back.findings} == set(begun)


def test_damaged_tables_are_reported_and_close_nothing(
    settings: Settings, close: datetime, monkeypatch: pytest.MonkeyPatch
) -> None:
    late = close + timedelta(hours=5)
    begun = check_alerts(settings, late, channels=[]).begun

    def damaged(*_: object) -> None:
        raise OfflineTablesError("bars is damaged")

    with monkeypatch.context() as patch:
        patch.setattr("flows.alerts.facts.freshness", damaged)
        checked = check_alerts(settings, close, channels=[])
    assert (checked.begun, checked.ended) == ((("store", "offline"),), ())
    assert checked.unknown == dict.fromkeys(begun, "the offline store does not answer")
    assert {*check_alerts(settings, close, channels=[]).ended} == {("store", "offline"), *begun}


def test_a_run_of_a_long_timeframe_is_found_behind_thousands_of_a_short_one(
    settings: Settings, close: datetime
) -> None:
    ledger = settings.ledger()
    for timeframe, runs in (("1h", 1), ("5m", 1_001)):
        for _ in range(runs):
            run = ledger.begin(MATERIALIZE, parameters={"timeframes": [timeframe]})
            ledger.end(run, state="completed", counts={})
    much_later = datetime.fromtimestamp(time.time(), close.tzinfo) + timedelta(days=7)
    assert ("no_run", "1h") in check_alerts(settings, much_later, channels=[]).begun
