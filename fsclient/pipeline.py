"""The path of one call: cache, one load for all callers with the same question, the stores, what stands in for them."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from functools import partial
from pathlib import Path
from typing import Literal, NamedTuple, TypeAlias, TypeVar

import pandas as pd

from fsclient.answers.answers import Answer, LatestAnswer
from fsclient.answers.repeating import from_cache, lifetime_s
from fsclient.cache.feature_cache import FeatureCache
from fsclient.cache.flight import SingleFlight
from fsclient.cache.invalidator import CacheInvalidator
from fsclient.cache.isolation import Sealed, seal
from fsclient.errors import CLOSED, FeatureStoreUnavailable
from fsclient.fallback.last_good import LastGood
from fsclient.fallback.standing_in import as_last_good, withhold_expired
from fsclient.fallback.unpublished import Pairs, absent_pairs, is_empty, unpublished_part, with_rows
from fsclient.metrics.registry import CallRecord, Metrics
from fsclient.provenance import KEY
from fsclient.questions.latest import LatestRequest
from fsclient.questions.ranges import ComputeRequest, RangeRequest, Request
from fsclient.reading.reader import Reader
from fsclient.resilience.retry import CALL_STATS, CallStats, Deadline

R = TypeVar("R", LatestRequest, RangeRequest, ComputeRequest)
Load: TypeAlias = Callable[[R, Deadline], Awaitable[Answer]]
OnUnavailable: TypeAlias = Literal["last_good", "recompute", "fail"]

KEPT_SHARE: dict[OnUnavailable, float] = {"last_good": 0.05, "recompute": 0.5, "fail": 0.0}
"""How much of a call's time is kept for what stands in for the online store's answer."""
_LOST = "the online store has lost its data; `fstore materialize` publishes it again"
_OUTAGE, _ABSENT = "outage", "absent"
_SPOOL_S = 0.03  # what reading a file of the spool may take when no time is left


class _Question(NamedTuple):
    """One question on its way. A named tuple, as every call that the cache cannot answer makes one.

    Attributes:
        key: its name among the loads under way, and in the fallback.
        name: its name in the cache.
        request: what is asked.
        deadline: when the answer is due.
        changes: ``CacheInvalidator.changes`` when it was asked.
        is_followed: whether its answer, once cached, is dropped when a publish changes it.
    """

    key: str
    name: str
    request: Request
    deadline: Deadline
    changes: int
    is_followed: bool


class Pipeline:
    """The policies of one client, in their order.

    A lookup that was asked before enters another module 11 times when the cache has its answer. When the online store
    is asked over an open connection it does so 32 times, without a cache 25 times (resumed coroutines included, the
    client's own module not).

    Args:
        scope: what the keys of a repository begin with: a cache may serve clients of several.
        cache, invalidator: both or neither.
        home: where the last good answers are kept for a process that starts in an outage.
        clock: monotonic seconds.
    """

    def __init__(
        self,
        reader: Reader,
        *,
        scope: str,
        cache: FeatureCache | None,
        invalidator: CacheInvalidator | None,
        home: Path,
        timeout_s: float,
        on_unavailable: OnUnavailable,
        max_age_bars: int | None,
        metrics: Metrics,
        now: Callable[[], float] = time.time,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._reader = reader
        self._scope = scope
        self._cache, self._invalidator = cache, invalidator
        self._timeout_s = timeout_s
        self._on_unavailable = on_unavailable
        self._max_age_bars = max_age_bars
        self._metrics = metrics
        self._now, self._clock = now, clock
        self._flights = SingleFlight()
        self._last_good = LastGood(home / "spool", now=now)
        self._disk = ThreadPoolExecutor(max_workers=1, thread_name_prefix="fsclient-spool")  # never behind long reads
        self._seen: set[tuple[str, str]] = set()  # symbols and timeframes that the online store has had
        self._remembered: Answer | None = None  # the newest: all callers of one load get the same object
        self._closed = False

    async def call(
        self,
        method: str,
        subject: tuple[object, str],
        check: Callable[[], R],
        load: Load[R],
        *,
        timeout_s: float | None = None,
    ) -> pd.DataFrame:
        """One call, counted: however it ends, it is one record of the metrics.

        Args:
            subject: the symbols and the timeframe as the caller named them; the record holds a single symbol only.
            check: makes the request of what the caller asked for, or raises.
            load: has the stores answer it.
            timeout_s: how long it may take, if not as long as other calls.
        """
        started, stats = self._clock(), CallStats()
        frame: pd.DataFrame | None = None
        failure: str | None = None
        try:
            frame = await self._answer(check(), load, stats, started + (timeout_s or self._timeout_s))
            return frame
        except BaseException as error:
            failure = type(error).__name__
            raise
        finally:
            record = frame.attrs[KEY] if frame is not None else None
            self._metrics.record(
                CallRecord(
                    method,
                    subject[0] if isinstance(subject[0], str) else None,
                    subject[1],
                    record and record["source"],
                    self._clock() - started,
                    failure,
                    stats.hit,
                    bool(record and record["stale"]),
                    stats.attempts,
                    0 if frame is None else len(frame),
                )
            )

    def close(self) -> None:
        """Answers no longer; the last good answers are still written."""
        self._closed = True
        self._disk.shutdown(wait=False)

    async def _answer(self, request: R, load: Load[R], stats: CallStats, ends: float) -> pd.DataFrame:
        """From the cache, or from one load for all callers that ask for it now."""
        if self._closed:
            raise FeatureStoreUnavailable(CLOSED)
        key = name = self._scope + request.key
        cache, invalidator = self._cache, self._invalidator
        changes, is_followed = 0, False
        if cache is not None and invalidator is not None:
            is_followed = invalidator.begin()
            frame: pd.DataFrame | None
            if cache.is_shared:
                name = await invalidator.name(key, request.pairs)
                frame = await cache.aget(name)
                is_followed = invalidator.follows(name)
            else:
                frame = cache.get(name)
            stats.hit = frame is not None
            if frame is not None:
                return self._fresh_enough(from_cache(frame, request, self._now_us()), request)
            changes = invalidator.changes
        CALL_STATS.set(stats)
        question = _Question(key, name, request, Deadline(ends, self._clock), changes, is_followed)
        # A call that comes after a publish does not join a load that began before it.
        flights, flight = self._flights, (key, changes)
        answer: Sealed
        try:
            answer = stored = await flights.load(flight, partial(load, request, question.deadline))
        except FeatureStoreUnavailable as error:
            answer = await flights.load((flight, _OUTAGE), partial(self._stand_in, question, error))
        else:
            if (
                isinstance(stored, LatestAnswer)
                and (stored.record.missing or stored.record.recomputed)
                and (absent := absent_pairs(stored))  # lost, or never published
            ):
                answer = await flights.load((flight, _ABSENT), partial(self._complete, question, stored, absent))
            elif stored is not self._remembered:
                self._remembered = stored
                self._keep(question, stored)
                await self._cache_answer(question, stored)
        return self._fresh_enough(answer.fresh(), request)

    def _keep(self, question: _Question, answer: Answer, absent: Pairs = frozenset()) -> None:
        """Keeps an answer for outages, and what the store was seen to have: all that was asked for but ``absent``."""
        if isinstance(answer, LatestAnswer):
            self._seen |= answer.request.pairs - absent
        if self._on_unavailable == "last_good" and not self._closed and self._last_good.keep(question.key, answer):
            self._disk.submit(self._last_good.spool, question.key, answer)

    async def _cache_answer(self, question: _Question, answer: Answer) -> None:
        cache = self._cache
        if cache is None or self._invalidator is None or question.changes != self._invalidator.changes:
            return  # without a cache, or overtaken by a publish since it was asked for
        request, record = question.request, answer.record
        ttl_s = lifetime_s(request, record, answer.read_us, self._now_us(), is_followed=question.is_followed)
        if not cache.is_shared:
            cache.set(question.name, answer, ttl_s)
            return
        with suppress(TimeoutError):  # the caller does not wait for a slow shared tier
            async with asyncio.timeout(question.deadline.remaining_s):
                await cache.aset(question.name, answer, ttl_s)

    async def _stand_in(self, question: _Question, error: FeatureStoreUnavailable) -> Sealed:
        """The labelled answer that stands in for the store's; ``error`` when there is none."""
        key, request, deadline = question.key, question.request, question.deadline
        if self._closed:
            raise FeatureStoreUnavailable(CLOSED)
        if self._on_unavailable == "last_good":
            frame = self._last_good.recall(key)
            if frame is None:
                frame = await self._read_spool(key, deadline)
            if frame is not None:
                return seal(as_last_good(frame, request, self._now_us()))
        if self._on_unavailable == "recompute" and isinstance(request, LatestRequest):
            answer = await self._reader.recomputed(request, deadline)
            if answer.record.as_of is not None:
                return answer
        raise error

    async def _complete(self, question: _Question, stored: LatestAnswer, absent: Pairs) -> Sealed:
        """The answer to a lookup of which the online store lacks bars.

        An empty store has lost what it had, so what stands in for it comes first. The rows of what it was never seen to
        have are computed from stored bars, and those that have no bars either stay as they are.
        """
        empty = is_empty(stored, absent)
        is_recomputed = self._on_unavailable == "recompute" and stored.record.recomputed  # by a service
        if empty and not is_recomputed:
            try:
                return await self._stand_in(question, FeatureStoreUnavailable(_LOST))
            except FeatureStoreUnavailable:
                if self._seen & absent:
                    raise
        answer, part = stored, unpublished_part(stored, absent, self._seen)
        if part is not None:
            with suppress(FeatureStoreUnavailable):
                answer = with_rows(stored, await self._reader.recomputed(part, question.deadline))
        if not empty:
            self._keep(question, answer, absent)
        await self._cache_answer(question, answer)
        return answer

    async def _read_spool(self, key: str, deadline: Deadline) -> pd.DataFrame | None:
        with suppress(TimeoutError):
            async with asyncio.timeout(deadline.remaining_s + _SPOOL_S):
                return await asyncio.get_running_loop().run_in_executor(self._disk, self._last_good.read_spool, key)
        return None

    def _now_us(self) -> int:
        return int(self._now() * 1e6)

    def _fresh_enough(self, answer: pd.DataFrame, request: Request) -> pd.DataFrame:
        if self._max_age_bars is not None:
            withhold_expired(answer, request, self._max_age_bars, self._now_us())
        return answer
