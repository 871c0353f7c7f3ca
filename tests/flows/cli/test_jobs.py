"""A run by hand ends in Prefect as one on schedule: green when it did all, red when it stopped a symbol."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pandas as pd
import pytest

from feature_repo.catalog import view
from feature_repo.stores.redis.codec import encode_double, entity_key, field_key
from flows.settings import Settings

Fstore = Callable[..., Any]


@pytest.fixture
def last_state(prefect_server: str) -> Callable[[str], tuple[str, str]]:
    """The name of the state that the newest run of a flow ended in, and its message."""
    from prefect.client.orchestration import get_client
    from prefect.client.schemas.filters import FlowFilter, FlowFilterName
    from prefect.client.schemas.sorting import FlowRunSort

    def read(flow: str) -> tuple[str, str]:
        with get_client(sync_client=True) as client:
            (run,) = client.read_flow_runs(
                flow_filter=FlowFilter(name=FlowFilterName(any_=[flow])), sort=FlowRunSort.START_TIME_DESC, limit=1
            )
        assert run.state is not None
        return str(run.state.name), run.state.message or ""

    return read


def test_materialize(
    make_bars: Callable[..., pd.DataFrame], take: Callable[..., Any], fstore: Fstore, last_state: Any
) -> None:
    take(make_bars(30))
    assert fstore("materialize", "--timeframe", "1h").code == 0
    assert last_state("materialize") == ("Completed", "1 views published")
    ended = fstore("materialize", "--timeframe", "1h", "--symbol", "EUR/USD", "--symbol", "GBP/USD", "--json")
    assert (ended.code, ended.err) == (1, "")
    assert [(outcome["symbol"], outcome["problem"]) for outcome in ended.json] == [
        ("EUR/USD", ""),
        ("GBP/USD", "no stored bars make 1h: ingest some first"),
    ]
    assert last_state("materialize") == (
        "Stopped",
        "0 views published; 1 stopped: GBP/USD: no stored bars make 1h: ingest some first",
    )


def test_backfill(published: pd.DataFrame, fstore: Fstore, last_state: Any) -> None:
    assert fstore("backfill", "--timeframe", "1d", "--symbol", "GBP/USD").code == 1
    assert last_state("backfill") == (
        "Stopped",
        "0 rows written; 1 stopped: GBP/USD: it has no stored bars: ingest some first",
    )


def test_verify(published: pd.DataFrame, fstore: Fstore, redis: Any, settings: Settings, last_state: Any) -> None:
    key = entity_key("EUR/USD", settings.repo().project)
    redis.hset(key, field_key(view("ohlcv", "1d").name, "close"), encode_double(1.5))
    assert fstore("verify", "--timeframe", "1d").code == 1
    name, message = last_state("verify")
    assert name == "Stopped"
    assert message.startswith("1 views compared; 1 stopped: EUR/USD 1d: a value online is not the one that was stored")
