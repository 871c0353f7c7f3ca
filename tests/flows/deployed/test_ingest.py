"""How the deployed ingestion goes through its symbols."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from feature_repo.catalog import SYMBOLS, TIMEFRAMES
from feature_repo.gaps import find_gaps
from flows.deployed import ingest
from flows.ingest.ingest import IngestReport
from flows.sources import SourceError, SourceOptions


@pytest.fixture
def asked(monkeypatch: pytest.MonkeyPatch) -> list[tuple[str, str, str | None]]:
    """Source, symbol and instrument that were asked for."""
    calls: list[tuple[str, str, str | None]] = []

    def ingest_symbol(source: str, symbol: str, timeframe: str, options: SourceOptions) -> Any:
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
