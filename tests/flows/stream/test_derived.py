"""Longer bars derived live equal those of a batch, whatever hours their source bars have."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pandas as pd
import pytest

from flows.settings import Settings
from flows.stream import Feed
from tests.flows.stream.streaming import Running, State, assert_same, by_batch, live, state_of

STORED = 400


def hourly(first: str, last: str, *, hours: range, days: range, price: float) -> pd.DataFrame:
    """Hourly bars of a random walk on some hours and weekdays (0 is Monday), UTC."""
    opens = pd.date_range(first, last, freq="h", tz="UTC").astype("datetime64[us, UTC]")
    opens = opens[opens.hour.isin([*hours]) & opens.dayofweek.isin([*days])]
    rng = np.random.default_rng(7)
    close = np.round(price * np.exp(np.cumsum(rng.normal(0, 1e-3, len(opens)))), 5)
    spread = np.round(price * rng.uniform(1e-4, 5e-4, len(opens)), 5)
    return pd.DataFrame(
        {"open_time": opens, "open": close, "high": close + spread, "low": close - spread, "close": close,
         "volume": rng.integers(1, 900, len(opens)).astype(float)}
    )  # fmt: skip


@pytest.mark.parametrize(
    ("symbol", "bars", "days"),
    [
        # an exchange's extended hours: 08:00 to 24:00 UTC, where it trades from 13:30 or 14:30 to 20:00 or 21:00
        ("GOOG", hourly("2024-02-01", "2024-04-10", hours=range(8, 24), days=range(5), price=140.0), {0, 1, 2, 3, 4}),
        # a broker's weekend: it quotes through Saturday
        ("EUR/USD", hourly("2024-03-01", "2024-04-10", hours=range(24), days=range(7), price=1.1), {6, 0, 1, 2, 3}),
    ],
    ids=["extended hours", "weekend"],
)
def test_bars_of_closed_hours_make_the_same_longer_bars_as_in_a_batch(
    symbol: str,
    bars: pd.DataFrame,
    days: set[int],
    settings: Settings,
    redis: Any,
    feed: Feed,
    expected: Callable[..., State],
) -> None:
    by_batch(settings, {symbol: bars.head(STORED)}, "1h")
    with Running(settings, redis) as running:
        for start in range(STORED, len(bars), 7):
            feed.put(live(bars.iloc[start : start + 7], symbol, "1h"))
            running.work()
        running.finish()
        assert running.stats.bars > len(bars) - STORED - 200
    state = state_of(settings, [symbol])
    assert_same(state, expected({symbol: bars}, "1h"))
    daily = state.offline["bars"].query("timeframe == '1d'")
    assert len(daily) > 20
    assert set(pd.DatetimeIndex(daily["open_time"]).dayofweek) == days  # a day of fx begins on the eve, 0 is Monday
