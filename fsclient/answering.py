"""One call's way: cache, one load for all who ask the same, the stores, and what stands in for them."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from functools import partial
from pathlib import Path
from typing import Literal, TypeAlias, TypeVar

import pandas as pd

from fsclient.cache.feature_cache import FeatureCache
from fsclient.cache.flight import SingleFlight
from fsclient.cache.hearing import Hearing
from fsclient.cache.isolation import seal
from fsclient.errors import CLOSED, FeatureStoreUnavailable
from fsclient.lookup.answers import Answer
from fsclient.lookup.latest_request import LatestRequest
from fsclient.lookup.loads import Loads
from fsclient.lookup.repeating import from_cache, lifetime_s
from fsclient.lookup.request import ComputeRequest, RangeRequest, Request
from fsclient.lookup.standing_in import as_last_good, withhold_expired
from fsclient.metrics.registry import CallRecord, Metrics
from fsclient.provenance import KEY
from fsclient.resilience.guard import Tally
from fsclient.resilience.last_good import LastGood
from fsclient.resilience.retry import Deadline

R = TypeVar("R", LatestRequest, RangeRequest, ComputeRequest)
Load: TypeAlias = Callable[[R, Deadline], Awaitable[Answer]]
OnUnavailable: TypeAlias = Literal["last_good", "recompute", "fail"]
NewFrame: TypeAlias = Callable[[], pd.DataFrame]
"""Makes a frame of his own for each caller of one load."""

KEPT_SHARE: dict[OnUnavailable, float] = {"last_good": 0.05, "recompute": 0.5, "fail": 0.0}
"""How much of a call's time is kept for what stands in for the online store's answer."""
_LOST = "the online store has lost its data; `fstore materialize` publishes it again"
_SPOOL_S = 0.03  # what reading a file of the spool may take when no time is left


class Answering:
    """The policies of one client, in their order.

    Args:
        scope: what the keys of a repository begin with: a cache may serve clients of several.
        cache, hearing: both or neither.
        home: where the last good answers are kept for a process that starts in an outage.
        clock: monotonic seconds.
    """

    def __init__(
        self,
        loads: Loads,
        *,
        scope: str,
        cache: FeatureCache | None,
        hearing: Hearing | None,
        home: Path,
        timeout_s: float,
        on_unavailable: OnUnavailable,
        max_age_bars: int | None,
        metrics: Metrics,
        now: Callable[[], float] = time.time,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._loads = loads
        self._scope = scope
        self._cache, self._hearing = cache, hearing
        self._timeout_s = timeout_s
        self._on_unavailable = on_unavailable
        self._max_age_bars = max_age_bars
        self._metrics = metrics
        self._clock = clock
        self._flights = SingleFlight()
        self._last_good = LastGood(home / "spool", now=now)
        self._disk = ThreadPoolExecutor(max_workers=1, thread_name_prefix="fsclient-spool")  # never behind long reads
        self._seen: set[tuple[str, str]] = set()  # symbols and timeframes that the online store has had
        self._closed = False

    async def call(
        self, method: str, about: tuple[str | None, str], ask: Callable[[], R], load: Load[R]
    ) -> pd.DataFrame:
        """One call, counted: however it ends, it is one record of the metrics.

        Args:
            about: the symbol, if it is one, and the timeframe, as they were given.
            ask: checks what was asked for.
            load: has the stores answer it.
        """
        started, tally = self._clock(), Tally()
        frame: pd.DataFrame | None = None
        failure: str | None = None
        try:
            frame = await self._answer(ask(), load, tally, started)
            return frame
        except BaseException as error:
            failure = type(error).__name__
            raise
        finally:
            record = frame.attrs[KEY] if frame is not None else None
            self._metrics.record(
                CallRecord(
                    method,
                    about[0],
                    about[1],
                    record and record["source"],
                    self._clock() - started,
                    failure,
                    tally.hit,
                    bool(record and record["stale"]),
                    tally.attempts,
                    0 if frame is None else len(frame),
                )
            )

    def close(self) -> None:
        """No more answers; the last good ones are still written."""
        self._closed = True
        self._disk.shutdown(wait=False)

    async def _answer(self, request: R, load: Load[R], tally: Tally, started: float) -> pd.DataFrame:
        """From the cache, or from one load for all who ask for it now."""
        if self._closed:
            raise FeatureStoreUnavailable(CLOSED)
        key = name = self._scope + request.key
        if self._cache is not None and self._hearing is not None:
            self._hearing.begin()
            if self._cache.is_shared:
                name = await self._hearing.name(key, request.pairs)
            held: pd.DataFrame | None = await self._cache.aget(name)
            tally.hit = held is not None
            if held is not None:
                return self._fresh_enough(from_cache(held, request, self._loads.now_us()), request)
        tally.count()
        deadline = Deadline(at=started + self._timeout_s, clock=self._clock)
        new_frame = await self._flights.load(key, partial(self._load, key, name, request, load, deadline))
        return self._fresh_enough(new_frame(), request)

    async def _load(self, key: str, name: str, request: R, load: Load[R], deadline: Deadline) -> NewFrame:
        """The stores' answer, remembered; or what stands in for it."""
        changes = 0 if self._hearing is None else self._hearing.changes
        try:
            answer = await load(request, deadline)
        except FeatureStoreUnavailable as error:
            return await self._stand_in(key, request, deadline, error)
        if isinstance(request, LatestRequest):
            if answer.record.as_of is None:  # the store has lost these symbols, or never had them
                try:
                    return await self._stand_in(key, request, deadline, FeatureStoreUnavailable(_LOST))
                except FeatureStoreUnavailable:
                    if self._seen & request.pairs:
                        raise
            elif not answer.record.missing or all(m["reason"] != "no_data" for m in answer.record.missing):
                self._seen |= request.pairs
        if self._on_unavailable == "last_good" and not self._closed and self._last_good.keep(key, answer):
            self._disk.submit(self._last_good.spool, key, answer)
        if self._cache is not None and self._hearing is not None and changes == self._hearing.changes:
            ttl_s = lifetime_s(request, answer.record, self._loads.now_us(), hearing=self._hearing.follows(name))
            await self._remember(self._cache, name, answer, ttl_s, deadline)
        return answer.fresh

    async def _remember(self, cache: FeatureCache, name: str, answer: Answer, ttl_s: float, deadline: Deadline) -> None:
        if not cache.is_shared:
            cache.set(name, answer, ttl_s)
            return
        with suppress(TimeoutError):  # the caller does not wait for a slow shared tier
            async with asyncio.timeout(deadline.remaining_s):
                await cache.aset(name, answer, ttl_s)

    async def _stand_in(
        self, key: str, request: Request, deadline: Deadline, error: FeatureStoreUnavailable
    ) -> NewFrame:
        """The labelled answer that stands in for the store's; ``error`` when there is none."""
        if self._closed:
            raise FeatureStoreUnavailable(CLOSED)
        if self._on_unavailable == "last_good":
            held = self._last_good.recall(key)
            if held is None:
                held = await self._read_spool(key, deadline)
            if held is not None:
                fresh: NewFrame = seal(as_last_good(held, request, self._loads.now_us())).fresh
                return fresh
        if self._on_unavailable == "recompute" and isinstance(request, LatestRequest):
            answer = await self._loads.recomputed(request, deadline)
            if answer.record.as_of is not None:
                return answer.fresh
        raise error

    async def _read_spool(self, key: str, deadline: Deadline) -> pd.DataFrame | None:
        with suppress(TimeoutError):
            async with asyncio.timeout(deadline.remaining_s + _SPOOL_S):
                return await asyncio.get_running_loop().run_in_executor(self._disk, self._last_good.read_spool, key)
        return None

    def _fresh_enough(self, answer: pd.DataFrame, request: Request) -> pd.DataFrame:
        if self._max_age_bars is not None:
            withhold_expired(answer, request, self._max_age_bars, self._loads.now_us())
        return answer
