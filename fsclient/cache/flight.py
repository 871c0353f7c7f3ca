"""One load for all who miss the same key at the same time."""

from __future__ import annotations

import asyncio
from asyncio import AbstractEventLoop, Future, Task
from collections.abc import Awaitable, Callable, Generator, Hashable
from functools import partial
from types import TracebackType, coroutine
from typing import Any, Generic, TypeVar

T = TypeVar("T")


class LoadCancelledError(RuntimeError):
    """Something else than its waiters cancelled a load, so there is neither a value nor an error to hand on."""


class SingleFlight:
    """Callers of one key share one load; see ``load``.

    The load is nobody's own: a task, or something under way without one, so that whoever came first may be cancelled
    without harm to who joined. A task is cancelled when nobody waits for it any more. Nothing outlives a load: errors
    are not kept, and values are not either, this is no cache.

    One object serves any number of event loops, one after the other or in several threads; callers of different loops
    do not share.
    """

    def __init__(self) -> None:
        self._flights: dict[AbstractEventLoop, dict[Hashable, Flight[Any]]] = {}
        # An event loop holds tasks weakly: a cancelled load that is still cleaning up must not be collected.
        self._tasks: set[Task[Any]] = set()

    async def load(
        self, key: Hashable, loader: Callable[[], Awaitable[T]], begin: Callable[[Flight[T]], bool] | None = None
    ) -> T:
        """What ``loader`` gives: that of the first caller of ``key``, for all who come until it has ended.

        Args:
            begin: tries to get the load under way without a task. If it returns True it has to see to it that the
                flight is ended or handed to a task, by the flight's own methods; else ``loader`` is run in one.

        All waiters get the same object; they must not change it, or copy it first. What bounds the load in time is
        its own; a waiter bounds its wait with ``asyncio.timeout`` around this call.

        Raises:
            LoadCancelledError: the load was cancelled although somebody waited.
            Exception: what the loader raised, to every waiter.
        """
        loop = asyncio.get_running_loop()
        flights = self._flights.get(loop)
        if flights is None:
            self._drop_closed_loops()
            flights = self._flights[loop] = {}
        waiter = loop.create_future()
        flight: Flight[T] | None = flights.get(key)
        if flight is not None:
            flight.waiters.add(waiter)
        else:
            flight = flights[key] = Flight(loop, partial(self._forget, loop, key))
            flight.waiters.add(waiter)
            try:
                if begin is None or not begin(flight):
                    flight.run(loader)
            except BaseException:
                self._forget(loop, key, flight)
                raise
        try:
            await waiter
        except asyncio.CancelledError:
            flight.waiters.discard(waiter)
            if not flight.waiters and not flight.ended:
                self._forget(loop, key, flight)  # nobody may join a load that is being cancelled
                if flight.task is not None:
                    self._tasks.add(flight.task)
                    flight.task.add_done_callback(self._tasks.discard)
                    flight.task.cancel()
            raise
        return flight.result(key)

    def _forget(self, loop: AbstractEventLoop, key: Hashable, flight: Flight[Any]) -> None:
        flights = self._flights.get(loop, {})
        if flights.get(key) is flight:
            del flights[key]
        if not flights:
            self._flights.pop(loop, None)

    def _drop_closed_loops(self) -> None:
        """A loop that was closed over its loads never lands them."""
        for loop in list(self._flights):
            if loop.is_closed():
                self._flights.pop(loop, None)
        for task in list(self._tasks):
            if task.get_loop().is_closed():
                self._tasks.discard(task)


@coroutine
def _begun() -> Generator[None, None, None]:
    """Pauses whoever awaits it, once."""
    yield


class Flight(Generic[T]):
    """A load under way, and who waits for it.

    Attributes:
        task: the load's; None while it is under way without one.
    """

    __slots__ = ("_error", "_loop", "_on_end", "_traceback", "_value", "ended", "task", "waiters")

    def __init__(self, loop: AbstractEventLoop, on_end: Callable[[Flight[T]], None]) -> None:
        self.waiters: set[Future[None]] = set()
        self.ended = False
        self.task: Task[None] | None = None
        self._loop = loop
        self._on_end = on_end
        self._value: T | None = None
        self._error: BaseException | None = None
        self._traceback: TracebackType | None = None

    def end(self, last: Callable[[], T]) -> None:
        """Ends it with what ``last`` gives or raises."""
        try:
            self._value = last()
        except Exception as error:
            self._error = error
        self._end()

    def run(self, loader: Callable[[], Awaitable[T]]) -> None:
        """Ends it with what ``loader`` gives, in a task; not when nobody waits any more."""
        if not self.waiters:
            return
        load = self._run(loader)
        load.send(None)  # up to its first line: a task that is cancelled before its first step ends as any other
        self.task = self._loop.create_task(load)

    async def _run(self, loader: Callable[[], Awaitable[T]]) -> None:
        try:
            await _begun()
            self._value = await loader()
        except Exception as error:
            self._error = error
        except asyncio.CancelledError as error:
            self._error = error
            raise
        finally:
            self._end()

    def _end(self) -> None:
        """Wakes who waits, in the same turn of the loop in which the load ends."""
        self.ended = True
        self._on_end(self)
        for waiter in self.waiters:
            if not waiter.done():
                waiter.set_result(None)

    def result(self, key: Hashable) -> T:
        """What the load gave.

        Raises:
            LoadCancelledError, Exception: see ``SingleFlight.load``.
        """
        error = self._error
        if error is None:
            return self._value  # type: ignore[return-value]  # it has ended, and without an error
        if isinstance(error, asyncio.CancelledError):
            raise LoadCancelledError(f"the load of {key!r} was cancelled from outside; ask again")
        # One exception is raised in many tasks: its traceback would grow by each of them.
        self._traceback = self._traceback or error.__traceback__
        raise error.with_traceback(self._traceback)
