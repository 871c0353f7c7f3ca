"""A point is explained as ``fstore explain`` does, whatever is unavailable."""

from __future__ import annotations

from dataclasses import replace
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from feature_repo.stores.redis.embedded import ensure_server
from flows.cli.operations import LedgerOperations
from flows.inspect.explain import Explanation
from flows.settings import Settings
from fsclient.dashboard import OperationsError
from fsclient.dashboard.panels.explanation import explained
from tests.fsclient.dashboard.conftest import REVISED_BACK, Stack
from tests.fsclient.dashboard.test_pages import text


def shown_words(stack: Stack, symbol: str, fields: list[str], at: datetime, **changed: Any) -> str:
    return text(explained(replace(stack.sources, **changed), symbol, "1h", fields, at))


def open_of(stack: Stack, symbol: str, back: int) -> datetime:
    opens = stack.settings.tables().read("bars", timeframe="1h", symbols=[symbol], columns=[])["open_time"]
    open_time: datetime = opens[-1 - back].as_py()
    return open_time


@pytest.mark.parametrize("field", ["sma_50", "rsi_14", "macd", "obv"])
def test_an_indicators_value_is_shown_stored_recomputed_and_online(stack: Stack, field: str) -> None:
    at = open_of(stack, "EUR/USD", 4)
    explanation = stack.sources.operations.explain("EUR/USD", "1h", field, at)  # type: ignore[union-attr]
    assert isinstance(explanation, Explanation)
    assert explanation.open_time == at
    assert explanation.recomputed == pytest.approx(explanation.stored, rel=1e-9)
    words = shown_words(stack, "EUR/USD", ["close", field], at)
    for word in ("stored", "recomputed", "online", "warm-up", "revisions", field, f"{at:%Y-%m-%d %H:%M}"):
        assert word in words


def test_every_revision_of_a_bar_is_shown(stack: Stack) -> None:
    at = stack.newest - timedelta(hours=REVISED_BACK)
    explanation = stack.sources.operations.explain("BTC/USD", "1h", "close", at)  # type: ignore[union-attr]
    assert len(explanation.revisions) == 2
    assert explanation.stored == explanation.revisions[1].value != explanation.revisions[0].value


def test_without_a_ledger_it_says_where_points_are_explained(stack: Stack) -> None:
    words = shown_words(stack, "EUR/USD", ["close"], open_of(stack, "EUR/USD", 0), operations=None)
    assert "fstore explain" in words


def test_what_cant_be_explained_is_shown(stack: Stack) -> None:
    at = open_of(stack, "EUR/USD", 0) - timedelta(days=4_000)
    assert "the first one opened" in shown_words(stack, "EUR/USD", ["close"], at)
    with pytest.raises(OperationsError, match="nope"):
        stack.sources.operations.explain("EUR/USD", "1h", "nope", at)  # type: ignore[union-attr]


def test_with_the_online_store_away_the_rest_is_shown(stack: Stack, tmp_path: Path) -> None:
    unreachable = Settings(home=stack.home, redis_url=f"unix://{tmp_path}/nobody.sock")
    words = shown_words(
        stack, "EUR/USD", ["rsi_14"], open_of(stack, "EUR/USD", 4), operations=LedgerOperations(unreachable)
    )
    assert "nothing is online" in words
    assert "all agree" in words
    assert ensure_server(stack.home) == stack.url
