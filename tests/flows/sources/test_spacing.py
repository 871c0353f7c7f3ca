"""Bars that are longer than stated are refused; a market that seldom trades is not."""

from __future__ import annotations

from itertools import pairwise
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st

from feature_repo.catalog import SYMBOLS, TIMEFRAMES
from feature_repo.sessions import expected_opens
from flows.sources import SourceError, read_bars
from flows.sources.spacing import check_spacing

START_US = 1_704_700_800_000_000  # 2024-01-08 08:00 UTC


def times(opens_us: np.ndarray) -> pd.Series:
    return pd.Series(pd.DatetimeIndex(opens_us.astype("datetime64[us]")).tz_localize("UTC"))


def opens(symbol: str, timeframe: str, days: int) -> np.ndarray:
    end_us = START_US + days * 86_400_000_000
    return expected_opens(SYMBOLS[symbol].session, TIMEFRAMES[timeframe], START_US, end_us)


@pytest.mark.parametrize(
    ("stated", "real"), [(a, b) for i, a in enumerate(TIMEFRAMES) for b in list(TIMEFRAMES)[i + 1 :]]
)
@pytest.mark.parametrize("symbol", ["EUR/USD", "BTC/USD"])
def test_bars_of_a_longer_timeframe_are_refused_with_its_name(symbol: str, stated: str, real: str) -> None:
    """Over a change of clocks too, where a step of 4h is one of 3h or 5h."""
    with pytest.raises(SourceError, match=f"bars.csv: its bars are {real} apart.*Use --timeframe {real}"):
        check_spacing(times(opens(symbol, real, 90)), TIMEFRAMES[stated], "bars.csv")


@pytest.mark.parametrize("timeframe", TIMEFRAMES)
@pytest.mark.parametrize("symbol", ["EUR/USD", "BTC/USD", "GOOG"])
def test_bars_of_the_timeframe_are_not(symbol: str, timeframe: str) -> None:
    check_spacing(times(opens(symbol, timeframe, 90)), TIMEFRAMES[timeframe], "bars.csv")


@pytest.mark.parametrize("share", [0.5, 0.1, 0.02, 0.002])
def test_a_market_that_seldom_trades_is_not(share: float) -> None:
    minutes = opens("BTC/USD", "1m", 30)
    rng = np.random.default_rng(3)
    for _ in range(50):
        traded = minutes[rng.random(len(minutes)) < share]
        check_spacing(times(traded), TIMEFRAMES["1m"], "bars.csv")


@given(st.lists(st.integers(0, 10_000), max_size=60, unique=True))
def test_only_what_follows_at_one_usual_distance_is_refused(minutes: list[int]) -> None:
    opens_us = np.sort(np.array(minutes, dtype=np.int64)) * 60_000_000
    try:
        check_spacing(times(opens_us), TIMEFRAMES["1m"], "bars.csv")
    except SourceError:
        steps = [b - a for a, b in pairwise(opens_us.tolist())]
        usual = max(set(steps), key=steps.count)
        assert steps.count(usual) >= len(steps) / 2
        assert usual > 60_000_000


def test_weeks_are_no_timeframe_and_no_days(tmp_path: Path) -> None:
    path = tmp_path / "weeks.csv"
    weeks = pd.date_range("2023-01-02", periods=40, freq="7D")
    pd.DataFrame({"time": weeks, "open": 1.1, "high": 1.2, "low": 1.0, "close": 1.1}).to_csv(path, index=False)
    with pytest.raises(
        SourceError, match=r"weeks.csv: its bars are 10,080 min apart, so they are not 1d bars.*There are 1m"
    ):
        read_bars(path, symbol=SYMBOLS["BTC/USD"], timeframe=TIMEFRAMES["1d"])
