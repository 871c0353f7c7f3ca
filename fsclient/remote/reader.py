"""How each kind of request is answered by an HTTP service: one question each, through the client's own policies."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from typing import Any, TypeVar

import orjson

from feature_repo.catalog import BAR_FIELDS, Symbol, Timeframe
from fsclient.answers.answers import LatestAnswer, RangeAnswer, range_answer
from fsclient.answers.arrow import ArrowFormError, bars_from_arrow, latest_from_arrow, range_from_arrow
from fsclient.answers.values import RangeValues
from fsclient.cache.listening import Listener, OnLost, OnPublish
from fsclient.errors import CLOSED, FeatureStoreError, FeatureStoreUnavailable, RequestTimeout
from fsclient.questions.latest import LatestRequest
from fsclient.questions.ranges import ComputeRequest, RangeRequest, closed_part
from fsclient.reading.history import compute_range
from fsclient.reading.stores import BREAKER
from fsclient.remote.encoding import ReplyError, range_body
from fsclient.remote.transport import Reply, Transport
from fsclient.resilience.breaker import CircuitBreaker, Transition
from fsclient.resilience.guard import Guard
from fsclient.resilience.retry import Deadline, RetryPolicy

T = TypeVar("T")

SHARE = 0.9
"""The share of the remaining time that the service may take, so that it can still say why it has no answer."""
_SHORTEST_S = 0.001
SILENCE_S = 2.5
"""The service says something every second; after so long a silence the line is taken for lost."""


class ServiceReader:
    """Asks one service.

    An error that the service returns as its answer (an unknown symbol, an unavailable online store) is an answer: the
    service is healthy, so it is neither asked again nor counted by the breaker, which guards the way to the service.

    Args:
        url, api_key: see ``Transport``.
        kept_share: how much of a call's time is kept for what stands in for the service's answer.
        retries: how often a failed question is put again within the rest.
        on_breaker: called with each change of the breaker.
        now: seconds since 1970.
        clock: monotonic seconds.
    """

    def __init__(
        self,
        url: str,
        *,
        api_key: str | None,
        kept_share: float,
        retries: int,
        on_breaker: Callable[[Transition], None],
        now: Callable[[], float] = time.time,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._transport = Transport(url, api_key)
        self._kept_share = kept_share
        self._now, self._clock = now, clock
        self._closed = False
        self._threads = ThreadPoolExecutor(max_workers=4, thread_name_prefix="fsclient-remote")
        self.guard = Guard(
            store=f"the service at {self._transport.url}",
            breaker=CircuitBreaker(BREAKER, clock=clock, on_transition=on_breaker),
            retry=RetryPolicy(max_attempts=1 + retries),
            clock=clock,
        )

    async def latest(self, request: LatestRequest, deadline: Deadline) -> LatestAnswer:
        """As the service's online store has it."""
        body = _latest_body(request, "fail")
        return await self._ask("/v1/latest", body, partial(latest_from_arrow, request=request), self._kept(deadline))

    async def recomputed(self, request: LatestRequest, deadline: Deadline) -> LatestAnswer:
        """From the service's offline store, if its online store is unavailable."""
        body = _latest_body(request, "recompute")
        return await self._ask("/v1/latest", body, partial(latest_from_arrow, request=request), deadline)

    async def range(self, request: RangeRequest, deadline: Deadline) -> RangeAnswer:
        """From whichever of the service's stores has it."""
        body, path = range_body(request), "/v1/ohlcv"
        if request.columns != BAR_FIELDS:
            body["indicators"], path = request.columns, "/v1/indicators"
        return await self._ask(path, body, partial(range_from_arrow, names=request.columns), self._kept(deadline))

    async def computed(self, request: ComputeRequest, deadline: Deadline) -> RangeAnswer:
        """Computed by the service; here, from the service's bars, if only this process knows the function."""
        deadline = self._kept(deadline)
        if not request.what.is_own:
            body = {**range_body(request.span), "feature_name": request.feature, "parameters": request.parameters}
            return await self._ask("/v1/compute", body, partial(range_from_arrow, names=None), deadline)
        warm_up = request.what.warm_up(request.parameters)
        bars = await self._ask(
            "/v1/history", range_body(request.span) | {"warm_up": warm_up}, bars_from_arrow, deadline
        )
        return await self._in_thread(self._compute, deadline, bars, request, int(self._now() * 1e6))

    @property
    def url(self) -> str:
        """Of the service, in one spelling."""
        return self._transport.url

    def listener(self, *, on_publish: OnPublish, on_lost: OnLost) -> Listener:
        """What hears of publishes from the service."""
        return ServiceListener(self._transport, on_publish=on_publish, on_lost=on_lost)

    async def close(self) -> None:
        """Ends connections and threads; what still runs in one is not waited for."""
        self._closed = True
        await self._transport.close()
        self._threads.shutdown(wait=False, cancel_futures=True)

    def _compute(self, bars: RangeValues, request: ComputeRequest, now_us: int) -> RangeAnswer:
        values = compute_range(bars, request, closed_part(request.span, now_us))
        return range_answer(request.span, values, now_us, source="recomputed", names=tuple(values.columns))

    def _kept(self, deadline: Deadline) -> Deadline:
        """Earlier, by what is kept for what stands in for the service's answer."""
        return Deadline(at=deadline.at - deadline.remaining_s * self._kept_share, clock=self._clock)

    async def _ask(self, path: str, body: Mapping[str, Any], read: Callable[[bytes], T], deadline: Deadline) -> T:
        async def attempt() -> T | FeatureStoreError:
            timeout_s = max(_SHORTEST_S, SHARE * deadline.remaining_s)
            reply: Reply = await self._transport.ask(path, {**body, "timeout_s": timeout_s})
            if not isinstance(reply, bytes):
                return reply
            try:
                return read(reply)
            except ArrowFormError as error:
                raise ReplyError(str(error)) from error

        answer = await self.guard.run(attempt, deadline)
        if isinstance(answer, FeatureStoreError):
            raise answer
        return answer

    async def _in_thread(self, work: Callable[..., T], deadline: Deadline, *args: Any) -> T:
        if self._closed:
            raise FeatureStoreUnavailable(CLOSED)
        try:
            async with asyncio.timeout(deadline.remaining_s):
                return await asyncio.get_running_loop().run_in_executor(self._threads, work, *args)
        except TimeoutError:
            raise RequestTimeout("computing took longer than timeout_s; ask for less, or raise it") from None


class ServiceListener(Listener):
    """Hears of publishes from a service: one line per publish, and at least one line a second."""

    def __init__(self, transport: Transport, *, on_publish: OnPublish, on_lost: OnLost) -> None:
        super().__init__(on_publish=on_publish, on_lost=on_lost)
        self._transport = transport

    async def _follow(self) -> None:
        async with asyncio.timeout(SILENCE_S) as patience, self._transport.lines("/v1/publishes") as lines:
            async for line in lines:
                patience.reschedule(asyncio.get_running_loop().time() + SILENCE_S)
                message = orjson.loads(line)
                if not self.is_listening:
                    await self._subscribed()
                if message.get("changed"):
                    await self._on_publish([(str(symbol), str(timeframe)) for symbol, timeframe in message["changed"]])
        raise ReplyError("the service ended the line")


async def no_revision(symbol: Symbol, timeframe: Timeframe) -> bytes:
    """A service reports no revisions, so a tier that processes share takes its answers for a moment only.

    Raises:
        FeatureStoreUnavailable: always.
    """
    raise FeatureStoreUnavailable(f"the service reports no revision of {symbol.name} {timeframe.name}")


def _latest_body(request: LatestRequest, on_unavailable: str) -> dict[str, Any]:
    return {
        "symbols": [symbol.name for symbol in request.symbols],
        "features": request.names,
        "timeframe": request.timeframe.name,
        "on_unavailable": on_unavailable,
    }
