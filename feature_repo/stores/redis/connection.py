"""Redis clients of a repository's online store, with bounded waits; the embedded server when no URL is set."""

from __future__ import annotations

from typing import Any

from feature_repo.repo import Repo
from feature_repo.stores.redis.embedded import ensure_server

CONNECT_TIMEOUT_S = 2.0
READ_TIMEOUT_S = 5.0


def online_url(repo: Repo) -> str:
    """The URL of the repository's online store; starts the embedded server when none is set.

    Raises:
        ValueError: the configuration names a server that only Feast's own commands can reach.
    """
    if repo.redis_type == "redis_sentinel":
        raise ValueError(
            "online_store.redis_type: Sentinel is for Feast's own commands only; name a server or a Cluster"
        )
    if repo.redis_url is None and "connection_string" in repo.raw["online_store"]:
        raise ValueError("online_store.connection_string is for Feast's own commands only; set redis_url instead")
    return repo.redis_url or ensure_server(repo.home)


def connect(url: str, redis_type: str = "redis", *, timeout_s: float = READ_TIMEOUT_S) -> Any:
    """A synchronous client with bounded waits and no retries of its own: callers retry, in one place."""
    from redis import Redis, RedisCluster
    from redis.backoff import NoBackoff
    from redis.retry import Retry

    options: dict[str, Any] = {"socket_timeout": timeout_s, "socket_connect_timeout": CONNECT_TIMEOUT_S}
    if redis_type == "redis_cluster":
        return RedisCluster.from_url(url, **options)
    return Redis.from_url(url, retry=Retry(NoBackoff(), 0), **options)


def connect_async(url: str, redis_type: str = "redis", *, timeout_s: float | None = READ_TIMEOUT_S) -> Any:
    """The same for asyncio; the client belongs to the running event loop. ``timeout_s`` None: the caller bounds it."""
    from redis.asyncio import Redis, RedisCluster
    from redis.asyncio.retry import Retry
    from redis.backoff import NoBackoff

    options: dict[str, Any] = {"socket_timeout": timeout_s, "socket_connect_timeout": CONNECT_TIMEOUT_S}
    if redis_type == "redis_cluster":
        return RedisCluster.from_url(url, **options)
    return Redis.from_url(url, retry=Retry(NoBackoff(), 0), **options)
