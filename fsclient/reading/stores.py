"""How each kind of request is answered by the stores: which is asked, in which thread, and for how long."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from functools import partial
from typing import Any, TypeVar

from feature_repo.catalog import BAR_FIELDS
from feature_repo.stores.tables import OFFLINE_OUTAGE, OfflineTables
from fsclient.answers.answers import LatestAnswer, RangeAnswer, latest_answer, range_answer
from fsclient.answers.values import RangeValues, WindowValues
from fsclient.errors import CLOSED, FeatureStoreUnavailable, RequestTimeout
from fsclient.questions.latest import LatestRequest
from fsclient.questions.ranges import ComputeRequest, RangeRequest, closed_part
from fsclient.reading.history import compute_range, history_before, history_for, recompute_latest
from fsclient.reading.offline import read_opens, read_range
from fsclient.reading.reader import OnlineReader
from fsclient.resilience.breaker import BreakerConfig, CircuitBreaker, Transition
from fsclient.resilience.guard import Guard
from fsclient.resilience.retry import Deadline, RetryPolicy

T = TypeVar("T")

BREAKER = BreakerConfig(window_calls=20, minimum_calls=5, failure_rate=0.5, wait_open_s=2.0, probes=2)


class StoreReader:
    """Reads one repository's stores, and computes from them.

    Args:
        online: reads the online store, and ends with this reader.
        tables: the offline store.
        threads: where blocking work runs; it ends with this reader.
        kept_share: how much of a call's time is kept for what stands in for the online store's answer.
        retries: how often a failed read of the online store is tried again within the rest.
        on_breaker: called with each change of the online store's breaker.
        now: seconds since 1970.
        clock: monotonic seconds.
    """

    def __init__(
        self,
        online: OnlineReader,
        tables: OfflineTables,
        *,
        threads: ThreadPoolExecutor,
        kept_share: float,
        retries: int,
        on_breaker: Callable[[Transition], None],
        now: Callable[[], float] = time.time,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._online, self._tables, self._threads = online, tables, threads
        self._kept_share = kept_share
        self._now, self._clock = now, clock
        self._closed = False
        retry = RetryPolicy(max_attempts=1 + retries)
        breaker = CircuitBreaker(BREAKER, clock=clock, on_transition=on_breaker)
        self.guard = Guard(store="the online store", breaker=breaker, retry=retry, clock=clock)

    async def latest(self, request: LatestRequest, deadline: Deadline) -> LatestAnswer:
        """From the online store."""
        values = await self.guard.run(partial(self._online.latest, request), self._for_online(deadline))
        return latest_answer(request, values, self._now_us(), source="online")

    async def recomputed(self, request: LatestRequest, deadline: Deadline) -> LatestAnswer:
        """From the offline store's bars, as the online store would have it."""
        now_us = self._now_us()
        values = await self._bounded(recompute_latest, deadline, self._tables, request, now_us)
        return latest_answer(request, values, now_us, source="recomputed")

    async def range(self, request: RangeRequest, deadline: Deadline) -> RangeAnswer:
        """From the online window if it reaches back far enough, else from the offline store and the window after it."""
        now_us = self._now_us()
        window: WindowValues | None = None
        if request.as_known_at is None:
            half = Deadline(at=self._clock() + deadline.remaining_s / 2, clock=self._clock)
            read_window = partial(self._online.window, request.symbol, request.timeframe, request.columns)
            with suppress(FeatureStoreUnavailable):  # the offline store has all of it, a little later
                window = await self.guard.run(read_window, self._for_online(half))
            if window is not None and window.covers(request):
                return range_answer(request, window.cut(request), now_us, source="online")
        return await self._bounded(self._read_range, deadline, request, window, now_us)

    async def computed(self, request: ComputeRequest, deadline: Deadline) -> RangeAnswer:
        """From the offline store's bars."""
        return await self._bounded(self._compute, deadline, request, self._now_us())

    async def history(self, span: RangeRequest, warm_up: int | None, deadline: Deadline) -> RangeValues:
        """The offline store's bars of ``span`` that have closed, and those before them, as ``read_history``."""
        closed = closed_part(span, self._now_us())
        return await self._bounded(history_before, deadline, self._tables, closed, warm_up)

    async def close(self) -> None:
        """Ends connections and threads; what still runs in one is not waited for."""
        self._closed = True
        await self._online.close()
        self._threads.shutdown(wait=False, cancel_futures=True)

    def _now_us(self) -> int:
        return int(self._now() * 1e6)

    def _read_range(self, request: RangeRequest, window: WindowValues | None, now_us: int) -> RangeAnswer:
        closed = closed_part(request, now_us)
        values = read_range(self._tables, closed)
        if window is not None:
            values = window.extend(values, closed)
        bar_opens = None if set(request.columns) <= set(BAR_FIELDS) else partial(read_opens, self._tables, closed)
        return range_answer(request, values, now_us, source="offline", bar_opens=bar_opens)

    def _compute(self, request: ComputeRequest, now_us: int) -> RangeAnswer:
        span = closed_part(request.span, now_us)
        bars = history_for(self._tables, request, span)
        values = compute_range(bars, request, span)
        return range_answer(request.span, values, now_us, source="recomputed", names=tuple(values.columns))

    def _for_online(self, deadline: Deadline) -> Deadline:
        """Earlier, by what is kept for what stands in for the online store's answer."""
        remaining_s = max(0.0, deadline.at - self._clock())
        return Deadline(deadline.at - remaining_s * self._kept_share, self._clock)

    async def _bounded(self, work: Callable[..., T], deadline: Deadline, *args: Any) -> T:
        """Blocking work in a thread; past the deadline its answer is no longer waited for."""
        if self._closed:
            raise FeatureStoreUnavailable(CLOSED)
        remaining_s = deadline.remaining_s
        try:
            async with asyncio.timeout(remaining_s):
                return await asyncio.get_running_loop().run_in_executor(self._threads, work, *args)
        except TimeoutError:
            raise RequestTimeout(
                f"the offline store did not answer within {remaining_s:.2g} s; ask for less, or raise timeout_s"
            ) from None
        except OFFLINE_OUTAGE as error:
            raise FeatureStoreUnavailable(
                f"the offline store cannot be read ({type(error).__name__}); see `fstore status`"
            ) from error
