"""One load for all callers that miss the same key at the same time."""

from __future__ import annotations

import asyncio
from asyncio import AbstractEventLoop, Future, Task
from collections.abc import Awaitable, Callable, Generator, Hashable
from types import TracebackType, coroutine
from typing import Any, Generic, TypeVar

T = TypeVar("T")


class LoadCancelledError(RuntimeError):
    """Something other than its waiters cancelled a load, so there is neither a value nor an error to hand on."""


class SingleFlight:
    """Callers of one key share one load; see ``load``.

    A load is a task of its own, so that cancelling the caller that started it does no harm to those that joined. It
    is cancelled when no caller waits for it any longer. Nothing outlives a load: neither errors nor values are kept.

    One object serves any number of event loops, one after the other or in several threads; callers of different loops
    do not share.
    """

    def __init__(self) -> None:
        self._flights: dict[AbstractEventLoop, dict[Hashable, _Flight[Any]]] = {}
        # An event loop holds tasks weakly: a cancelled load that is still cleaning up must not be collected.
        self._tasks: set[Task[Any]] = set()

    async def load(self, key: Hashable, loader: Callable[[], Awaitable[T]]) -> T:
        """What ``loader`` returns: that of the first caller of ``key``, for all that join until it has ended.

        All waiters get the same object; they must not change it, or copy it first. What bounds the load in time is
        its own; a waiter bounds its wait with ``asyncio.timeout`` around this call.

        Raises:
            LoadCancelledError: the load was cancelled although a caller waited.
            Exception: what the loader raised, to every waiter.
        """
        loop = asyncio.get_running_loop()
        flights = self._flights.get(loop)
        if flights is None:
            self._drop_closed_loops()
            flights = self._flights[loop] = {}
        flight: _Flight[T] | None = flights.get(key)
        if flight is None:
            flight = flights[key] = _Flight()
            load = self._run(loop, key, flight, loader)
            load.send(None)  # up to its first line: a task that is cancelled before its first step ends as any other
            flight.task = loop.create_task(load)
        waiter = loop.create_future()
        flight.waiters.add(waiter)
        try:
            await waiter
        except asyncio.CancelledError:
            flight.waiters.discard(waiter)
            if not flight.waiters and not flight.ended:
                self._forget(loop, key, flight)  # nobody may join a load that is being cancelled
                self._tasks.add(flight.task)
                flight.task.add_done_callback(self._tasks.discard)
                flight.task.cancel()
            raise
        return flight.result(key)

    async def _run(
        self, loop: AbstractEventLoop, key: Hashable, flight: _Flight[T], loader: Callable[[], Awaitable[T]]
    ) -> None:
        """The load's task. It wakes the waiters in the same turn of the loop in which it ends."""
        try:
            await _started()
            flight.value = await loader()
        except Exception as error:
            flight.error = error
        except asyncio.CancelledError as error:
            flight.error = error
            raise
        finally:
            flight.ended = True
            self._forget(loop, key, flight)
            for waiter in flight.waiters:
                if not waiter.done():
                    waiter.set_result(None)

    def _forget(self, loop: AbstractEventLoop, key: Hashable, flight: _Flight[Any]) -> None:
        flights = self._flights.get(loop, {})
        if flights.get(key) is flight:
            del flights[key]
        if not flights:
            self._flights.pop(loop, None)

    def _drop_closed_loops(self) -> None:
        """Loads of a loop that was closed over them never end."""
        for loop in list(self._flights):
            if loop.is_closed():
                self._flights.pop(loop, None)
        for task in list(self._tasks):
            if task.get_loop().is_closed():
                self._tasks.discard(task)


@coroutine
def _started() -> Generator[None, None, None]:
    """Pauses the coroutine that awaits it, once."""
    yield


class _Flight(Generic[T]):
    """A load under way, and the callers that wait for it."""

    __slots__ = ("_traceback", "ended", "error", "task", "value", "waiters")
    task: Task[None]
    value: T

    def __init__(self) -> None:
        self.waiters: set[Future[None]] = set()
        self.ended = False
        self.error: BaseException | None = None
        self._traceback: TracebackType | None = None

    def result(self, key: Hashable) -> T:
        """What the load returned, or what it raised."""
        error = self.error
        if error is None:
            return self.value
        if isinstance(error, asyncio.CancelledError):
            raise LoadCancelledError(f"the load of {key!r} was cancelled from outside; ask again")
        # One exception is raised in many tasks: its traceback would grow by each of them.
        self._traceback = self._traceback or error.__traceback__
        raise error.with_traceback(self._traceback)
