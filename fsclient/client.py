"""The client: what a strategy calls."""

from __future__ import annotations

import asyncio
import hashlib
import time
from collections.abc import Awaitable, Callable, Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from functools import partial
from pathlib import Path
from types import TracebackType
from typing import Any, Literal, Self, TypeVar

import pandas as pd

from feature_repo.catalog import BAR_FIELDS
from feature_repo.repo import Repo, load_repo
from feature_repo.stores.tables import OfflineTables
from fsclient.cache.feature_cache import FeatureCache
from fsclient.cache.flight import SingleFlight
from fsclient.cache.isolation import seal
from fsclient.cache.listener import PublishListener
from fsclient.errors import FeatureStoreUnavailable, InvalidRequestError, RequestTimeout
from fsclient.lookup import answers
from fsclient.lookup.answers import Answer, Request
from fsclient.lookup.history import read_history, recompute_latest
from fsclient.lookup.offline import OFFLINE_OUTAGE, read_opens, read_range
from fsclient.lookup.online import OnlineReader, WindowValues
from fsclient.lookup.request import (
    ComputeRequest,
    LatestRequest,
    RangeRequest,
    When,
    closed_part,
    compute_request,
    latest_request,
    range_request,
)
from fsclient.metrics.registry import CallRecord, Metrics, feature_store_metrics
from fsclient.provenance import KEY
from fsclient.resilience.breaker import CircuitBreaker
from fsclient.resilience.breaker_config import BreakerConfig
from fsclient.resilience.guard import Guard, Tally
from fsclient.resilience.last_good import LastGood
from fsclient.resilience.retry import Deadline, RetryPolicy

T = TypeVar("T")
R = TypeVar("R", LatestRequest, RangeRequest, ComputeRequest)
OnUnavailable = Literal["last_good", "recompute", "fail"]

BREAKER = BreakerConfig(window_calls=20, minimum_calls=5, failure_rate=0.5, wait_open_s=2.0, probes=2)
_FALLBACK_SHARE = {"last_good": 0.05, "recompute": 0.5, "fail": 0.0}
"""How much of a call's time is kept for what stands in for the online store's answer."""
_SPOOL_S = 0.03  # what reading a file of the spool may take when no time is left
_CLOSED = "this client is closed; make a new one"
_LOST = "the online store has lost its data; `fstore materialize` publishes it again"


class FeatureStoreClient:
    """Looks features up in one feature repository.

    Use it as ``async with FeatureStoreClient() as client``, or call ``close()``. One client serves any number of
    concurrent calls, and several event loops in turn; blocking work runs in its own threads.

    Every answer is a frame of the caller's own and says in its provenance where it came from, as of which bar, how
    many bars old it is and what it lacks. When the online store is away, the answer is the last good one or one
    recomputed from the offline store, labelled as such, or an error; never an invented value.

    Args:
        repo: the feature repository, or the path of its ``feature_store.yaml``; this project's when not given.
        use_cache: answer repeated questions from memory until the next bar closes or something is published.
        cache: the cache to use; its own (1,000 answers) when not given.
        timeout_s: how long a call may take as a whole.
        retries: how often a failed read is tried again within that time.
        on_unavailable: what answers when the online store can't: the last good answer (from memory, or from disk
            after a restart), one recomputed from the offline store's bars, or FeatureStoreUnavailable.
        max_age_bars: no answer older than this many bars, whatever its source; None for any age.
        metrics: where calls are counted; this process's own, which Redis tells to others, when not given.
        now: seconds since 1970.
        clock: monotonic seconds, for timeouts, breaker and cache.

    Raises:
        InvalidRequestError: an argument out of its range.
    """

    def __init__(
        self,
        *,
        repo: Repo | Path | str | None = None,
        use_cache: bool = True,
        cache: FeatureCache | None = None,
        timeout_s: float = 2.0,
        retries: int = 2,
        on_unavailable: OnUnavailable = "last_good",
        max_age_bars: int | None = None,
        metrics: Metrics = feature_store_metrics,
        now: Callable[[], float] = time.time,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        if not 0 < timeout_s < float("inf"):
            raise InvalidRequestError(f"timeout_s must be positive and finite, not {timeout_s}")
        if retries < 0:
            raise InvalidRequestError(f"retries must be 0 or more, not {retries}")
        if on_unavailable not in ("last_good", "recompute", "fail"):
            raise InvalidRequestError(f"on_unavailable must be last_good, recompute or fail, not {on_unavailable!r}")
        if max_age_bars is not None and max_age_bars < 0:
            raise InvalidRequestError(f"max_age_bars must be 0 or more, not {max_age_bars}")
        self._repo = repo if isinstance(repo, Repo) else load_repo(Path(repo) if repo else None)
        self._timeout_s = timeout_s
        self._on_unavailable = on_unavailable
        self._max_age_bars = max_age_bars
        self._now, self._clock, self._metrics = now, clock, metrics
        self._cache = (cache or FeatureCache(clock=clock)) if use_cache else None
        self._flights = SingleFlight()
        retry = RetryPolicy(max_attempts=1 + retries)
        self._guard = Guard(store="online", breaker=CircuitBreaker(BREAKER, clock=clock), retry=retry, clock=clock)
        online_s = timeout_s * (1 - _FALLBACK_SHARE[on_unavailable])
        self._threads = ThreadPoolExecutor(max_workers=4, thread_name_prefix="fsclient")
        self._disk = ThreadPoolExecutor(max_workers=1, thread_name_prefix="fsclient-spool")  # never behind long reads
        self._online = OnlineReader(self._repo, timeout_s=online_s, threads=self._threads)
        self._tables = OfflineTables(self._repo.offline, self._repo.storage_options)
        self._last_good = LastGood(self._repo.home / "spool", now=now)
        self._listeners: dict[asyncio.AbstractEventLoop, PublishListener] = {}
        self._changes = 0  # publishes heard, so that a load that one overtook is not cached
        self._seen: set[tuple[str, str]] = set()  # symbols and timeframes that the online store has had
        self._scope = _scope(self._repo)
        self._closed = False

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        await self.close()

    async def close(self) -> None:
        """Ends connections, listeners and threads; calls under way fail. Harmless when called twice."""
        self._closed = True
        listeners, self._listeners = self._listeners, {}
        own = listeners.pop(asyncio.get_running_loop(), None)
        for listener in listeners.values():
            listener.abandon()
        if own is not None:
            await own.stop()
        await self._online.close()
        self._threads.shutdown(wait=False, cancel_futures=True)
        self._disk.shutdown(wait=False)  # what is kept for the next start is still written

    # ------------------------------------------------------------------------------------------------ lookups

    async def get_latest(
        self, symbols: Sequence[str] | str, features: Iterable[str], *, timeframe: str = "1h"
    ) -> pd.DataFrame:
        """The newest closed bar's features.

        Args:
            symbols: names as in the catalog.
            features: fields of ``timeframe``; ``"4h:sma_200"`` for one of another timeframe.

        Returns:
            A row a symbol in the order asked: float64 columns in the order asked, ``event_timestamp`` (close of the
            symbol's bar at ``timeframe``, UTC) and ``age_bars``. A value that does not exist is NaN, and the
            provenance says why.

        Raises:
            UnknownSymbolError, UnknownFeatureError, InvalidRequestError: the request can't be meant.
            FeatureStoreUnavailable, StaleDataError: there is no answer, or none that is new enough.
        """
        about = (symbols if isinstance(symbols, str) else None, timeframe)
        return await self._call("get_latest", about, lambda: latest_request(symbols, features, timeframe), self._latest)

    async def get_ohlcv(
        self,
        symbol: str,
        start_date: When,
        end_date: When,
        timeframe: str = "1h",
        *,
        as_known_at: When | None = None,
    ) -> pd.DataFrame:
        """Bars whose ``open_time`` lies in ``[start_date, end_date]``; a date alone as the end means the whole day.

        Args:
            as_known_at: what was known at that moment: no revision written later.

        Returns:
            Index ``open_time`` (UTC, ascending, unique); float64 ``open, high, low, close, volume``, prices as
            quoted, volume in the source's unit, NaN where the source reports none.

        Raises:
            UnknownSymbolError, InvalidRequestError, FeatureStoreUnavailable, StaleDataError.
        """
        return await self._call(
            "get_ohlcv",
            (symbol, timeframe),
            lambda: range_request(symbol, start_date, end_date, timeframe, None, as_known_at),
            self._range,
        )

    async def get_indicators(
        self,
        symbol: str,
        start_date: When,
        end_date: When,
        timeframe: str = "1h",
        indicators: Iterable[str] = (),
        *,
        as_known_at: When | None = None,
    ) -> pd.DataFrame:
        """Indicators of the bars whose ``open_time`` lies in ``[start_date, end_date]``.

        Args:
            indicators: fields (``rsi_14``, ``bb_upper``) or whole indicators (``bollinger_20_2``: all its outputs).

        Returns:
            Index ``open_time``; float64 columns in the order asked, NaN in an indicator's warm-up. A row's values
            were known from its bar's close on: ``open_time`` + timeframe.

        Raises:
            UnknownSymbolError, UnknownFeatureError, InvalidRequestError, FeatureStoreUnavailable, StaleDataError.
        """
        return await self._call(
            "get_indicators",
            (symbol, timeframe),
            lambda: range_request(symbol, start_date, end_date, timeframe, indicators or (), as_known_at),
            self._range,
        )

    async def compute_feature(
        self,
        feature_name: str,
        symbol: str,
        start_date: When,
        end_date: When,
        timeframe: str = "1h",
        parameters: Mapping[str, Any] | None = None,
    ) -> pd.Series | pd.DataFrame:
        """A feature computed here from stored bars, with parameters of the caller's own.

        The history that it needs before ``start_date`` is read too, so its values equal those computed from all
        history within 1e-9.

        Args:
            feature_name: a kind of the catalog (``volatility``), a TA-Lib function (``RSI``), a name registered with
                ``@feature``, or a field (``rsi_14``).
            parameters: by the kind's or TA-Lib's own names; defaults for the rest.

        Returns:
            A Series over ``open_time``, or a DataFrame when there are several outputs; float64, NaN in warm-up.

        Raises:
            UnknownSymbolError, UnknownFeatureError, InvalidRequestError, FeatureStoreUnavailable, StaleDataError.
        """
        frame = await self._call(
            "compute_feature",
            (symbol, timeframe),
            lambda: compute_request(feature_name, symbol, start_date, end_date, timeframe, parameters),
            self._computed,
        )
        if len(frame.columns) > 1:
            return frame
        series = frame.iloc[:, 0]
        series.attrs = frame.attrs
        return series

    # ---------------------------------------------------------------------------------------- one call's way

    async def _call(
        self,
        method: str,
        about: tuple[str | None, str],
        ask: Callable[[], R],
        load: Callable[[R, Deadline], Awaitable[Answer]],
    ) -> pd.DataFrame:
        """One call, counted: however it ends, it is one record of the metrics."""
        started, tally = self._clock(), Tally()
        frame: pd.DataFrame | None = None
        failure: str | None = None
        try:
            frame = await self._answer(ask(), load, tally)
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
        return frame

    async def _answer(self, request: R, load: Callable[[R, Deadline], Awaitable[Answer]], tally: Tally) -> pd.DataFrame:
        """Cache, then single flight, then the load; the whole within the call's time."""
        if self._closed:
            raise FeatureStoreUnavailable(_CLOSED)
        ends_at = self._clock() + self._timeout_s
        key = self._scope + request.key
        if self._cache is not None:
            if self._hear():
                await self._lost()  # what was published before was not heard
            held: pd.DataFrame | None = await self._cache.aget(key)
            tally.hit = held is not None
            if held is not None:
                return self._fresh_enough(answers.from_cache(held, request, self._now_us()), request)
        tally.count()
        deadline = Deadline(at=ends_at, clock=self._clock)
        loaded = await self._flights.load(key, partial(self._load, key, request, partial(load, request), deadline))
        return self._fresh_enough(loaded(), request)  # callers who shared a load share no frame

    async def _load(
        self, key: str, request: Request, load: Callable[[Deadline], Awaitable[Answer]], deadline: Deadline
    ) -> Callable[[], pd.DataFrame]:
        """What makes a frame for each caller."""
        changes = self._changes
        try:
            answer = await load(deadline)
        except FeatureStoreUnavailable as error:
            return await self._stand_in(key, request, deadline, error)
        if isinstance(request, LatestRequest):
            if answer.record.as_of is None:  # the store has lost these symbols, or never had them
                try:
                    return await self._stand_in(key, request, deadline, FeatureStoreUnavailable(_LOST))
                except FeatureStoreUnavailable:
                    if self._seen & request.pairs:
                        raise
            elif all(entry["reason"] != "no_data" for entry in answer.record.missing):
                self._seen |= request.pairs
        if self._on_unavailable == "last_good" and not self._closed and self._last_good.keep(key, answer):
            self._disk.submit(self._last_good.spool, key, answer)
        if self._cache is not None and changes == self._changes:
            ttl_s = answers.lifetime_s(request, answer.record, self._now_us(), hearing=self.hears_publishes)
            with suppress(TimeoutError):  # the caller does not wait for a slow shared tier
                async with asyncio.timeout(deadline.remaining_s):
                    await self._cache.aset(key, answer.frame(), ttl_s)
        return answer.frame

    async def _stand_in(
        self, key: str, request: Request, deadline: Deadline, error: FeatureStoreUnavailable
    ) -> Callable[[], pd.DataFrame]:
        """What makes the labelled frames that stand in for the store's answer; ``error`` when there are none."""
        if self._closed:
            raise FeatureStoreUnavailable(_CLOSED)
        if self._on_unavailable == "last_good":
            held = self._last_good.recall(key)
            if held is None:
                held = await self._read_spool(key, deadline)
            if held is not None:
                frame: Callable[[], pd.DataFrame] = seal(answers.as_last_good(held, request, self._now_us())).fresh
                return frame
        if self._on_unavailable == "recompute" and isinstance(request, LatestRequest):
            now_us = self._now_us()
            values = await self._bounded(recompute_latest, deadline, self._tables, request, now_us)
            answer = answers.latest_answer(request, values, now_us, source="recomputed")
            if answer.record.as_of is not None:
                return answer.frame
        raise error

    async def _read_spool(self, key: str, deadline: Deadline) -> pd.DataFrame | None:
        with suppress(TimeoutError):
            async with asyncio.timeout(deadline.remaining_s + _SPOOL_S):
                return await asyncio.get_running_loop().run_in_executor(self._disk, self._last_good.read_spool, key)
        return None

    def _fresh_enough(self, answer: pd.DataFrame, request: Request) -> pd.DataFrame:
        if self._max_age_bars is not None:
            answers.withhold_expired(answer, request, self._max_age_bars, self._now_us())
        return answer

    def _now_us(self) -> int:
        return int(self._now() * 1e6)

    # --------------------------------------------------------------------------------------------- the loads

    async def _latest(self, request: LatestRequest, deadline: Deadline) -> Answer:
        values = await self._ask_online(partial(self._online.latest, request), deadline)
        return answers.latest_answer(request, values, self._now_us(), source="online")

    async def _range(self, request: RangeRequest, deadline: Deadline) -> Answer:
        now_us = self._now_us()
        window: WindowValues | None = None
        if request.as_known_at is None:
            half = Deadline(at=self._clock() + deadline.remaining_s / 2, clock=self._clock)
            asked = partial(self._online.window, request.symbol, request.timeframe, request.columns)
            with suppress(FeatureStoreUnavailable):  # the offline store has all of it, a little later
                window = await self._ask_online(asked, half)
            if window is not None and window.covers(request):
                return answers.range_answer(request, window.cut(request), now_us, source="online")
        return await self._bounded(self._read_range, deadline, request, window, now_us)

    def _read_range(self, request: RangeRequest, window: WindowValues | None, now_us: int) -> Answer:
        closed = closed_part(request, now_us)
        values = read_range(self._tables, closed)
        if window is not None:
            values = window.extend(values, closed)
        bar_opens = None if set(request.columns) <= set(BAR_FIELDS) else partial(read_opens, self._tables, closed)
        return answers.range_answer(request, values, now_us, source="offline", bar_opens=bar_opens)

    async def _computed(self, request: ComputeRequest, deadline: Deadline) -> Answer:
        return await self._bounded(self._compute, deadline, request, self._now_us())

    def _compute(self, request: ComputeRequest, now_us: int) -> Answer:
        span, what = closed_part(request.span, now_us), request.what
        bars = read_history(
            self._tables,
            span.symbol,
            span.timeframe,
            start=span.start.to_pydatetime(),
            end=span.end.to_pydatetime(),
            warm_up=what.warm_up(request.parameters),
        )
        values = answers.computed_values(request, bars)
        return answers.range_answer(request.span, values, now_us, source="recomputed", names=tuple(values.columns))

    async def _ask_online(self, read: Callable[[], Awaitable[T]], deadline: Deadline) -> T:
        kept_s = deadline.remaining_s * _FALLBACK_SHARE[self._on_unavailable]
        return await self._guard.run(read, Deadline(at=deadline.at - kept_s, clock=self._clock))

    async def _bounded(self, work: Callable[..., T], deadline: Deadline, *args: Any) -> T:
        """Blocking work in a thread; past the deadline its answer is no longer waited for."""
        try:
            async with asyncio.timeout(deadline.remaining_s):
                return await self._in_thread(work, *args)
        except TimeoutError:
            raise RequestTimeout(
                f"the offline store did not answer within {self._timeout_s:g} s; ask for less"
            ) from None
        except OFFLINE_OUTAGE as error:
            raise FeatureStoreUnavailable(
                f"the offline store can't be read ({type(error).__name__}); see `fstore status`"
            ) from error

    async def _in_thread(self, work: Callable[..., T], *args: Any) -> T:
        if self._closed:
            raise FeatureStoreUnavailable(_CLOSED)
        return await asyncio.get_running_loop().run_in_executor(self._threads, work, *args)

    # ------------------------------------------------------------------------------------------ invalidation

    @property
    def hears_publishes(self) -> bool:
        """Whether the cache of the running loop follows publishes; until it does, answers are repeated for a second."""
        listener = self._listeners.get(asyncio.get_running_loop())
        return listener is not None and listener.hearing

    def _hear(self) -> bool:
        """Listens for publishes on the running loop, so that the cache follows them; whether it begins only now."""
        loop = asyncio.get_running_loop()
        if loop in self._listeners:
            return False
        for ended in [other for other in self._listeners if other.is_closed()]:
            del self._listeners[ended]
        listener = self._listeners[loop] = PublishListener(
            self._repo.project, self._online.client, on_publish=self._published, on_lost=self._lost
        )
        listener.start()
        return True

    async def _published(self, changed: Iterable[tuple[str, str]]) -> None:
        self._changes += 1
        if self._cache is not None:
            for prefix in answers.prefixes(changed):
                await self._cache.ainvalidate_prefix(self._scope + prefix)

    async def _lost(self) -> None:
        self._changes += 1
        if self._cache is not None:
            await self._cache.ainvalidate_prefix(self._scope)


def _scope(repo: Repo) -> str:
    """What the keys of a repository begin with: a cache may serve clients of several."""
    where = "\n".join([repo.project, repo.offline, repo.redis_url or str(repo.home)])
    return hashlib.sha256(where.encode()).hexdigest()[:12] + "|"
