"""On a Redis Cluster: lookups, and publishes heard through whichever node the client listens at."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import pytest_asyncio
from redis import Redis

from feature_repo.catalog import TIMEFRAMES
from feature_repo.stores.redis.connection import connect
from feature_repo.stores.redis.publish import channel
from flows.runs.publish import publish_window
from fsclient import FeatureStoreClient, FeatureStoreUnavailable
from tests.fsclient.stack import PUBLISHED, Clock, Market, source, until
from tests.redis_cluster import HOST, RedisCluster, running_cluster


@pytest.fixture(scope="module")
def cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RedisCluster]:
    """Three nodes of this module's own, one of which a test ends."""
    with running_cluster(tmp_path_factory.mktemp("nodes")) as nodes:
        yield nodes


@pytest.fixture
def writer(cluster: RedisCluster, market: Market) -> Iterator[Any]:
    """Publishes as a flow does; what it published before the test is there."""
    client = connect(cluster.url, "redis_cluster")
    client.flushall()
    for symbol in PUBLISHED:
        publish_window(client, market.repo.project, symbol, TIMEFRAMES["1h"], market.windows[symbol, "1h"])
    yield client
    client.close()


@pytest_asyncio.fixture
async def client(cluster: RedisCluster, market: Market, clock: Clock, tmp_path: Path) -> AsyncIterator[Any]:
    repo = replace(market.repo, home=tmp_path, redis_url=cluster.url, redis_type="redis_cluster")
    async with FeatureStoreClient(
        repo=repo, now=clock.now, clock=clock.monotonic, publish_metrics=False, on_unavailable="fail"
    ) as client:
        yield client


async def hearing_all(client: FeatureStoreClient) -> None:
    await client.get_latest(PUBLISHED, ["close"])
    await until(lambda: client.hears_publishes, "the client to hear publishes")


async def cached(client: FeatureStoreClient, symbol: str) -> None:
    """Waits until an answer is cached: the nodes may still be telling each other of what was published before."""
    async with asyncio.timeout(10):
        while source(await client.get_latest(symbol, ["close"])) != "cache":
            await asyncio.sleep(0.002)


def subscribers(cluster: RedisCluster, project: str) -> dict[int, int]:
    """How many listen at each node that runs."""
    counts = {}
    for port, node in cluster.nodes.items():
        if node.poll() is None:
            with Redis(host=HOST, port=port) as redis:
                counts[port] = redis.pubsub_numsub(channel(project))[0][1]
    return counts


def changes(client: FeatureStoreClient) -> int:
    assert client._invalidator is not None
    return client._invalidator.changes


async def test_a_publish_at_any_node_is_heard(writer: Any, client: FeatureStoreClient, market: Market) -> None:
    await hearing_all(client)
    for n, symbol in enumerate(PUBLISHED):  # which lie on different nodes
        await cached(client, symbol)
        before, window = changes(client), market.corrected(symbol, close=1.5 + n)
        assert publish_window(writer, market.repo.project, symbol, TIMEFRAMES["1h"], window)
        await until(lambda before=before: changes(client) > before, "the publish to be heard", within_s=2)
        frame = await client.get_latest(symbol, ["close"])
        assert (source(frame), frame["close"].iloc[0]) == ("online", 1.5 + n)


async def test_a_node_that_fails_is_left_for_another(
    writer: Any, client: FeatureStoreClient, market: Market, cluster: RedisCluster
) -> None:
    """Fault: the node at which the client listens ends. It hears again at another, and trusts nothing from before."""
    del writer
    project = market.repo.project
    await hearing_all(client)
    await until(lambda: sum(subscribers(cluster, project).values()) == 1, "one subscription")
    (stopped,) = [port for port, listening in subscribers(cluster, project).items() if listening]
    cluster.stop_node(stopped)
    await until(lambda: not client.hears_publishes, "the loss to be noticed")
    await until(lambda: client.hears_publishes, "the client to hear at another node", within_s=20)
    before = changes(client)
    with Redis(host=HOST, port=next(port for port in cluster.nodes if port != stopped)) as redis:
        redis.publish(channel(project), "EUR/USD\nohlcv_1h")
    await until(lambda: changes(client) > before, "a publish to be heard")
    answers = await asyncio.gather(*(client.get_latest(s, ["close"]) for s in PUBLISHED), return_exceptions=True)
    for answer in answers:  # a symbol of the lost node is unavailable, and reported as such
        assert isinstance(answer, FeatureStoreUnavailable) or source(answer) == "online"
