"""What a run shows of itself, and how it waits for symbols that another run works on."""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime
from typing import Any

import pandas as pd
import pytest

from flows.compute import step
from flows.engine import artifacts
from flows.engine.artifacts import freshness_rows
from flows.engine.names import run_name
from flows.ledger import Ledger, Run
from flows.materialize import flow as batch
from flows.materialize import materialize_symbols
from flows.quality import Verdict
from flows.runs.outcome import Outcome
from flows.settings import Settings

BAR = datetime(2026, 11, 22, 22, tzinfo=UTC)


@pytest.mark.parametrize(
    ("symbols", "timeframes", "bar", "name"),
    [
        (["EUR/USD"] * 109, ["1h"], BAR, "materialize 1h EUR/USD +108 2026-11-22 22:00"),
        (["EUR/USD"], ["1h", "4h"], BAR, "materialize 1h,4h EUR/USD 2026-11-22 22:00"),
        ([], ["1m", "5m", "1d"], None, "materialize 1m..1d all"),
    ],
)
def test_a_run_is_called_by_symbol_timeframe_and_bar(
    symbols: list[str], timeframes: list[str], bar: datetime | None, name: str
) -> None:
    assert run_name("materialize", symbols, timeframes, bar) == name


def test_the_freshness_table_shows_the_stalest_and_the_stopped_first() -> None:
    fresh = [Outcome(symbol=f"S{i:02}", timeframe="1h", age_bars=0) for i in range(50)]
    odd = [
        Outcome(symbol="OLD", timeframe="1h", age_bars=7),
        Outcome(symbol="NEW", timeframe="4h"),
        Outcome(symbol="<BAD>", timeframe="", problem="no bars"),
    ]
    rows = freshness_rows([*fresh, *odd])
    assert rows[:3] == [
        {"symbol": "<BAD>", "1h": "stopped", "4h": "stopped"},
        {"symbol": "OLD", "1h": "7 stale", "4h": "-"},
        {"symbol": "S00", "1h": "0 fresh", "4h": "-"},
    ]
    assert len(rows) == 41
    assert rows[-1]["symbol"] == "and 13 fresher symbols"


def test_a_freshness_table_of_nothing_is_empty(monkeypatch: pytest.MonkeyPatch) -> None:
    assert freshness_rows([]) == []
    shown: list[dict[str, Any]] = []
    monkeypatch.setattr(artifacts, "create_table_artifact", lambda **artifact: shown.append(artifact))
    artifacts.show_freshness([Outcome(symbol="EUR/USD", timeframe="1h", age_bars=3)])
    assert not shown  # nothing new and no problem
    artifacts.show_freshness([Outcome(symbol="EUR/USD", timeframe="1h", age_bars=0, bars=2)])
    assert [artifact["key"] for artifact in shown] == ["freshness"]


def test_the_gates_reports_are_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    shown: list[dict[str, Any]] = []
    monkeypatch.setattr(artifacts, "create_markdown_artifact", lambda **artifact: shown.append(artifact))
    artifacts.show_gate([])
    artifacts.show_gate(["x" * 50_000] * 30)
    assert len(shown) == 1
    assert shown[0]["key"] == "gate"
    assert len(shown[0]["markdown"]) < 20 * 21_000
    assert "10 more" in shown[0]["markdown"]


def test_what_the_gate_stops_is_told_as_it_reports_it(
    make_bars: Callable[..., pd.DataFrame], take: Callable[..., Any], settings: Settings, ledger: Ledger,
    now: datetime, monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    bars = make_bars(30)
    take(bars)
    verdict = Verdict(subject="EUR/USD 1h bars", passed=False, good=bars.head(0), bad=bars.head(0), rows=30, bad_rows=0,
                      by_rule={}, reason="too many", rules=(), expectations=1)  # fmt: skip

    def stop(*_: Any, **__: Any) -> Any:
        raise step.Stopped("bars", verdict, [])

    monkeypatch.setattr(step, "compute", stop)
    reported: list[Verdict] = []
    outcomes = materialize_symbols(
        Run(ledger=ledger, tables=settings.tables(), now=now), ["EUR/USD"], ["1h"], settings, report=reported.append
    )
    assert [o.problem for o in outcomes] == ["derived bars: too many"]
    assert reported == [verdict]
    assert "## EUR/USD 1h bars: stopped: too many" in reported[0].as_markdown()


# -------------------------------------------------------------------------------------- symbols that are held


@pytest.fixture
def bars_of_two(make_bars: Callable[..., pd.DataFrame], take: Callable[..., Any]) -> None:
    for name in ("EUR/USD", "GBP/USD"):
        take(make_bars(30, symbol=name), symbol=name)


def test_a_run_does_the_free_ones_and_waits_for_the_others(
    bars_of_two: None, settings: Settings, ledger: Ledger, now: datetime
) -> None:
    lease = ledger.lease(["EUR/USD"], owner="another run")
    pauses: list[float] = []

    def sleep(seconds: float) -> None:
        pauses.append(seconds)
        assert ("GBP/USD", "1h") in ledger.watermarks()
        if len(pauses) == 3:
            lease.release()

    names = ["EUR/USD", "GBP/USD"]
    outcomes = materialize_symbols(
        Run(ledger=ledger, tables=settings.tables(), now=now), names, ["1h"], settings, wait_s=60, sleep=sleep
    )
    assert [(o.symbol, o.problem) for o in outcomes] == [("GBP/USD", ""), ("EUR/USD", "")]
    assert len(pauses) == 3


def test_a_run_does_not_wait_for_ever(bars_of_two: None, settings: Settings, ledger: Ledger, now: datetime) -> None:
    ledger.lease(["EUR/USD"], owner="another run")
    pauses: list[float] = []
    outcomes = materialize_symbols(
        Run(ledger=ledger, tables=settings.tables(), now=now),
        ["EUR/USD"],
        ["1h"],
        settings,
        wait_s=2,
        sleep=pauses.append,
    )
    assert sum(pauses) == 2
    assert "another run is working on it" in outcomes[0].problem


def test_a_retried_shard_takes_over_from_its_dead_attempt_at_once(
    bars_of_two: None, settings: Settings, ledger: Ledger, now: datetime
) -> None:
    run = ledger.begin("materialize", parameters={})
    dead = Run(id=run, ledger=ledger, tables=settings.tables(), now=now)
    dead.lease_of("EUR/USD")  # and its process was killed
    outcomes = materialize_symbols(
        Run(ledger=ledger, tables=settings.tables(), now=now, id=run), ["EUR/USD"], ["1h"], settings
    )
    assert [o.problem for o in outcomes] == [""]


def test_a_shard_is_as_patient_as_runs_of_all_timeframes_need() -> None:
    assert batch._WAIT_S >= 60
