"""The connection that an event loop's calls share: made when it is first needed, and anew when it is lost."""

from __future__ import annotations

import asyncio

from redis.exceptions import ConnectionError as RedisConnectionError

from fsclient.reading.wire import Wire


class Line:
    """One event loop's way to one server.

    Args:
        patience_s: see ``Wire``.
    """

    def __init__(self, *, patience_s: float) -> None:
        self._patience_s = patience_s
        self._wire: Wire | None = None
        self._opening: asyncio.Task[Wire] | None = None

    def held(self) -> Wire | None:
        """The connection, if there is one that can be used."""
        wire = self._wire
        return wire if wire is not None and wire.usable else None

    async def get(self, url: str) -> Wire:
        """The connection; those who come while it is made share the attempt.

        Raises:
            As ``Wire.open``.
        """
        wire = self.held()
        if wire is not None:
            return wire
        task = self._opening
        if task is None or task.done():  # done only if it was cancelled before it began
            task = asyncio.get_running_loop().create_task(self._connect(url), name="fsclient-connect")
            task.add_done_callback(_seen)
            self._opening = task
        try:
            return await asyncio.shield(task)
        except asyncio.CancelledError:
            if task.cancelled() and not asyncio.current_task().cancelling():  # type: ignore[union-attr]
                raise RedisConnectionError("the connection was closed") from None  # by close(), not our caller
            raise

    async def close(self) -> None:
        """Ends the connection. Harmless when called twice."""
        task, self._opening = self._opening, None
        if task is not None:
            task.cancel()
            await asyncio.gather(task, return_exceptions=True)
        wire, self._wire = self._wire, None
        if wire is not None:
            wire.close()
            await asyncio.sleep(0)  # the transport says good-bye in the loop's next turn

    async def _connect(self, url: str) -> Wire:
        """Opens the connection and keeps it, in one step with the end of the attempt: who comes next finds either."""
        try:
            wire = self._wire = await Wire.open(url, patience_s=self._patience_s)
            return wire
        finally:
            self._opening = None


def _seen(task: asyncio.Task[Wire]) -> None:
    """Takes note of a failed attempt: asyncio need not report it when nobody waited until the end."""
    if not task.cancelled():
        task.exception()
