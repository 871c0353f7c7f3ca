"""Hears what flows publish, so that no process serves what has just been corrected."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable, Iterable
from typing import Any

from feature_repo import catalog
from feature_repo.stores.publish import channel

log = logging.getLogger("feature_store_client")

RECONNECT_S = (0.05, 0.2, 1.0, 2.0)
"""Waits between attempts to hear the channel again; the last one repeats."""


class PublishListener:
    """Listens on one event loop, from ``start`` to ``stop``.

    Args:
        project: whose publishes.
        connect: gives a redis.asyncio client of the running loop.
        on_publish: called with the (symbol, timeframe) pairs that changed; several messages may come at once.
        on_lost: called when messages may have been missed: nothing cached before can be trusted.
    """

    def __init__(
        self,
        project: str,
        connect: Callable[[], Awaitable[Any]],
        *,
        on_publish: Callable[[Iterable[tuple[str, str]]], None],
        on_lost: Callable[[], None],
    ) -> None:
        self._channel = channel(project)
        self._connect = connect
        self._on_publish = on_publish
        self._on_lost = on_lost
        self._task: asyncio.Task[None] | None = None
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

    async def _listen(self) -> None:
        failures = 0
        while True:
            try:
                async with (await self._connect()).pubsub(ignore_subscribe_messages=True) as heard:
                    await heard.subscribe(self._channel)
                    failures = 0
                    self._on_lost()  # what was published before this moment was not heard
                    self.hearing = True
                    while True:
                        message = await heard.get_message(timeout=None)
                        if message is not None:
                            self._on_publish(_changed(message["data"]))
            except asyncio.CancelledError:
                raise
            except Exception as error:  # whatever it is, the cache must not go on as if it heard
                if self.hearing:
                    log.warning("no longer hearing publishes (%s); the cache is flushed", type(error).__name__)
                self.hearing = False
                self._on_lost()
                await asyncio.sleep(RECONNECT_S[min(failures, len(RECONNECT_S) - 1)])
                failures += 1


def _changed(message: bytes) -> list[tuple[str, str]]:
    symbol, _, views = message.decode().partition("\n")
    timeframes = {catalog.VIEWS[v].timeframe.name for v in views.split() if v in catalog.VIEWS}
    return [(symbol, tf) for tf in sorted(timeframes)]
