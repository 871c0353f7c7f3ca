"""What belongs to one event loop and ends with it: a client serves several, in turn or in threads."""

from __future__ import annotations

import asyncio
from asyncio import AbstractEventLoop, Task
from collections.abc import Awaitable, Callable
from functools import partial
from typing import TypeVar

T = TypeVar("T")


class PerLoop(dict[AbstractEventLoop, T]):
    """One of something by event loop, made when its own loop looks it up. It ends with that loop or with ``close``.

    Args:
        make: makes it, on its loop.
        end: frees what it holds, on its loop; harmless when called twice.
    """

    def __init__(self, make: Callable[[], T], end: Callable[[T], Awaitable[None]]) -> None:
        super().__init__()
        self._make = make
        self._end = end
        self._keepers: dict[AbstractEventLoop, Task[None]] = {}

    def __missing__(self, loop: AbstractEventLoop) -> T:
        """Makes the running loop's. From here on the loop has a task that ends it."""
        for ended in [other for other in self if other.is_closed()]:
            self._forget(ended)
        item = self[loop] = self._make()
        keeper = self._keepers[loop] = loop.create_task(self._keep(item), name="fsclient-connections")
        keeper.add_done_callback(partial(self._ended, loop))
        return item

    async def close(self) -> None:
        """Ends all of them; those of loops that run in other threads a moment later."""
        running = asyncio.get_running_loop()
        for loop, keeper in tuple(self._keepers.items()):
            item = self[loop]
            self._forget(loop)
            if loop is running:
                keeper.cancel()
                await asyncio.gather(keeper, return_exceptions=True)
                await self._end(item)  # for a keeper that was cancelled before it began
            elif loop.is_running():
                loop.call_soon_threadsafe(keeper.cancel)

    def _ended(self, loop: AbstractEventLoop, keeper: Task[None]) -> None:
        if self._keepers.get(loop) is keeper:
            self._forget(loop)

    def _forget(self, loop: AbstractEventLoop) -> None:
        del self[loop], self._keepers[loop]

    async def _keep(self, item: T) -> None:
        """Waits for ``close``, or for the end of the loop: ``asyncio.run`` cancels what still runs before it."""
        try:
            await asyncio.get_running_loop().create_future()
        finally:
            await self._end(item)
