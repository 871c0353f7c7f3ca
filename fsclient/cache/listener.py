"""Hears what flows publish in Redis."""

from __future__ import annotations

import random
from collections.abc import Awaitable, Callable
from typing import Any

from redis.asyncio import RedisCluster

from feature_repo import catalog
from feature_repo.stores.redis.publish import channel
from fsclient.cache.listening import RECONNECT_S, Listener, OnLost, OnPublish

__all__ = ["PING_S", "RECONNECT_S", "PublishListener"]

PING_S = 1.0
"""After so long a silence the server is asked whether it is there; another as long is the loss of the channel."""


class PublishListener(Listener):
    """Listens to a project's channel.

    Args:
        project: whose publishes.
        connect: returns a redis.asyncio client of the running loop, of a server or a Cluster.
        on_publish, on_lost: see ``Listener``.
    """

    def __init__(
        self, project: str, connect: Callable[[], Awaitable[Any]], *, on_publish: OnPublish, on_lost: OnLost
    ) -> None:
        super().__init__(on_publish=on_publish, on_lost=on_lost)
        self._channel = channel(project)
        self._connect = connect

    async def _follow(self) -> None:
        # Not redis-py's PubSub: that one connects again by itself, and what was published meanwhile goes unnoticed.
        connection = await _own_connection(await self._connect())
        try:
            await connection.connect()
            await connection.send_command("SUBSCRIBE", self._channel)
            pinged = False
            while True:
                message = await connection.read_response(timeout=PING_S)
                if message is None:
                    if pinged:
                        raise TimeoutError("the server does not answer a ping")
                    await connection.send_command("PING")
                elif message[0] == b"subscribe":
                    await self._subscribed()
                elif message[0] == b"message":
                    await self._on_publish(_changed(message[2]))
                pinged = message is None
        finally:
            await connection.disconnect()  # and wait for it: a loop that stops next would leave the socket open


async def _own_connection(client: Any) -> Any:
    """A connection not made yet, and not one the pool hands out: cancelled in mid-handshake, that would be left open.

    Of a Cluster it is to any node, another one each time: its nodes forward to each other what is published.
    """
    if isinstance(client, RedisCluster):
        await client.initialize()
        node = random.choice(client.get_nodes())  # noqa: S311  # no secret
        return node.connection_class(**node.connection_kwargs)
    return client.connection_pool.make_connection()


def _changed(message: bytes) -> list[tuple[str, str]]:
    symbol, _, views = message.decode().partition("\n")
    timeframes = {catalog.VIEWS[v].timeframe.name for v in views.split() if v in catalog.VIEWS}
    return [(symbol, tf) for tf in sorted(timeframes)]
