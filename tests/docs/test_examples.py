"""The strategies in docs/examples run as a user would run them, on a small home."""

from __future__ import annotations

import os
import runpy
import subprocess
import sys
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pandas as pd
import pytest

from feature_repo.stores.redis.embedded import stop_server
from fsclient import SyncFeatureStoreClient
from tests.fsclient.stack import fill_home

EXAMPLES = Path(__file__).resolve().parents[2] / "docs" / "examples"


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """The months that the examples read, of generated bars."""
    folder = tmp_path_factory.mktemp("examples")
    fill_home(folder, datetime(2017, 9, 1, tzinfo=UTC), datetime(2018, 1, 31, 23, tzinfo=UTC))
    yield folder
    stop_server(folder)


def run(example: str, home: Path, *arguments: str) -> str:
    environ = {k: v for k, v in os.environ.items() if not k.startswith("FSTORE_")} | {"FSTORE_HOME": str(home)}
    command = [sys.executable, "-W", "error", str(EXAMPLES / example), *arguments]
    done = subprocess.run(command, env=environ, capture_output=True, text=True, check=False, timeout=60)
    assert done.returncode == 0, done.stderr
    assert done.stderr == ""
    return done.stdout


def test_the_asynchronous_strategy_acts_once_on_each_bar(home: Path) -> None:
    lines = run("strategy_async.py", home, "EUR/USD", "GBP/USD", "--rounds", "3", "--pause", "0").splitlines()
    assert len(lines) == 2
    for symbol, line in zip(("EUR/USD", "GBP/USD"), lines, strict=True):
        assert line.startswith((f"{symbol} long at", f"{symbol} flat at"))
        assert line.endswith("(online, bar closed 2018-02-01T00:00:00Z)")


def test_it_does_not_trade_on_a_bar_that_is_late(home: Path) -> None:
    output = run("strategy_async.py", home, "--max-age-bars", "1", "--rounds", "1", "--pause", "0")
    assert output.startswith("no trade: the answer is of 2018-02-01T00:00:00Z")


def test_the_synchronous_strategies_run(home: Path) -> None:
    first, second = run("strategy_sync.py", home).splitlines()
    assert first.startswith("RsiReversal: ")
    assert first.endswith(" candles")
    assert second.startswith("MovingAverageCross: ")
    assert second.endswith(" pips")


def test_the_synchronous_strategies_decide_by_what_was_known(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What they decide until a day is the same when later bars do not exist."""
    monkeypatch.setenv("FSTORE_HOME", str(home))
    monkeypatch.delenv("FSTORE_REDIS_URL", raising=False)
    example: dict[str, Any] = runpy.run_path(str(EXAMPLES / "strategy_sync.py"))
    half = pd.Timestamp("2018-01-15 23:00", tz="UTC")
    with SyncFeatureStoreClient() as client:
        candles, profits = example["run_freqtrade"](client), example["run_backtrader"](client)
        example["run_freqtrade"].__globals__["END"] = "2018-01-15"
        earlier, before = example["run_freqtrade"](client), example["run_backtrader"](client)
    pd.testing.assert_frame_equal(candles[candles["date"] <= half].reset_index(drop=True), earlier)
    pd.testing.assert_series_equal(profits[: len(before)], before)
    assert candles["rsi_14"].notna().all()
    assert len(profits) > len(before) > 0
