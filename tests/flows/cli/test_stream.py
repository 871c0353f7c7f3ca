"""`fstore replay`: which of a file's bars it feeds."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pandas as pd
import pytest

from feature_repo.catalog import timeframe
from feature_repo.moments import parse_moment
from flows.cli.ingest import _first_not_wanted


@pytest.fixture
def fed(monkeypatch: pytest.MonkeyPatch) -> list[pd.DataFrame]:
    """The bars that were replayed, in place of a stream that takes them."""
    replays: list[pd.DataFrame] = []

    def replay(bars: pd.DataFrame, *_: Any, **__: Any) -> int:
        replays.append(bars)
        return len(bars)

    monkeypatch.setattr("flows.stream.replay.replay", replay)
    monkeypatch.setattr("flows.cli.stream._feed", lambda _settings: None)
    return replays


@pytest.fixture
def source(tmp_path: Path) -> Path:
    opens = pd.date_range("2024-01-08", periods=72, freq="h", tz="UTC")
    bars = pd.DataFrame({"open": 1.1, "high": 1.2, "low": 1.0, "close": 1.1, "volume": 1.0}, index=opens)
    bars.to_csv(tmp_path / "bars.csv", index_label="time")
    return tmp_path / "bars.csv"


def test_an_end_date_means_that_whole_day(fstore: Callable[..., Any], fed: list[pd.DataFrame], source: Path) -> None:
    options = ("--source", str(source), "--timeframe", "1h", "--start", "2024-01-08", "--speed", "0")
    for end, last in (("2024-01-09", "2024-01-09 23:00"), ("2024-01-09T10:00", "2024-01-09 10:00")):
        assert fstore("replay", "EUR/USD", *options, "--end", end).code == 0
        assert fed[-1]["open_time"].iloc[-1] == pd.Timestamp(last, tz="UTC")
    assert fstore("replay", "EUR/USD", *options, "--end", "2024-01-07").code == 2
    assert fstore("replay", "EUR/USD", *options, "--end", "soon").code == 2


def test_a_bar_that_was_not_finished_when_its_file_was_written_is_not_fed(
    fstore: Callable[..., Any], fed: list[pd.DataFrame], source: Path
) -> None:
    options = ("--source", str(source), "--timeframe", "1h", "--start", "2024-01-08", "--speed", "0")
    last = pd.Timestamp("2024-01-10 23:00", tz="UTC")
    for minutes, expected in ((30, last - pd.Timedelta(hours=1)), (61, last)):
        written_s = (last + pd.Timedelta(minutes=minutes)).timestamp()
        os.utime(source, (written_s, written_s))
        assert fstore("replay", "EUR/USD", *options).code == 0
        assert fed[-1]["open_time"].iloc[-1] == expected


def test_an_ingest_asks_for_all_of_its_last_day() -> None:
    for day in ("2024-01-31", "20240131", "2024/1/31"):
        assert _first_not_wanted(day, timeframe("1h")) == parse_moment("2024-02-01")
    assert _first_not_wanted("2024-01-31T10:00", timeframe("1h")) == parse_moment("2024-01-31T10:00") + pd.Timedelta(
        hours=1
    )
    assert _first_not_wanted(None, timeframe("1h")) is None
