"""A feed into the test server, and a history that the batch flow has processed."""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pandas as pd
import pytest

from flows.settings import Settings
from flows.stream import Feed
from tests.flows.stream.streaming import State, by_batch, state_of

START = datetime(2024, 3, 4, tzinfo=UTC)


@pytest.fixture
def feed(redis: Any, settings: Settings) -> Feed:
    return Feed(redis, settings.repo().project, timeout_s=20)


@pytest.fixture
def minutes(make_bars: Callable[..., pd.DataFrame]) -> Callable[..., pd.DataFrame]:
    """``n`` minute bars of a symbol."""

    def make(n: int, symbol: str = "BTC/USD", *, seed: int = 1) -> pd.DataFrame:
        return make_bars(n, "1m", symbol, start=START, seed=seed)

    return make


@pytest.fixture
def expected(server_url: str, redis: Any, tmp_path: Path) -> Callable[..., State]:
    """What the batch flow makes of bars, in a home of its own; the online store is empty afterwards."""

    def state(bars: dict[str, pd.DataFrame], timeframe: str = "1m") -> State:
        home = Settings(home=tmp_path / "batch", redis_url=server_url)
        by_batch(home, bars, timeframe)
        batch_state = state_of(home, bars)
        redis.flushall()
        return batch_state

    return state


@pytest.fixture
def known(settings: Settings, minutes: Callable[..., pd.DataFrame]) -> pd.DataFrame:
    """1,500 minutes that the batch flow has processed, and 600 that follow."""
    bars = minutes(2100)
    by_batch(settings, {"BTC/USD": bars.head(1500)})
    return bars
