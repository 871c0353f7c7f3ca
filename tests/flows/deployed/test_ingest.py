"""How the deployed ingestion goes through its symbols."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from prefect.client.schemas.objects import State

from feature_repo.catalog import SYMBOLS, TIMEFRAMES
from feature_repo.gaps import find_gaps
from feature_repo.stores.delta.tables import DeltaTables
from flows.deployed import entrypoints, ingest
from flows.ingest.ingest import IngestReport
from flows.sources import SourceError, SourceOptions


@pytest.fixture
def asked(monkeypatch: pytest.MonkeyPatch) -> list[tuple[str, str, str | None]]:
    """Source, symbol and instrument that were asked for."""
    calls: list[tuple[str, str, str | None]] = []

    def ingest_symbol(source: str, symbol: str, timeframe: str, options: SourceOptions, **_: bool) -> Any:
        calls.append((source, symbol, options.instrument))
        if symbol == "EUR/GBP":
            raise SourceError("no such file", file=source)
        refused = symbol == "GBP/USD"
        return report(
            symbol, timeframe, stopped="10 % are bad" if refused else "", refusal=("off_grid, 6 rows",) * refused
        )

    monkeypatch.setattr(ingest, "ingest_symbol", ingest_symbol)
    monkeypatch.setattr(ingest, "create_table_artifact", lambda **_: None)
    return calls


def report(symbol: str, timeframe: str, *, stopped: str, refusal: tuple[str, ...]) -> IngestReport:
    gaps = find_gaps(np.empty(0, np.int64), session=SYMBOLS[symbol].session, timeframe=TIMEFRAMES[timeframe])
    about: dict[str, Any] = {"symbol": symbol, "timeframe": timeframe, "read": 1, "quarantined_by_rule": {}}
    return IngestReport(**about, gaps=gaps, stopped=stopped, refusal=refusal)


def test_each_symbol_has_its_own_file_and_its_own_name_in_it(asked: list[tuple[str, str, str | None]]) -> None:
    options = SourceOptions(instrument="{symbol}.FX")
    reports, problems = ingest.ingest_symbols("/data/{symbol}.csv", ["EUR/USD", "EUR/GBP", "GBP/USD"], "1h", options)
    assert asked == [
        ("/data/EURUSD.csv", "EUR/USD", "EURUSD.FX"),
        ("/data/EURGBP.csv", "EUR/GBP", "EURGBP.FX"),
        ("/data/GBPUSD.csv", "GBP/USD", "GBPUSD.FX"),
    ]
    assert [r.symbol for r in reports] == ["EUR/USD", "GBP/USD"]
    assert problems == [
        "EUR/GBP 1h: /data/EURGBP.csv: no such file",
        "GBP/USD 1h: 10 % are bad; nothing of it was stored; off_grid, 6 rows",
    ]


@pytest.mark.usefixtures("prefect_server")
def test_a_run_revises_and_takes_prices_as_they_are_when_it_is_asked_to(
    make_bars: Callable[..., pd.DataFrame], tables: DeltaTables, tmp_path: Path
) -> None:
    def run(bars: pd.DataFrame, **options: bool) -> State[Any]:
        bars.rename(columns={"open_time": "time"}).to_csv(tmp_path / "EURUSD.csv", index=False, float_format="%.17g")
        source = str(tmp_path / "{symbol}.csv")
        return entrypoints.ingest(source, ["EUR/USD"], "1h", volume="none", return_state=True, **options)

    def stored() -> list[float]:
        close: list[float] = tables.read("bars", columns=["close"])["close"].to_pylist()
        return close

    bars = make_bars(100)
    assert run(bars).is_completed()
    moved, spike = bars.copy(), make_bars(120)
    moved.loc[20:70, ["high", "close"]] *= 1 + 1e-4 * (1 + np.arange(51) % 7)[:, None]
    refused = run(moved)
    assert refused.is_failed()
    assert "run it again with --revise" in str(refused.message)
    assert stored() == bars["close"].tolist()
    assert run(moved, revise=True).is_completed()
    assert stored() == moved["close"].tolist()
    spike = spike[100:].reset_index(drop=True)
    spike.loc[10, ["open", "high", "low", "close"]] *= 3.0
    assert run(spike).is_completed()
    assert len(stored()) == 119  # the gate keeps the one apart
    assert run(spike, as_is=True).is_completed()
    assert stored()[100:] == spike["close"].tolist()
