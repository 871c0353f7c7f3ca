"""Flawless bars and indicator rows, for the tests to break."""

from datetime import UTC, datetime

import numpy as np
import pandas as pd
import pytest

from feature_repo.catalog import INDICATOR_FIELDS, PRODUCER, symbol, timeframe
from flows.quality import check_bars, check_indicators

NOW = datetime(2024, 3, 1, tzinfo=UTC)


@pytest.fixture(scope="session")
def make_bars():
    """n minute bars of EUR/USD from 2024-01-01, a random walk around 1.1 without reported volume."""

    def make(n=200, seed=0):
        rng = np.random.default_rng(seed)
        close = 1.1 + np.cumsum(rng.normal(0, 1e-5, n))
        opens = np.r_[1.1, close[:-1]][:n]
        spread = rng.uniform(0, 1e-5, (2, n))
        return pd.DataFrame(
            {
                "open_time": pd.date_range("2024-01-01", periods=n, freq="min", tz="UTC").as_unit("us"),
                "open": opens,
                "high": np.maximum(opens, close) + spread[0],
                "low": np.minimum(opens, close) - spread[1],
                "close": close,
                "volume": np.full(n, np.nan),
            }
        )

    return make


@pytest.fixture(scope="session")
def check():
    """``check_bars`` of EUR/USD minute bars at 2024-03-01, all of them on the grid by default."""

    def judge(frame, *, on_grid=None, now=NOW, **options):
        on_grid = np.ones(len(frame), dtype=bool) if on_grid is None else on_grid
        return check_bars(
            frame, symbol=symbol("EUR/USD"), timeframe=timeframe("1m"), now=now, on_grid=on_grid, **options
        )

    return judge


@pytest.fixture(scope="session")
def make_indicators():
    """n indicator rows, each field in the middle of its bounds."""

    def make(n=200):
        columns = {}
        for name in INDICATOR_FIELDS:
            low, high = PRODUCER[name].low, PRODUCER[name].high
            columns[name] = np.full(n, 1.0 if low is None or high is None else (low + high) / 2)
        times = pd.date_range("2024-01-01 00:01", periods=n, freq="min", tz="UTC").as_unit("us")
        return pd.DataFrame({"event_timestamp": times, **columns})

    return make


@pytest.fixture(scope="session")
def check_rows():
    """``check_indicators`` of rows in which only the named fields may be NaN."""

    def judge(frame, *, may_be_nan=None, **options):
        masks = {name: np.zeros(len(frame), dtype=bool) for name in INDICATOR_FIELDS} | (may_be_nan or {})
        return check_indicators(frame, may_be_nan=masks, **options)

    return judge
