"""Hears what flows publish, so that no process serves what has just been corrected."""

from __future__ import annotations

import asyncio
import logging
import random
from collections.abc import Awaitable, Callable, Iterable
from typing import Any

from redis.asyncio import RedisCluster

from feature_repo import catalog
from feature_repo.stores.publish import channel

log = logging.getLogger("feature_store_client")

RECONNECT_S = (0.05, 0.2, 1.0, 2.0)
"""Waits between attempts to hear the channel again; the last one repeats."""
PING_S = 1.0
"""After so long a silence the server is asked whether it is there; another as long is the loss of the channel."""


class PublishListener:
    """Listens on one event loop, from ``start`` to ``stop``.

    Args:
        project: whose publishes.
        connect: gives a redis.asyncio client of the running loop, of a server or a Cluster.
        on_publish: called with the (symbol, timeframe) pairs that changed; several messages may come at once.
        on_lost: called when messages may have been missed: nothing cached before can be trusted.

    Attributes:
        hearing: whether every publish from now on will be heard, or its loss noticed.
    """

    def __init__(
        self,
        project: str,
        connect: Callable[[], Awaitable[Any]],
        *,
        on_publish: Callable[[Iterable[tuple[str, str]]], Awaitable[None]],
        on_lost: Callable[[], Awaitable[None]],
    ) -> None:
        self._channel = channel(project)
        self._connect = connect
        self._on_publish = on_publish
        self._on_lost = on_lost
        self._task: asyncio.Task[None] | None = None
        self._failures = 0
        self.hearing = False

    def start(self) -> None:
        """Begins to listen in the running loop; harmless when it does already."""
        if self._task is None or self._task.done():
            self._task = asyncio.get_running_loop().create_task(self._listen(), name="fsclient-listener")

    async def stop(self) -> None:
        """Stops listening and frees the connection."""
        task, self._task = self._task, None
        self.hearing = False
        if task is not None:
            task.cancel()
            await asyncio.gather(task, return_exceptions=True)

    def abandon(self) -> None:
        """Stops a listener of a loop that runs in another thread, a moment later."""
        task, self._task = self._task, None
        if task is not None and task.get_loop().is_running():
            task.get_loop().call_soon_threadsafe(task.cancel)

    async def _listen(self) -> None:
        while True:
            try:
                await self._follow()
            except Exception as error:  # whatever it is, the cache must not go on as if it heard
                self.hearing = False
                await self._on_lost()
                if not self._failures:
                    log.warning("publishes are not heard (%s), so answers are cached briefly", type(error).__name__)
                await asyncio.sleep(RECONNECT_S[min(self._failures, len(RECONNECT_S) - 1)])
                self._failures += 1

    async def _follow(self) -> None:
        """Hears the channel until it is lost, which raises."""
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
                    await self._on_lost()  # what was published before this moment was not heard
                    self.hearing, self._failures = True, 0
                elif message[0] == b"message":
                    await self._on_publish(_changed(message[2]))
                pinged = message is None
        finally:
            await connection.disconnect()  # and wait for it: a loop that stops next would leave the socket open


async def _own_connection(client: Any) -> Any:
    """A connection not made yet, and not one the pool hands out: cancelled in mid-handshake, that would be left open.

    Of a Cluster it is to any node, another one each time: its nodes tell each other what is published.
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
