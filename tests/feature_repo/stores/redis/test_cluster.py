"""The online store on a Redis Cluster of three nodes: the same guard, the same bytes, through Feast too."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import pytest
from feast import FeatureStore
from redis import RedisCluster as ClusterClient
from redis import asyncio as redis_asyncio

from feature_repo import catalog
from feature_repo.repo import Repo
from feature_repo.stores.redis.codec import encode_double, entity_key, field_key
from feature_repo.stores.redis.connection import connect, connect_async
from feature_repo.stores.redis.publish import ViewRow, publish
from tests.redis_cluster import RedisCluster, redis_cluster  # noqa: F401 - a fixture

VIEW = catalog.view("ohlcv", "1h")
SYMBOLS = ("EUR/USD", "GBP/USD", "USD/JPY")


@pytest.fixture
def cluster(redis_cluster: RedisCluster) -> Iterator[Any]:  # noqa: F811
    client = connect(redis_cluster.url, "redis_cluster")
    assert isinstance(client, ClusterClient)
    client.flushall()
    yield client
    client.close()


@pytest.fixture
def cluster_store(feature_store: FeatureStore, repo: Repo, redis_cluster: RedisCluster) -> FeatureStore:  # noqa: F811
    """Feast with the session's registry, on the Cluster."""
    online = {**repo.raw["online_store"], "redis_url": redis_cluster.url, "redis_type": "redis_cluster"}
    return replace(repo, raw={**repo.raw, "online_store": online}).feature_store()


def row(event: int, created: int, value: float) -> ViewRow:
    values = {field_key(VIEW.name, name): encode_double(value) for name in VIEW.fields}
    return ViewRow(view=VIEW.name, event_us=event, created_us=created, values=values)


def test_symbols_spread_over_the_nodes(cluster: Any) -> None:
    owners = {cluster.get_node_from_key(entity_key(symbol, "test")).name for symbol in catalog.SYMBOLS}
    assert len(owners) == len(cluster.get_primaries()) == 3


def test_the_guard_holds_on_a_cluster(cluster: Any) -> None:
    for symbol in SYMBOLS:
        assert publish(cluster, "test", symbol, [row(2_000_000, 1, 1.0)]) == (True,)
        assert publish(cluster, "test", symbol, [row(1_000_000, 9, 2.0)]) == (False,)
        assert publish(cluster, "test", symbol, [row(2_000_000, 1, 3.0)]) == (False,)
        assert publish(cluster, "test", symbol, [row(2_000_000, 2, 4.0)]) == (True,)
        assert cluster.hget(entity_key(symbol, "test"), field_key(VIEW.name, "close")) == encode_double(4.0)


async def test_feast_reads_a_cluster(cluster: Any, cluster_store: FeatureStore, repo: Repo) -> None:
    for k, symbol in enumerate(SYMBOLS):
        publish(cluster, repo.project, symbol, [row(2_000_000, 1, float(k))])
    refs, entities = [f"{VIEW.name}:close"], [{"symbol": symbol} for symbol in SYMBOLS]
    assert cluster_store.get_online_features(refs, entities).to_dict()["close"] == [0.0, 1.0, 2.0]
    response = await cluster_store.get_online_features_async(refs, entities)
    assert response.to_dict()["close"] == [0.0, 1.0, 2.0]
    await cluster_store.close()


def test_a_project_is_deleted_from_a_cluster(cluster: Any, cluster_store: FeatureStore, repo: Repo) -> None:
    for project in (repo.project, "non" + repo.project):
        for symbol in SYMBOLS:
            publish(cluster, project, symbol, [row(2_000_000, 1, 1.0)])
    cluster_store._get_provider().online_store.delete_entity_values(cluster_store.config, [catalog.ENTITY])
    for symbol in SYMBOLS:
        assert not cluster.exists(entity_key(symbol, repo.project))
        assert cluster.exists(entity_key(symbol, "non" + repo.project))


async def test_the_asynchronous_client_reads_a_cluster(cluster: Any, redis_cluster: RedisCluster) -> None:  # noqa: F811
    publish(cluster, "test", "EUR/USD", [row(2_000_000, 1, 1.0)])
    async with connect_async(redis_cluster.url, "redis_cluster") as client:
        assert isinstance(client, redis_asyncio.RedisCluster)
        fields = [field_key(VIEW.name, name) for name in VIEW.fields]
        assert await client.hmget(entity_key("EUR/USD", "test"), fields) == [encode_double(1.0)] * len(fields)
