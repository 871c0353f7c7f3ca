"""Answers the questions of all callers with one set of stores, one cache and one breaker."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Callable
from functools import partial

import pandas as pd

from feature_repo.repo import Repo
from fsclient.answers.values import RangeValues
from fsclient.backends import of_repo
from fsclient.cache.feature_cache import FeatureCache
from fsclient.errors import AuthenticationError, FeatureStoreUnavailable, InvalidRequestError
from fsclient.metrics.registry import Metrics, feature_store_metrics
from fsclient.pipeline import Load, Pipeline, R
from fsclient.provenance import KEY
from fsclient.questions.latest import latest_request
from fsclient.questions.ranges import ComputeRequest, RangeRequest, compute_request, range_request
from fsclient.resilience.retry import Deadline
from fsclient.service.questions import (
    MAX_STEPS,
    MAX_TIMEOUT_S,
    ComputeQuestion,
    HistoryQuestion,
    IndicatorsQuestion,
    LatestQuestion,
    OhlcvQuestion,
)

STORE_TIMEOUT_S = 2.0
"""A connection to the online store that is silent for about so long while an answer is due is given up."""
HEALTH_S = 1.0
"""How long a check of the online store may take, and how long its result is reused."""

_log = logging.getLogger("feature_store_client")


class Lookups:
    """Answers questions from the stores of a repository.

    It has no fallback of its own: what replaces the online store is each caller's choice, and the last good answer is
    in each caller's memory.

    Args:
        metrics: counts the callers' questions.
        publish_metrics: whether to publish the counts to the dashboard.
        now: seconds since 1970.
        clock: monotonic seconds.
    """

    def __init__(
        self,
        repo: Repo,
        *,
        metrics: Metrics = feature_store_metrics,
        publish_metrics: bool = True,
        now: Callable[[], float] = time.time,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        cache = FeatureCache(clock=clock)
        self.metrics, self._clock = metrics, clock
        self._project = repo.project
        self._release_metrics: Callable[[], None] | None = None
        backend = of_repo(
            repo,
            timeout_s=STORE_TIMEOUT_S,
            kept_share=0.0,
            retries=2,
            on_breaker=lambda change: metrics.set_state("breaker.online", change.after),
            on_online=self._publish_metrics if publish_metrics else lambda _: None,
            now=now,
            clock=clock,
        )
        metrics.set_state("breaker.online", "closed")
        self._reader, self._online = backend.reader, backend.online
        self.invalidator = backend.invalidator(cache)
        self._pipeline = Pipeline(
            backend.reader,
            scope=backend.scope,
            cache=cache,
            invalidator=self.invalidator,
            home=backend.home,
            timeout_s=MAX_TIMEOUT_S,
            on_unavailable="fail",
            max_age_bars=None,
            metrics=metrics,
            now=now,
            clock=clock,
        )
        self._health: tuple[float, bool] = (float("-inf"), False)

    async def close(self) -> None:
        """Closes connections and ends listeners and threads."""
        self._pipeline.close()
        await self.invalidator.close()
        await self._reader.close()
        if self._release_metrics is not None:
            await asyncio.to_thread(self._release_metrics)

    async def latest(self, asked: LatestQuestion) -> pd.DataFrame:
        """As ``FeatureStoreClient.get_latest``."""
        about = (asked.symbols if isinstance(asked.symbols, str) else None, asked.timeframe)
        ask = partial(latest_request, asked.symbols, asked.features, asked.timeframe)
        if asked.on_unavailable == "fail":
            return await self._answer("get_latest", about, ask, self._reader.latest, asked.wait_s)
        deadline = Deadline.after(asked.wait_s, clock=self._clock)
        stored: pd.DataFrame | FeatureStoreUnavailable
        try:
            stored = await self._answer("get_latest", about, ask, self._reader.latest, asked.wait_s / 2)
            if stored.attrs[KEY]["as_of"] is not None:
                return stored
        except FeatureStoreUnavailable as error:
            stored = error
        answer = await self._reader.recomputed(ask(), deadline)
        if answer.record.as_of is not None:
            return answer.fresh()
        if isinstance(stored, FeatureStoreUnavailable):
            raise stored
        return stored

    async def ohlcv(self, asked: OhlcvQuestion) -> pd.DataFrame:
        """As ``FeatureStoreClient.get_ohlcv``."""
        return await self._range("get_ohlcv", asked, None)

    async def indicators(self, asked: IndicatorsQuestion) -> pd.DataFrame:
        """As ``FeatureStoreClient.get_indicators``."""
        return await self._range("get_indicators", asked, asked.indicators)

    async def compute(self, asked: ComputeQuestion) -> pd.DataFrame:
        """As ``FeatureStoreClient.compute_feature``, but always a frame."""

        def ask() -> ComputeRequest:
            request = compute_request(
                asked.feature_name, asked.symbol, asked.start_date, asked.end_date, asked.timeframe, asked.parameters
            )
            _bounded(request.span)
            return request

        about = (asked.symbol, asked.timeframe)
        return await self._answer("compute_feature", about, ask, self._reader.computed, asked.wait_s)

    async def history(self, asked: HistoryQuestion) -> RangeValues:
        """Closed bars of a range, and as many bars before it as requested."""
        span = _bounded(range_request(asked.symbol, asked.start_date, asked.end_date, asked.timeframe))
        return await self._reader.history(span, asked.warm_up, Deadline.after(asked.wait_s, clock=self._clock))

    async def is_online(self) -> bool:
        """Whether the online store answers; it is asked once a second at most, however often this is called."""
        at, online = self._health
        if self._clock() >= at + HEALTH_S:
            self._health = (self._clock(), online)  # others get the previous answer meanwhile
            try:
                async with asyncio.timeout(HEALTH_S):
                    await self._online.ping()
                online = True
            except Exception:
                online = False
            self._health = (self._clock(), online)
        return online

    async def _range(self, method: str, asked: OhlcvQuestion, columns: list[str] | str | None) -> pd.DataFrame:
        def ask() -> RangeRequest:
            start, end, known = asked.start_date, asked.end_date, asked.as_known_at
            return _bounded(range_request(asked.symbol, start, end, asked.timeframe, columns, known))

        return await self._answer(method, (asked.symbol, asked.timeframe), ask, self._reader.range, asked.wait_s)

    async def _answer(
        self, method: str, about: tuple[str | None, str], ask: Callable[[], R], load: Load[R], wait_s: float
    ) -> pd.DataFrame:
        try:
            return await self._pipeline.call(method, about, ask, load, timeout_s=wait_s)
        except AuthenticationError as error:  # of the service's own credentials, which its callers do not know
            _log.error("%s", error)
            raise FeatureStoreUnavailable(
                "the online store refuses the service's credentials; the service's log says why"
            ) from None

    def _publish_metrics(self, url: str) -> None:
        from fsclient.metrics.publisher import publishing  # imported only where it is used

        self._release_metrics = publishing(url, self._project, self.metrics)


def _bounded(span: RangeRequest) -> RangeRequest:
    steps = (span.end - span.start) // pd.Timedelta(seconds=span.timeframe.seconds)
    if steps > MAX_STEPS:
        raise InvalidRequestError(
            f"start_date to end_date spans up to {steps:,} bars of {span.timeframe.name}; the service answers for "
            f"at most {MAX_STEPS:,} at a time, so ask for a shorter range"
        )
    return span
