"""What hears publishes, so that no process serves what has just been corrected: again and again, whatever it loses."""

from __future__ import annotations

import asyncio
import logging
from abc import ABC, abstractmethod
from collections.abc import Awaitable, Callable, Iterable
from typing import TypeAlias

log = logging.getLogger("feature_store_client")

OnPublish: TypeAlias = Callable[[Iterable[tuple[str, str]]], Awaitable[None]]
OnLost: TypeAlias = Callable[[], Awaitable[None]]

RECONNECT_S = (0.05, 0.2, 1.0, 2.0)
"""Waits between attempts to hear the channel again; the last one repeats."""


class Listener(ABC):
    """Listens on one event loop, from ``start`` to ``stop``.

    Args:
        on_publish: called with the (symbol, timeframe) pairs that changed; several messages may come at once.
        on_lost: called when messages may have been missed: nothing cached before can be trusted.

    Attributes:
        is_listening: whether every publish from now on will be heard, or its loss noticed.
    """

    def __init__(self, *, on_publish: OnPublish, on_lost: OnLost) -> None:
        self._on_publish = on_publish
        self._on_lost = on_lost
        self._task: asyncio.Task[None] | None = None
        self._failures = 0
        self.is_listening = False

    @abstractmethod
    async def _follow(self) -> None:
        """Follows what is published until the channel is lost, which raises; calls ``_subscribed`` once it hears."""

    def start(self) -> None:
        """Begins to listen in the running loop; harmless when it does already."""
        if self._task is None or self._task.done():
            self._task = asyncio.get_running_loop().create_task(self._listen(), name="fsclient-listener")

    async def stop(self) -> None:
        """Stops listening and frees the connection."""
        task, self._task = self._task, None
        self.is_listening = False
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
                self.is_listening = False
                await self._on_lost()
                if not self._failures:
                    log.warning("publishes are not heard (%s), so answers are cached briefly", type(error).__name__)
                await asyncio.sleep(RECONNECT_S[min(self._failures, len(RECONNECT_S) - 1)])
                self._failures += 1

    async def _subscribed(self) -> None:
        await self._on_lost()  # what was published before this moment was not heard
        self.is_listening, self._failures = True, 0
