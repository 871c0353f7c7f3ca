"""One load for all who miss the same key at the same time."""

from __future__ import annotations

import asyncio
from asyncio import AbstractEventLoop, Task
from collections.abc import Awaitable, Callable, Hashable
from types import TracebackType
from typing import Any, Generic, TypeVar

T = TypeVar("T")


class LoadCancelledError(RuntimeError):
    """Something else than its waiters cancelled a load, so there is neither a value nor an error to hand on."""


class SingleFlight:
    """Callers of one key share one load; see ``load``.

    The load is a task of its own, so that whoever came first may be cancelled without harm to who joined. It is
    cancelled when nobody waits for it any more. Nothing outlives a load: errors are not kept, and values are not
    either, this is no cache.

    One object serves any number of event loops, one after the other or in several threads; callers of different loops
    do not share.
    """

    def __init__(self) -> None:
        self._flights: dict[AbstractEventLoop, dict[Hashable, _Flight[Any]]] = {}
        # An event loop holds tasks weakly: a cancelled load that is still cleaning up must not be collected.
        self._tasks: set[Task[Any]] = set()

    async def load(self, key: Hashable, loader: Callable[[], Awaitable[T]]) -> T:
        """What ``loader`` gives: that of the first caller of ``key``, for all who come until it has ended.

        All waiters get the same object; they must not change it, or copy it first. What bounds the load in time is
        its own; a waiter bounds its wait with ``asyncio.timeout`` around this call.

        Raises:
            LoadCancelledError: the load was cancelled although somebody waited.
            Exception: what the loader raised, to every waiter.
        """
        flight = self._join(key, loader)
        flight.waiters += 1
        try:
            await asyncio.wait((flight.task,))  # unlike awaiting the task, does not cancel it with the waiter
        finally:
            flight.waiters -= 1
            if flight.waiters == 0 and not flight.task.done():
                self._forget(key, flight)  # nobody may join a load that is being cancelled
                flight.task.cancel()
        return flight.result(key)

    def _join(self, key: Hashable, loader: Callable[[], Awaitable[T]]) -> _Flight[T]:
        loop = asyncio.get_running_loop()
        if loop not in self._flights:
            self._drop_closed_loops()
        flight = self._flights.get(loop, {}).get(key)
        if flight is None or flight.task.done():
            flight = _Flight(loop, loader)
            self._flights.setdefault(loop, {})[key] = flight
            self._tasks.add(flight.task)
            flight.task.add_done_callback(lambda _: self._land(key, flight))
        return flight

    def _land(self, key: Hashable, flight: _Flight[Any]) -> None:
        self._tasks.discard(flight.task)
        self._forget(key, flight)
        if not flight.task.cancelled():
            flight.task.exception()  # seen: asyncio need not report it when nobody waited until the end

    def _forget(self, key: Hashable, flight: _Flight[Any]) -> None:
        flights = self._flights.get(flight.loop, {})
        if flights.get(key) is flight:
            del flights[key]
        if not flights:
            self._flights.pop(flight.loop, None)

    def _drop_closed_loops(self) -> None:
        """A loop that was closed over its loads never lands them."""
        for loop in list(self._flights):
            if loop.is_closed():
                self._flights.pop(loop, None)
        for task in list(self._tasks):
            if task.get_loop().is_closed():
                self._tasks.discard(task)


class _Flight(Generic[T]):
    __slots__ = ("loop", "task", "traceback", "waiters")

    def __init__(self, loop: AbstractEventLoop, loader: Callable[[], Awaitable[T]]) -> None:
        async def load() -> T:
            return await loader()

        self.loop = loop
        self.task: Task[T] = loop.create_task(load())
        self.traceback: TracebackType | None = None
        self.waiters = 0

    def result(self, key: Hashable) -> T:
        if self.task.cancelled():
            raise LoadCancelledError(f"the load of {key!r} was cancelled from outside; ask again")
        error = self.task.exception()
        if error is not None:
            # One exception is raised in many tasks: its traceback would grow by each of them.
            self.traceback = self.traceback or error.__traceback__
            raise error.with_traceback(self.traceback)
        return self.task.result()
