"""The client: what a strategy calls."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable, Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path
from types import TracebackType
from typing import Any, Literal, Self, TypeVar
from weakref import WeakKeyDictionary

import pandas as pd

from feature_repo.repo import Repo, load_repo
from feature_repo.stores.tables import OfflineTables
from fsclient import answers
from fsclient.answers import Answer, Request
from fsclient.breaker import CircuitBreaker
from fsclient.breaker_config import BreakerConfig
from fsclient.cache import FeatureCache
from fsclient.compute import computable
from fsclient.errors import FeatureStoreError, FeatureStoreUnavailable, InvalidRequestError, RequestTimeout
from fsclient.flight import SingleFlight
from fsclient.guard import Guard
from fsclient.history import read_history, recompute_latest
from fsclient.last_good import LastGood
from fsclient.listener import PublishListener
from fsclient.offline import RangeValues, read_range
from fsclient.online import OnlineReader
from fsclient.request import (
    ComputeRequest,
    LatestRequest,
    RangeRequest,
    When,
    compute_request,
    latest_request,
    range_request,
)
from fsclient.retry import Deadline, RetryPolicy

T = TypeVar("T")
OnUnavailable = Literal["last_good", "recompute", "fail"]

BREAKER = BreakerConfig(window_calls=20, minimum_calls=5, failure_rate=0.5, wait_open_s=2.0, probes=2)
_RECOMPUTE_SHARE = 0.5  # of a call's time is kept for recomputing when that is the fallback


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
        self._now, self._clock = now, clock
        self._cache = (cache or FeatureCache(clock=clock)) if use_cache else None
        self._flights = SingleFlight()
        retry = RetryPolicy(max_attempts=1 + retries)
        self._guard = Guard(store="online", breaker=CircuitBreaker(BREAKER, clock=clock), retry=retry, clock=clock)
        self._online = OnlineReader(self._repo)
        self._tables = OfflineTables(self._repo.offline, self._repo.storage_options)
        self._last_good = LastGood(self._repo.home / "spool", now=now)
        self._threads = ThreadPoolExecutor(max_workers=4, thread_name_prefix="fsclient")
        self._listeners: WeakKeyDictionary[asyncio.AbstractEventLoop, PublishListener] = WeakKeyDictionary()
        self._changes = 0  # publishes heard, so that a load that one overtook is not cached
        self._closed = False

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        await self.close()

    async def close(self) -> None:
        """Ends connections, the listener and threads; harmless when called twice."""
        self._closed = True
        listener = self._listeners.pop(asyncio.get_running_loop(), None)
        if listener is not None:
            await listener.stop()
        await self._online.close()
        self._threads.shutdown(wait=False, cancel_futures=True)

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
        request = latest_request(symbols, features, timeframe)
        return await self._answer(request, partial(self._latest, request))

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
        request = range_request(symbol, start_date, end_date, timeframe, None, as_known_at)
        return await self._answer(request, partial(self._range, request))

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
        request = range_request(symbol, start_date, end_date, timeframe, indicators, as_known_at)
        return await self._answer(request, partial(self._range, request))

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
        request = compute_request(feature_name, symbol, start_date, end_date, timeframe, parameters)
        frame = await self._answer(request, partial(self._computed, request))
        if len(frame.columns) > 1:
            return frame
        series = frame.iloc[:, 0]
        series.attrs = frame.attrs
        return series

    # ---------------------------------------------------------------------------------------- one call's way

    async def _answer(self, request: Request, load: Callable[[Deadline], Awaitable[Answer]]) -> pd.DataFrame:
        """Cache, then single flight, then the load; the whole within the call's time."""
        if self._closed:
            raise FeatureStoreUnavailable("this client is closed; make a new one")
        if self._cache is not None:
            self._hear()
            held: pd.DataFrame | None = await self._cache.aget(request.key)
            if held is not None:
                return self._fresh_enough(answers.from_cache(held, request, int(self._now() * 1e6)))
        deadline = Deadline.after(self._timeout_s, clock=self._clock)
        loaded = await self._flights.load(request.key, partial(self._load, request, load, deadline))
        return self._fresh_enough(loaded())  # callers who shared a load share no frame

    async def _load(
        self, request: Request, load: Callable[[Deadline], Awaitable[Answer]], deadline: Deadline
    ) -> Callable[[], pd.DataFrame]:
        """What makes a frame for each caller."""
        changes = self._changes
        try:
            answer = await load(deadline)
        except FeatureStoreUnavailable as error:
            return partial(pd.DataFrame.copy, await self._fall_back(request, error, deadline))
        if self._on_unavailable == "last_good" and self._last_good.keep(request.key, answer):
            self._threads.submit(self._last_good.spool, request.key, answer)
        if self._cache is not None and changes == self._changes:
            listener = self._listeners.get(asyncio.get_running_loop())
            hearing = listener is not None and listener.hearing
            ttl_s = answers.lifetime_s(request, answer.record, int(self._now() * 1e6), hearing=hearing)
            await self._cache.aset(request.key, answer.frame(), ttl_s)
        return answer.frame

    async def _fall_back(self, request: Request, error: FeatureStoreUnavailable, deadline: Deadline) -> pd.DataFrame:
        """The labelled answer that stands in for the store's, or the error."""
        if self._on_unavailable == "last_good":
            held = self._last_good.recall(request.key)
            if held is None:
                held = await self._in_thread(self._last_good.read_spool, request.key)
            if held is not None:
                return answers.as_last_good(held, request, int(self._now() * 1e6))
        if self._on_unavailable == "recompute" and isinstance(request, LatestRequest):
            values = await self._bounded(recompute_latest, deadline, self._tables, request)
            return answers.latest_answer(request, values, int(self._now() * 1e6), source="recomputed").frame()
        raise error

    def _fresh_enough(self, answer: pd.DataFrame) -> pd.DataFrame:
        if self._max_age_bars is not None:
            answers.withhold_expired(answer, self._max_age_bars)
        return answer

    # --------------------------------------------------------------------------------------------- the loads

    async def _latest(self, request: LatestRequest, deadline: Deadline) -> Answer:
        values = await self._ask_online(partial(self._online.latest, request), deadline)
        answer = answers.latest_answer(request, values, int(self._now() * 1e6), source="online")
        if answer.record.as_of is None and self._last_good.holds(request.key):
            # It held these symbols before and now holds none of them: the store was emptied.
            raise FeatureStoreUnavailable("the online store has lost its data; `fstore materialize` publishes it again")
        return answer

    async def _range(self, request: RangeRequest, deadline: Deadline) -> Answer:
        now_us = int(self._now() * 1e6)
        if request.as_known_at is None:
            half = Deadline(at=self._clock() + deadline.remaining_s / 2, clock=self._clock)
            asked = partial(self._online.window, request.symbol, request.timeframe, request.columns)
            try:
                window = await self._ask_online(asked, half)
            except FeatureStoreUnavailable:
                window = None  # the offline store has all of it, a little later
            if window is not None and window.covers(request):
                return answers.range_answer(request, window.cut(request), now_us, source="online")
        else:
            window = None
        values = await self._bounded(read_range, deadline, self._tables, request)
        if window is not None:
            values = window.extend(values, request)
        return answers.range_answer(request, values, now_us, source="offline")

    async def _computed(self, request: ComputeRequest, deadline: Deadline) -> Answer:
        values = await self._bounded(self._compute, deadline, request)
        span = request.span
        return answers.range_answer(
            span, values, int(self._now() * 1e6), source="recomputed", names=tuple(values.columns)
        )

    def _compute(self, request: ComputeRequest) -> RangeValues:
        span, what = request.span, computable(request.feature)
        bars = read_history(
            self._tables,
            span.symbol,
            span.timeframe,
            start=span.start.to_pydatetime(),
            end=span.end.to_pydatetime(),
            warm_up=what.warm_up(request.parameters),
        )
        return answers.computed_values(what, request, bars)

    async def _ask_online(self, read: Callable[[], Awaitable[T]], deadline: Deadline) -> T:
        if self._on_unavailable == "recompute":
            deadline = Deadline(at=deadline.at - deadline.remaining_s * _RECOMPUTE_SHARE, clock=self._clock)
        return await self._guard.run(read, deadline)

    async def _bounded(self, work: Callable[..., T], deadline: Deadline, *args: Any) -> T:
        """Blocking work in a thread; past the deadline its answer is no longer waited for."""
        try:
            async with asyncio.timeout(deadline.remaining_s):
                return await self._in_thread(work, *args)
        except TimeoutError:
            raise RequestTimeout(
                f"the offline store did not answer within {self._timeout_s:g} s; ask for less"
            ) from None
        except FeatureStoreError:
            raise
        except (OSError, RuntimeError) as error:
            raise FeatureStoreUnavailable(f"the offline store can't be read ({type(error).__name__})") from error

    async def _in_thread(self, work: Callable[..., T], *args: Any) -> T:
        return await asyncio.get_running_loop().run_in_executor(self._threads, work, *args)

    # ------------------------------------------------------------------------------------------ invalidation

    def _hear(self) -> None:
        """Listens for publishes on the running loop, so that the cache follows them."""
        loop = asyncio.get_running_loop()
        listener = self._listeners.get(loop)
        if listener is None:
            listener = self._listeners[loop] = PublishListener(
                self._repo.project, self._online.client, on_publish=self._published, on_lost=self._lost
            )
            listener.start()

    def _published(self, changed: Iterable[tuple[str, str]]) -> None:
        self._changes += 1
        if self._cache is not None:
            for prefix in answers.prefixes(changed):
                self._cache.invalidate_prefix(prefix)

    def _lost(self) -> None:
        self._changes += 1
        if self._cache is not None:
            self._cache.clear()
