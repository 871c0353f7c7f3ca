"""The client: what a strategy calls."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Any, Self

import pandas as pd

from feature_repo.moments import When
from fsclient.cache.feature_cache import FeatureCache
from fsclient.errors import InvalidRequestError
from fsclient.metrics.registry import Metrics, feature_store_metrics
from fsclient.questions.latest import latest_request
from fsclient.questions.ranges import compute_request, range_request

if TYPE_CHECKING:
    from feature_repo.repo import Repo
    from fsclient.backends import Backend
    from fsclient.pipeline import OnUnavailable
    from fsclient.reading.reader import Reader


class FeatureStoreClient:
    """Looks features up in one feature repository, or asks an HTTP service that does (``url=``), with one behaviour.

    Use it as ``async with FeatureStoreClient() as client``, or call ``close()``. One client serves any number of
    concurrent calls, and several event loops in turn; blocking work runs in its own threads.

    Every answer is a frame of the caller's own and says in its provenance where it came from, as of which bar, how
    many bars old it is and what it lacks. When the online store is unavailable, the answer is the last good one or one
    recomputed from the offline store, labelled as such, or an error; never an invented value.

    Args:
        url: of an HTTP service, such as ``http://127.0.0.1:8060``; by default the repository's own stores are read.
        api_key: the service's key; never shown.
        repo: the feature repository, or the path of its ``feature_store.yaml``; by default this project's.
        use_cache: answer repeated questions from memory until the next bar closes or something is published.
        cache: the cache to use; by default its own (1,000 answers).
        timeout_s: how long a call may take as a whole.
        retries: how often a failed read is tried again within that time.
        on_unavailable: what answers when the online store cannot: the last good answer (from memory, or from disk
            after a restart), one recomputed from the offline store's bars, or FeatureStoreUnavailable.
        max_age_bars: no answer older than this many bars, whatever its source; None for any age.
        metrics: where calls are counted; by default this process's own.
        publish_metrics: report the counts to the dashboard, through Redis, from a thread of its own; with ``url``
            there is no Redis to report to, and the service reports the questions that it was asked.
        now: seconds since 1970.
        clock: monotonic seconds, for timeouts, breaker and cache.

    Raises:
        InvalidRequestError: an argument out of its range.
    """

    def __init__(
        self,
        *,
        url: str | None = None,
        api_key: str | None = None,
        repo: Repo | Path | str | None = None,
        use_cache: bool = True,
        cache: FeatureCache | None = None,
        timeout_s: float = 2.0,
        retries: int = 2,
        on_unavailable: OnUnavailable = "last_good",
        max_age_bars: int | None = None,
        metrics: Metrics = feature_store_metrics,
        publish_metrics: bool = True,
        now: Callable[[], float] = time.time,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        # With the first client, not with the package: these load redis-py, Arrow and YAML.
        from feature_repo.repo import Repo, load_repo
        from fsclient.backends import of_repo, of_service
        from fsclient.pipeline import KEPT_SHARE, Pipeline

        if url is not None and repo is not None:
            raise InvalidRequestError("url= asks a service and repo= reads the stores: pass one of them")
        if url is None and api_key is not None:
            raise InvalidRequestError("api_key= is for a service: pass its url= too")
        if not 0 < timeout_s < float("inf"):
            raise InvalidRequestError(f"timeout_s must be positive and finite, not {timeout_s}")
        if retries < 0:
            raise InvalidRequestError(f"retries must be 0 or more, not {retries}")
        if on_unavailable not in ("last_good", "recompute", "fail"):
            raise InvalidRequestError(f"on_unavailable must be last_good, recompute or fail, not {on_unavailable!r}")
        if max_age_bars is not None and max_age_bars < 0:
            raise InvalidRequestError(f"max_age_bars must be 0 or more, not {max_age_bars}")
        if url is None and not isinstance(repo, Repo):
            repo = load_repo(Path(repo) if repo else None)
        self._repo = repo if isinstance(repo, Repo) else None
        self._metrics = metrics
        self._release_metrics: Callable[[], None] | None = None
        self._closed = False
        backend: Backend[Reader]
        options: dict[str, Any] = {
            "kept_share": KEPT_SHARE[on_unavailable],
            "retries": retries,
            "on_breaker": lambda change: metrics.set_state(backend.breaker, change.after, of=self),
            "now": now,
            "clock": clock,
        }
        if self._repo is None:
            backend = of_service(str(url), api_key=api_key, **options)
        else:
            on_online = self._publish_metrics if publish_metrics else lambda _: None
            backend = of_repo(self._repo, timeout_s=timeout_s, on_online=on_online, **options)
        metrics.set_state(backend.breaker, "closed", of=self)
        self._breaker = backend.breaker
        cache = (cache or FeatureCache(clock=clock)) if use_cache else None
        self._invalidator = None if cache is None else backend.invalidator(cache)
        self._reader = backend.reader
        self._pipeline = Pipeline(
            self._reader,
            scope=backend.scope,
            cache=cache,
            invalidator=self._invalidator,
            home=backend.home,
            timeout_s=timeout_s,
            on_unavailable=on_unavailable,
            max_age_bars=max_age_bars,
            metrics=metrics,
            now=now,
            clock=clock,
        )

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        await self.close()

    async def close(self) -> None:
        """Ends connections, listeners and threads; calls under way fail. Harmless when called twice."""
        self._closed = True
        self._pipeline.close()
        if self._invalidator is not None:
            await self._invalidator.close()
        await self._reader.close()
        self._metrics.set_state(self._breaker, None, of=self)
        release, self._release_metrics = self._release_metrics, None
        if release is not None:  # it may wait for a last write
            with ThreadPoolExecutor(max_workers=1, thread_name_prefix="fsclient-release") as thread:
                await asyncio.get_running_loop().run_in_executor(thread, release)

    # ------------------------------------------------------------------------------------------------ lookups

    async def get_latest(
        self, symbols: Sequence[str] | str, features: Iterable[str], *, timeframe: str = "1h"
    ) -> pd.DataFrame:
        """The newest closed bar's features.

        Args:
            symbols: names as in the catalog.
            features: fields of ``timeframe``; ``"4h:sma_200"`` for one of another timeframe.

        Returns:
            One row per symbol in the order asked: float64 columns in the order asked, ``event_timestamp`` (close of the
            symbol's bar at ``timeframe``, UTC) and ``age_bars``. A value that does not exist is NaN, and the
            provenance says why.

        Raises:
            UnknownSymbolError, UnknownFeatureError, InvalidRequestError: the request is invalid.
            FeatureStoreUnavailable, StaleDataError: there is no answer, or none that is new enough.
        """
        return await self._pipeline.call(
            "get_latest",
            (symbols, timeframe),
            partial(latest_request, symbols, features, timeframe),
            self._reader.latest,
        )

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
        return await self._pipeline.call(
            "get_ohlcv",
            (symbol, timeframe),
            partial(range_request, symbol, start_date, end_date, timeframe, None, as_known_at),
            self._reader.range,
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
        return await self._pipeline.call(
            "get_indicators",
            (symbol, timeframe),
            partial(range_request, symbol, start_date, end_date, timeframe, indicators or (), as_known_at),
            self._reader.range,
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
        frame = await self._pipeline.call(
            "compute_feature",
            (symbol, timeframe),
            partial(compute_request, feature_name, symbol, start_date, end_date, timeframe, parameters),
            self._reader.computed,
        )
        if len(frame.columns) > 1:
            return frame
        series = frame.iloc[:, 0]
        series.attrs = frame.attrs
        return series

    @property
    def hears_publishes(self) -> bool:
        """Whether the cache of the running loop follows publishes; until it does, answers are repeated for a second."""
        return self._invalidator is not None and self._invalidator.is_listening

    def _publish_metrics(self, url: str) -> None:
        """Reports this process's metrics to the dashboard, from the store's first answer until the client closes."""
        from fsclient.metrics.publisher import publishing  # loaded only to publish

        if not self._closed and self._repo is not None:
            self._release_metrics = publishing(url, self._repo.project, self._metrics)
