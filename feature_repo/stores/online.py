"""Feast's Redis online store with three fixes: corrections are taken, writes are atomic, absence is reported.

Feast's own drops a row with the same event timestamp, so a corrected bar never arrives; it reads and then writes, so
two writers can leave the older value; and it answers a missing key as a present null of 1970. The byte layout stays
Feast's, so its tools and ours read the same store.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from datetime import UTC, datetime
from typing import Any, Literal

from feast import Entity, FeatureView, RepoConfig
from feast.infra.key_encoding_utils import serialize_entity_key_prefix
from feast.infra.online_stores.redis import RedisOnlineStore, RedisOnlineStoreConfig, RedisType
from feast.protos.feast.types.EntityKey_pb2 import EntityKey
from feast.protos.feast.types.Value_pb2 import Value
from pydantic import Field

from feature_repo.home import HOME_VARIABLE, resolve_home
from feature_repo.moments import to_datetime, to_us
from feature_repo.repo import given_url
from feature_repo.stores.redis.codec import decode_timestamp, entity_key, field_key, revision_key, timestamp_key
from feature_repo.stores.redis.connection import connect, connect_async
from feature_repo.stores.redis.embedded import ensure_server
from feature_repo.stores.redis.publish import ViewRow, publish


class BarRedisOnlineStoreConfig(RedisOnlineStoreConfig):
    """Configuration of the online store.

    ``redis_url`` is a redis-py URL (``redis://``, ``rediss://``, ``unix://``); without one, a ``connection_string``
    as in Feast is used if it is set, else the embedded server in ``home``. Sentinel needs a ``connection_string``.
    """

    type: Literal["feature_repo.stores.online.BarRedisOnlineStore"] = "feature_repo.stores.online.BarRedisOnlineStore"  # type: ignore[assignment]
    redis_url: str | None = Field(default=None, repr=False)
    connection_string: str = Field(default="localhost:6379", repr=False)
    home: str = HOME_VARIABLE

    @property
    def url(self) -> str | None:
        """The server's URL; None when Feast's own ``connection_string`` says where it is."""
        if self.redis_type == RedisType.redis_sentinel:
            return None
        url = given_url(self.redis_url)
        if url is None and "connection_string" not in self.model_fields_set:
            url = ensure_server(resolve_home(self.home))
        return url


Rows = list[tuple[EntityKey, dict[str, Value], datetime, datetime | None]]


class BarRedisOnlineStore(RedisOnlineStore):
    """The online store: one hash per symbol, read and written as Feast does, with the fixes that the module lists."""

    def __init__(self) -> None:
        self._async_clients: dict[asyncio.AbstractEventLoop, Any] = {}

    def _get_client(self, online_store_config: RedisOnlineStoreConfig) -> Any:
        if self._client is None:
            url = _url(online_store_config)
            if url is None:
                return super()._get_client(online_store_config)
            self._client = connect(url, online_store_config.redis_type.value)
        return self._client

    async def _get_client_async(self, online_store_config: RedisOnlineStoreConfig) -> Any:
        # Feast keeps one client, bound to the event loop that first used it.
        loop = asyncio.get_running_loop()
        client = self._async_clients.get(loop)
        if client is None:
            url = _url(online_store_config)
            if url is None:
                self._client_async = None
                client = await super()._get_client_async(online_store_config)
            else:
                client = connect_async(url, online_store_config.redis_type.value)
            for ended in [loop for loop in self._async_clients if loop.is_closed()]:
                del self._async_clients[ended]  # its client refers to it, so it would never be collected
            self._async_clients[loop] = client
        return client

    async def close(self) -> None:
        """Closes the running event loop's connections; Feast calls it when its server stops."""
        client = self._async_clients.pop(asyncio.get_running_loop(), None)
        if client is not None:
            await client.aclose()

    # ----------------------------------------------------------------------------------------------- writing

    def online_write_batch(
        self, config: RepoConfig, table: FeatureView, data: Rows, progress: Callable[[int], Any] | None
    ) -> None:
        """Writes rows through the same guard as the flows: by bar, then by revision (``created``)."""
        client = self._get_client(config.online_store)
        for key, values, event, created in data:
            publish(client, config.project, _symbol(key), [_view_row(table, values, event, created)])
            if progress:
                progress(1)

    async def online_write_batch_async(
        self, config: RepoConfig, table: FeatureView, data: Rows, progress: Callable[[int], Any] | None
    ) -> None:
        """As ``online_write_batch``, in a thread: writes are not latency-critical."""
        await asyncio.to_thread(self.online_write_batch, config, table, data, progress)

    # ----------------------------------------------------------------------------------------------- reading

    def _get_features_for_entity(
        self, values: Sequence[Any], feature_view: str, requested_features: list[str]
    ) -> tuple[datetime | None, dict[str, Value] | None]:
        stamp = values[requested_features.index(f"_ts:{feature_view}")]
        if stamp is None:
            return None, None  # Feast would return a present null of 1970
        features = {}
        for name, cell in zip(requested_features, values, strict=True):
            if cell is not None and not name.startswith("_ts:"):
                features[name] = Value.FromString(cell)
        return to_datetime(decode_timestamp(stamp)), features

    # ---------------------------------------------------------------------------------------------- deleting

    def delete_entity_values(self, config: RepoConfig, join_keys: list[str]) -> None:
        """Deletes every symbol of this project, and of this project only (Feast matches any name that ends so)."""
        client = self._get_client(config.online_store)
        for key in self._keys(client, config, join_keys):
            client.delete(key)

    def delete_table(self, config: RepoConfig, table: FeatureView) -> None:
        """Deletes a view's fields from every symbol of this project."""
        client = self._get_client(config.online_store)
        fields = [field_key(table.name, f.name) for f in table.features]
        fields += [timestamp_key(table.name), revision_key(table.name)]
        for key in self._keys(client, config, table.join_keys):
            client.hdel(key, *fields)

    @staticmethod
    def _keys(client: Any, config: RepoConfig, join_keys: list[str]) -> list[bytes]:
        prefix = serialize_entity_key_prefix(join_keys)
        keys = client.scan_iter(match=_literal(prefix) + b"*", count=1000)
        return [key for key in keys if entity_key(_symbol_of(key, len(prefix)), config.project) == key]

    def teardown(
        self,
        config: RepoConfig,
        tables: Sequence[FeatureView],
        entities: Sequence[Entity],  # noqa: ARG002  # Feast passes them too
    ) -> None:
        """Deletes everything of this project."""
        for join_keys in {tuple(table.join_keys) for table in tables}:
            self.delete_entity_values(config, list(join_keys))


def _url(config: RedisOnlineStoreConfig) -> str | None:
    return config.url if isinstance(config, BarRedisOnlineStoreConfig) else None


def _symbol(key: EntityKey) -> str:
    return str(key.entity_values[0].string_val)


def _symbol_of(key: bytes, prefix: int) -> str:
    """The symbol in a Redis key, which is preceded by its length."""
    start = prefix + 8
    length = int.from_bytes(key[prefix + 4 : start], "little")
    return key[start : start + length].decode("utf-8", "replace")


def _literal(prefix: bytes) -> bytes:
    """``prefix`` as a pattern that matches itself."""
    return b"".join(b"\\" + bytes([b]) if b in b"*?[]\\^-" else bytes([b]) for b in prefix)


def _view_row(table: FeatureView, values: dict[str, Value], event: datetime, created: datetime | None) -> ViewRow:
    return ViewRow(
        view=table.name,
        event_us=_since_epoch(event),
        created_us=_since_epoch(created) if created else 0,
        values={field_key(table.name, name): value.SerializeToString() for name, value in values.items()},
    )


def _since_epoch(moment: datetime) -> int:
    return to_us(moment if moment.tzinfo else moment.replace(tzinfo=UTC))
