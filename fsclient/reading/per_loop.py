"""What belongs to one event loop and ends with it: a client serves several, in turn or in threads."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import Generic, TypeVar

T = TypeVar("T")


class PerLoop(Generic[T]):
    """One of something for each event loop that asks for it. It ends with its loop or with ``close``.

    Args:
        make: makes it, on its loop.
        end: frees what it holds, on its loop; harmless when called twice.
    """

    def __init__(self, make: Callable[[], T], end: Callable[[T], Awaitable[None]]) -> None:
        self._make = make
        self._end = end
        self._entries: dict[asyncio.AbstractEventLoop, tuple[T, asyncio.Task[None]]] = {}

    def get(self) -> T:
        """The running loop's. From here on the loop has a task that ends it."""
        loop = asyncio.get_running_loop()
        entry = self._entries.get(loop)
        if entry is None or entry[1].done():
            for ended in [other for other in self._entries if other.is_closed()]:
                del self._entries[ended]
            item = self._make()
            entry = self._entries[loop] = (item, loop.create_task(self._keep(item), name="fsclient-connections"))
        return entry[0]

    async def close(self) -> None:
        """Ends all of them; those of loops that run in other threads a moment later."""
        entries, self._entries = self._entries, {}
        own = entries.pop(asyncio.get_running_loop(), None)
        for loop, (_, keeper) in entries.items():
            if loop.is_running():
                loop.call_soon_threadsafe(keeper.cancel)
        if own is not None:
            item, keeper = own
            keeper.cancel()
            await asyncio.gather(keeper, return_exceptions=True)
            await self._end(item)  # for a keeper that was cancelled before it began

    async def _keep(self, item: T) -> None:
        """Waits for ``close``, or for the end of the loop: ``asyncio.run`` cancels what still runs before it."""
        try:
            await asyncio.get_running_loop().create_future()
        finally:
            await self._end(item)
