"""The whole way on a Redis Cluster: a run publishes to it, strategies and Feast read it, a node is lost."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

from feature_repo import catalog
from feature_repo.home import REPO
from feature_repo.repo import Repo, load_repo
from feature_repo.series import Series
from feature_repo.sessions import expected_opens
from feature_repo.stores.redis.codec import entity_key
from feature_repo.stores.redis.connection import connect
from flows import settings as settings_module
from flows.ingest.ingest import ingest
from flows.ledger import Run
from flows.materialize import materialize_symbols
from flows.settings import Settings
from flows.sources import read_bars
from fsclient import FeatureStoreClient, FeatureStoreUnavailable, provenance
from tests.redis_cluster import RedisCluster, running_cluster

NOW = datetime(2024, 6, 3, 12, 0, tzinfo=UTC)
HOUR_US = 3_600_000_000


@pytest.fixture(scope="module")
def own_cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RedisCluster]:
    """One whose nodes may be lost."""
    with running_cluster(tmp_path_factory.mktemp("own_cluster")) as cluster:
        yield cluster


@pytest.fixture(scope="module")
def cluster_settings(own_cluster: RedisCluster, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Settings]:
    """Settings over a ``feature_store.yaml`` that names a cluster, as production's does."""
    folder = tmp_path_factory.mktemp("cluster_home")
    file = folder / "feature_store.yaml"
    file.write_text(
        (REPO / "feature_store.yaml").read_text().replace("redis_type: redis\n", "redis_type: redis_cluster\n")
    )

    def load(path: Path | None = None, variables: Any = None) -> Repo:
        return load_repo(path or file, variables)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(settings_module, "load_repo", load)
        yield Settings(home=folder / "home", redis_url=own_cluster.url)


@pytest.fixture(scope="module")
def symbols(own_cluster: RedisCluster, cluster_settings: Settings) -> list[str]:
    """Three symbols, each on a node of its own, with 300 hours of bars, materialized."""
    repo = cluster_settings.repo()
    with connect(repo.redis_url or "", repo.redis_type) as client:
        owners: dict[str, str] = {}
        for name, symbol in catalog.SYMBOLS.items():
            if symbol.session == catalog.symbol("EUR/USD").session:
                owners.setdefault(client.get_node_from_key(entity_key(name, repo.project)).name, name)
    names = sorted(owners.values())
    assert len(names) == len(own_cluster.nodes)
    for name in names:
        store_bars(name, cluster_settings)
    outcomes = materialize_symbols(
        Run(ledger=cluster_settings.ledger(), tables=cluster_settings.tables(), now=NOW),
        names,
        ["1h", "4h"],
        cluster_settings,
    )
    assert not any(outcome.problem for outcome in outcomes)
    assert all(outcome.published for outcome in outcomes)
    return names


def newest_close(name: str) -> float:
    """In the middle of what the symbol's price may be."""
    symbol = catalog.symbol(name)
    return (symbol.price_min + symbol.price_max) / 2


def store_bars(name: str, settings: Settings, n: int = 300) -> None:
    symbol, timeframe = catalog.symbol(name), catalog.timeframe("1h")
    end_us = int(NOW.timestamp() * 1e6) - HOUR_US
    opens = expected_opens(symbol.session, timeframe, end_us - 3 * n * HOUR_US, end_us + 1)[-n:]
    close = newest_close(name) * np.linspace(0.98, 1.0, n)
    frame = pd.DataFrame({"open_time": pd.to_datetime(opens, unit="us", utc=True).astype("datetime64[us, UTC]")})
    frame = frame.assign(open=close, high=close + 1e-4, low=close - 1e-4, close=close, volume=100.0)
    file = settings.home / f"{name.replace('/', '')}.csv"
    file.parent.mkdir(parents=True, exist_ok=True)
    frame.to_csv(file, index=False)
    bars = read_bars(file, symbol=symbol, timeframe=timeframe)
    stores = {"tables": settings.tables(), "ledger": settings.ledger()}
    ingest(bars, series=Series(symbol=symbol, timeframe=timeframe), now=NOW, max_bad_share=0.05, **stores)


async def test_a_strategy_reads_what_a_run_published(cluster_settings: Settings, symbols: list[str]) -> None:
    async with FeatureStoreClient(repo=cluster_settings.repo(), now=NOW.timestamp) as client:
        frame = await client.get_latest(symbols, ["close", "rsi_14", "4h:close"], timeframe="1h")
        assert list(frame.index) == symbols
        assert frame["close"].notna().all()
        assert (frame["age_bars"] == 0).all()
        assert provenance(frame).source == "online"
        end = NOW - timedelta(hours=1)
        bars = await client.get_ohlcv(symbols[0], end - timedelta(hours=20), end, timeframe="1h")
        assert provenance(bars).source == "online"
        assert bars["close"].iloc[-1] == frame["close"].iloc[0]


def test_feast_reads_the_same(cluster_settings: Settings, symbols: list[str]) -> None:
    from feature_repo import definitions as d

    store = cluster_settings.repo().feature_store()
    store.apply([d.project, d.symbol, *d.sources.values(), *d.views.values(), *d.services.values()])
    store.refresh_registry()
    entities = [{"symbol": symbol} for symbol in symbols]
    answer = store.get_online_features(["ohlcv_1h:close", "indicators_1h:rsi_14"], entities).to_dict()
    assert answer["symbol"] == symbols
    assert answer["close"] == [newest_close(symbol) for symbol in symbols]


async def test_a_node_that_is_lost_takes_its_symbols_and_no_others(
    own_cluster: RedisCluster, cluster_settings: Settings, symbols: list[str]
) -> None:
    repo = cluster_settings.repo()
    with connect(repo.redis_url or "", repo.redis_type) as client:
        stopped = client.get_node_from_key(entity_key(symbols[0], repo.project)).port
    seed = next(port for port in own_cluster.nodes if port != stopped)
    reduced = replace(repo, redis_url=f"redis://127.0.0.1:{seed}", home=repo.home / "other")
    own_cluster.stop_node(stopped)
    async with FeatureStoreClient(repo=reduced, now=NOW.timestamp, on_unavailable="fail") as client:
        frame = await client.get_latest(symbols[1:], ["close"], timeframe="1h")
        assert frame["close"].notna().all()
        with pytest.raises(FeatureStoreUnavailable):
            await client.get_latest(symbols[:1], ["close"], timeframe="1h")
