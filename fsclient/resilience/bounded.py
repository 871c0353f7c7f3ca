"""Blocking calls that must never hold up their caller: cut off after a time, left alone while they keep failing."""

from __future__ import annotations

import asyncio
import logging
import os
import time
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor, wait
from typing import TypeVar

from fsclient.resilience.breaker import BreakerConfig, CircuitBreaker, Permit, Rejected, Transition

T = TypeVar("T")

_log = logging.getLogger("feature_store_client")
_THREADS = 4


class BoundedCalls:
    """Runs optional blocking calls in a few threads of its own.

    A call returns its result, or None when it failed, took longer than ``timeout_s``, or was not made because the calls
    before it did so. It never raises, whatever the cause; not even a name lookup that blocks for half a minute holds
    the caller up. A call that was given up may still run to its end in its thread.

    Args:
        name: of what is called, for the log.
        timeout_s: the longest a caller waits, time in the queue included.
        config: when calls are no longer made.
        clock: monotonic seconds.
    """

    def __init__(
        self,
        name: str,
        *,
        timeout_s: float,
        config: BreakerConfig | None = None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        if not 0 < timeout_s < float("inf"):
            raise ValueError(f"timeout_s must be positive and finite, not {timeout_s}")
        self._name = name
        self._timeout_s = timeout_s
        self._clock = clock
        self._breaker = CircuitBreaker(
            config or BreakerConfig(window_calls=20, minimum_calls=5, wait_open_s=5.0, probes=1),
            clock=clock,
            on_transition=self._report,
        )
        self._threads, self._process = self._new_threads(), os.getpid()
        self.failures = 0

    def call(self, function: Callable[[], T]) -> T | None:
        """The result of ``function``, waiting for it in this thread."""
        started = self._start(function)
        if started is None:
            return None
        permit, future, began = started
        try:
            wait((future,), self._timeout_s)
        except BaseException:  # an interrupt
            self._abandon(permit, future)
            raise
        return self._finish(permit, future, began)

    async def acall(self, function: Callable[[], T]) -> T | None:
        """The result of ``function``, leaving the event loop free meanwhile."""
        started = self._start(function)
        if started is None:
            return None
        permit, future, began = started
        ended = asyncio.wrap_future(future)
        try:
            await asyncio.wait((ended,), timeout=self._timeout_s)
        except BaseException:  # cancelled
            self._abandon(permit, ended)
            raise
        return self._finish(permit, ended, began)

    def close(self) -> None:
        """Ends the threads, without waiting; calls from now on return None. Harmless when called twice."""
        self._threads.shutdown(wait=False, cancel_futures=True)

    def _start(self, function: Callable[[], T]) -> tuple[Permit, Future[T], float] | None:
        try:
            permit = self._breaker.acquire()
        except Rejected:
            return None
        if self._process != os.getpid():  # a forked process has the pool, but not its threads
            self._threads, self._process = self._new_threads(), os.getpid()
        try:
            return permit, self._threads.submit(function), self._clock()
        except RuntimeError:  # closed, or the interpreter is shutting down
            permit.cancel()
            return None

    def _finish(self, permit: Permit, future: Future[T] | asyncio.Future[T], began: float) -> T | None:
        if future.cancelled():  # by close()
            permit.cancel()
            return None
        error = future.exception() if future.done() else TimeoutError()
        if error is None:
            permit.success(self._clock() - began)
            return future.result()
        future.cancel()  # no use in starting it any longer
        self.failures += 1
        permit.failure(self._clock() - began)
        _log.debug("%s: a call failed: %s", self._name, type(error).__name__)
        return None

    def _abandon(self, permit: Permit, future: Future[T] | asyncio.Future[T]) -> None:
        future.cancel()
        permit.cancel()

    def _new_threads(self) -> ThreadPoolExecutor:
        return ThreadPoolExecutor(max_workers=_THREADS, thread_name_prefix=self._name.replace(" ", "-"))

    def _report(self, change: Transition) -> None:
        if change.after == "open":
            _log.warning("%s is left alone: %d of %d calls failed", self._name, change.failed, change.calls)
        elif change.after == "closed":
            _log.info("%s answers again", self._name)
