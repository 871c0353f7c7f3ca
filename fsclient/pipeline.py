"""One call's way: cache, one load for all who ask the same, the stores, and what stands in for them."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from functools import partial
from pathlib import Path
from typing import Generic, Literal, NamedTuple, TypeAlias, TypeVar

import pandas as pd

from fsclient.answers.answers import Answer
from fsclient.answers.repeating import from_cache, lifetime_s
from fsclient.cache.feature_cache import FeatureCache
from fsclient.cache.flight import Flight, SingleFlight
from fsclient.cache.invalidator import CacheInvalidator
from fsclient.cache.isolation import seal
from fsclient.errors import CLOSED, FeatureStoreUnavailable
from fsclient.fallback.last_good import LastGood
from fsclient.fallback.standing_in import as_last_good, withhold_expired
from fsclient.metrics.registry import CallRecord, Metrics
from fsclient.provenance import KEY
from fsclient.questions.latest import LatestRequest
from fsclient.questions.ranges import ComputeRequest, RangeRequest, Request
from fsclient.reading.reader import Reader
from fsclient.resilience.guard import CallStats
from fsclient.resilience.retry import Deadline

R = TypeVar("R", LatestRequest, RangeRequest, ComputeRequest)
Load: TypeAlias = Callable[[R, Deadline], Awaitable[Answer]]
Rest: TypeAlias = Callable[[], Awaitable[Answer]]
Begin: TypeAlias = Callable[[R, Deadline, Callable[[Answer], None], Callable[[Rest], None]], bool]
"""Begins a load without a task; see ``StoreReader.begin_latest``."""
OnUnavailable: TypeAlias = Literal["last_good", "recompute", "fail"]
NewFrame: TypeAlias = Callable[[], pd.DataFrame]
"""Makes a frame of his own for each caller of one load."""

KEPT_SHARE: dict[OnUnavailable, float] = {"last_good": 0.05, "recompute": 0.5, "fail": 0.0}
"""How much of a call's time is kept for what stands in for the online store's answer."""
_LOST = "the online store has lost its data; `fstore materialize` publishes it again"
_SPOOL_S = 0.03  # what reading a file of the spool may take when no time is left


class _Asked(NamedTuple, Generic[R]):
    """One question on its way. A named tuple, as every call that the cache can't answer makes one.

    Attributes:
        key: what it is called among those under way, and by the fallback.
        name: what it is called in the cache.
    """

    key: str
    name: str
    request: R
    deadline: Deadline


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
        loads: Reader,
        *,
        scope: str,
        cache: FeatureCache | None,
        hearing: CacheInvalidator | None,
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
        self,
        method: str,
        about: tuple[str | None, str],
        ask: Callable[[], R],
        load: Load[R],
        begin: Begin[R] | None = None,
        *,
        timeout_s: float | None = None,
    ) -> pd.DataFrame:
        """One call, counted: however it ends, it is one record of the metrics.

        Args:
            about: the symbol, if it is one, and the timeframe, as they were given.
            ask: checks what was asked for.
            load: has the stores answer it.
            begin: does so without a task, if that is possible.
            timeout_s: how long it may take, if not as long as other calls.
        """
        started, tally = self._clock(), CallStats()
        frame: pd.DataFrame | None = None
        failure: str | None = None
        try:
            ends = started + (timeout_s or self._timeout_s)
            frame = await self._answer(ask(), load, begin, tally, ends)
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

    async def _answer(
        self, request: R, load: Load[R], begin: Begin[R] | None, tally: CallStats, ends: float
    ) -> pd.DataFrame:
        """From the cache, or from one load for all who ask for it now."""
        if self._closed:
            raise FeatureStoreUnavailable(CLOSED)
        key = name = self._scope + request.key
        if self._cache is not None and self._hearing is not None:
            self._hearing.begin()
            held: pd.DataFrame | None
            if self._cache.is_shared:
                name = await self._hearing.name(key, request.pairs)
                held = await self._cache.aget(name)
            else:
                held = self._cache.get(name)
            tally.hit = held is not None
            if held is not None:
                return self._fresh_enough(from_cache(held, request, self._loads.now_us()), request)
        tally.count()
        asked = _Asked(key=key, name=name, request=request, deadline=Deadline(at=ends, clock=self._clock))
        new_frame = await self._flights.load(
            (key, self._changes),  # a call that comes after a publish does not join a load that began before it
            partial(self._load, asked, partial(load, request, asked.deadline)),
            begin and partial(self._begin, asked, begin),
        )
        return self._fresh_enough(new_frame(), request)

    def _begin(self, asked: _Asked[R], begin: Begin[R], flight: Flight[NewFrame]) -> bool:
        """As ``_load``, without a task as long as all goes well."""
        changes = self._changes

        def answered(answer: Answer) -> None:
            if answer.record.as_of is None or (self._cache is not None and self._cache.is_shared):
                flight.run(partial(self._accept, asked, answer, changes))
            else:
                flight.end(partial(self._keep, asked, answer, changes))

        def failed(rest: Rest) -> None:
            flight.run(partial(self._load, asked, rest))

        return begin(asked.request, asked.deadline, answered, failed)

    async def _load(self, asked: _Asked[R], load: Rest) -> NewFrame:
        """The stores' answer, remembered; or what stands in for it."""
        changes = self._changes
        try:
            answer = await load()
        except FeatureStoreUnavailable as error:
            return await self._stand_in(asked, error)
        return await self._accept(asked, answer, changes)

    async def _accept(self, asked: _Asked[R], answer: Answer, changes: int) -> NewFrame:
        """The answer, remembered, unless it says that the store has lost what it had."""
        if answer.record.as_of is None and isinstance(asked.request, LatestRequest):  # or never had it
            try:
                return await self._stand_in(asked, FeatureStoreUnavailable(_LOST))
            except FeatureStoreUnavailable:
                if self._seen & asked.request.pairs:
                    raise
        new_frame = self._keep(asked, answer, changes)
        cache, ttl_s = self._cache, self._lifetime_s(asked, answer, changes)
        if cache is not None and cache.is_shared and ttl_s:
            with suppress(TimeoutError):  # the caller does not wait for a slow shared tier
                async with asyncio.timeout(asked.deadline.remaining_s):
                    await cache.aset(asked.name, answer, ttl_s)
        return new_frame

    def _keep(self, asked: _Asked[R], answer: Answer, changes: int) -> NewFrame:
        """Remembers an answer for the fallback, and in the cache of this process."""
        request, record = asked.request, answer.record
        has_all = record.as_of is not None and all(m["reason"] != "no_data" for m in record.missing)
        if has_all and isinstance(request, LatestRequest):
            self._seen |= request.pairs
        if self._on_unavailable == "last_good" and not self._closed and self._last_good.keep(asked.key, answer):
            self._disk.submit(self._last_good.spool, asked.key, answer)
        if self._cache is not None and not self._cache.is_shared:
            ttl_s = self._lifetime_s(asked, answer, changes)
            if ttl_s:
                self._cache.set(asked.name, answer, ttl_s)
        return answer.fresh

    @property
    def _changes(self) -> int:
        return 0 if self._hearing is None else self._hearing.changes

    def _lifetime_s(self, asked: _Asked[R], answer: Answer, changes: int) -> float:
        """How long the cache may repeat an answer; 0 when a publish was heard since it was asked for."""
        if self._hearing is None or changes != self._hearing.changes:
            return 0.0
        follows = self._hearing.follows(asked.name)
        return lifetime_s(asked.request, answer.record, self._loads.now_us(), hearing=follows)

    async def _stand_in(self, asked: _Asked[R], error: FeatureStoreUnavailable) -> NewFrame:
        """The labelled answer that stands in for the store's; ``error`` when there is none."""
        key, request, deadline = asked.key, asked.request, asked.deadline
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
