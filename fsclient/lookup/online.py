"""Reading the online store: stored bytes to arrays, one command a symbol, no Feast on the way."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import numpy as np
import numpy.typing as npt
from redis.connection import parse_url

from feature_repo.catalog import WINDOW_TIME, Symbol, Timeframe, View, view
from feature_repo.repo import Repo
from feature_repo.stores.codec import (
    BoolArray,
    FloatArray,
    decode_array,
    decode_doubles,
    decode_timestamp,
    entity_key,
    field_key,
    timestamp_key,
)
from feature_repo.stores.connection import connect_async, online_url
from fsclient.errors import FeatureStoreUnavailable, InvalidRequestError
from fsclient.lookup.offline import RangeValues
from fsclient.lookup.request import LatestRequest, RangeRequest
from fsclient.lookup.wire import Wires, pack_hmget, pack_tail

Int64Array = npt.NDArray[np.int64]
NO_BAR = np.iinfo(np.int64).min
"""``event_us`` of a view that holds nothing."""


@dataclass(frozen=True, slots=True, kw_only=True)
class LatestValues:
    """The newest values of m features of n symbols.

    Attributes:
        values: (n, m) float64, NaN where there is none.
        stored: (n, m) bool, whether the online store holds the feature (a NaN of warm-up is held).
        event_us: (n, m) int64, close of the bar that each value is of, microseconds UTC; ``NO_BAR`` where none.
    """

    values: FloatArray
    stored: BoolArray
    event_us: Int64Array


@dataclass(frozen=True, slots=True, kw_only=True)
class WindowValues:
    """Columns of a symbol's online window, oldest bar first, read-only.

    Attributes:
        event_us: close of the newest bar, microseconds UTC.
        opens_us: (n,) int64 open times, microseconds UTC.
        columns: field -> (n,) float64; a field that was never published is absent.
    """

    event_us: int
    opens_us: Int64Array
    columns: Mapping[str, FloatArray]

    def covers(self, request: RangeRequest) -> bool:
        """Whether it holds every stored bar of the range: it reaches back to the start, with all columns."""
        reaches = len(self.opens_us) > 0 and int(self.opens_us[0]) <= request.start.value // 1000
        return reaches and all(name in self.columns for name in request.columns)

    def cut(self, request: RangeRequest) -> RangeValues:
        """The range's part of it."""
        return self._between(request.start.value // 1000, request)

    def extend(self, stored: RangeValues, request: RangeRequest) -> RangeValues:
        """``stored`` with the bars that follow its last and only this window has: the offline store may lag."""
        if not all(name in self.columns for name in request.columns):
            return stored
        known = int(stored.opens_us[-1]) if len(stored.opens_us) else None
        if known is None or known < int(self.opens_us[0]):
            return stored  # between the two, bars could be missing that neither tells of
        newer = self._between(max(known + 1, request.start.value // 1000), request)
        if not len(newer.opens_us):
            return stored
        columns = {name: np.concatenate([stored.columns[name], newer.columns[name]]) for name in request.columns}
        opens = np.concatenate([stored.opens_us, newer.opens_us])
        return RangeValues(opens_us=opens, columns=columns, unstored=stored.unstored)

    def _between(self, start_us: int, request: RangeRequest) -> RangeValues:
        first = np.searchsorted(self.opens_us, start_us, side="left")
        last = np.searchsorted(self.opens_us, request.end.value // 1000, side="right")
        columns = {name: self.columns[name][first:last] for name in request.columns}
        return RangeValues(opens_us=self.opens_us[first:last], columns=columns)


class OnlineReader:
    """Reads one repository's online store.

    A single server without TLS is read over one shared connection a loop; Cluster, Sentinel and TLS through redis-py.
    A loop's connections end with it or with ``close``, whichever comes first.

    Args:
        timeout_s: the longest that anybody waits for an answer.
        threads: where blocking work runs, off the event loop.

    Raises:
        InvalidRequestError: the repository's URL is none. The message does not repeat it: it may hold a password.
    """

    def __init__(self, repo: Repo, *, timeout_s: float, threads: ThreadPoolExecutor) -> None:
        self._repo = repo
        self._threads = threads
        self._locating: Future[str] | None = None
        self._url = repo.redis_url
        if self._url is not None:
            _check_url(self._url)
        # Less than the longest wait, so that who comes after one that waited in vain gets a new connection.
        self._wires = Wires(patience_s=0.95 * timeout_s)
        self._clients: dict[asyncio.AbstractEventLoop, Any] = {}
        self._keepers: dict[asyncio.AbstractEventLoop, asyncio.Task[None]] = {}
        self._closed = False

    async def latest(self, request: LatestRequest) -> LatestValues:
        """The newest values; one HMGET a symbol serves all views and timeframes."""
        replies = await self._fetch([entity_key(s.name, self._repo.project) for s in request.symbols], request.fields)
        n, m = len(request.symbols), len(request.columns)
        values, stored = decode_doubles([cell for reply in replies for cell in reply[:m]] if n > 1 else replies[0][:m])
        stamps = np.array([[decode_timestamp(t) if t else NO_BAR for t in reply[m:]] for reply in replies])
        event_us = stamps[:, request.at]
        return LatestValues(values=values.reshape(n, m), stored=stored.reshape(n, m), event_us=event_us)

    async def window(self, symbol: Symbol, timeframe: Timeframe, columns: Sequence[str]) -> WindowValues | None:
        """The symbol's window with these columns; None when nothing is published."""
        spec: View = view("window", timeframe.name)
        fields = [field_key(spec.name, name) for name in (WINDOW_TIME, *columns)]
        (reply,) = await self._fetch([entity_key(symbol.name, self._repo.project)], (*fields, timestamp_key(spec.name)))
        if not reply[-1] or not reply[0]:
            return None
        opens = (decode_array(reply[0]) * 1e6).astype(np.int64)
        found = {name: decode_array(cell) for name, cell in zip(columns, reply[1:-1], strict=True) if cell}
        return WindowValues(event_us=decode_timestamp(reply[-1]), opens_us=opens, columns=found)

    async def _fetch(self, keys: Sequence[bytes], fields: tuple[bytes, ...]) -> list[list[bytes | None]]:
        url = await self._located()
        if self._repo.redis_type == "redis" and url.startswith(("redis://", "unix://")):
            tail = _packed(fields)
            commands = [pack_hmget(key, len(fields), tail) for key in keys]
            try:
                return await (await self._wires.get(url)).ask(commands)
            except OSError:
                self._url = self._repo.redis_url  # the embedded server's owner may have gone: find or start it again
                raise
        client = await self.client()
        async with client.pipeline(transaction=False) as pipe:
            for key in keys:
                pipe.hmget(key, fields)
            return list(await pipe.execute())

    async def _located(self) -> str:
        """The store's URL. From here on the running loop has a task that ends its connections."""
        if self._closed:
            raise FeatureStoreUnavailable("this client is closed; make a new one")
        loop = asyncio.get_running_loop()
        if loop not in self._keepers:
            for ended in [other for other in self._keepers if other.is_closed()]:
                del self._keepers[ended]
                self._clients.pop(ended, None)
            self._keepers[loop] = loop.create_task(self._keep(), name="fsclient-connections")
        if self._url is None:
            if self._locating is None or self._locating.done():
                self._locating = self._threads.submit(online_url, self._repo)  # may have to start the embedded server
            try:
                self._url = await asyncio.shield(asyncio.wrap_future(self._locating))  # for all who wait
            except ValueError as error:
                raise InvalidRequestError(str(error)) from None
        return self._url

    async def client(self) -> Any:
        """The running event loop's redis.asyncio client."""
        url, loop = await self._located(), asyncio.get_running_loop()
        if loop not in self._clients:
            # Waits are bounded by each call's deadline, which ends them by cancellation.
            self._clients[loop] = connect_async(url, self._repo.redis_type, timeout_s=None)
        return self._clients[loop]

    async def close(self) -> None:
        """Ends all connections; those of loops that run in other threads a moment later."""
        self._closed = True
        keepers, self._keepers = self._keepers, {}
        own = keepers.pop(asyncio.get_running_loop(), None)
        for loop, keeper in keepers.items():
            if loop.is_running():
                loop.call_soon_threadsafe(keeper.cancel)
        if own is not None:
            own.cancel()
            await asyncio.gather(own, return_exceptions=True)

    async def _keep(self) -> None:
        """Waits for ``close``, or for the end of the loop: ``asyncio.run`` cancels what still runs before it."""
        loop = asyncio.get_running_loop()
        try:
            await loop.create_future()
        finally:
            await self._wires.close()
            client = self._clients.pop(loop, None)
            if client is not None:
                await client.aclose()


def _check_url(url: str) -> None:
    try:
        parse_url(url)  # type: ignore[no-untyped-call]
    except ValueError:
        raise InvalidRequestError(
            "the online store's URL must be redis://, rediss:// or unix://, its parts percent-encoded, as "
            "redis://user:p%40ss@host:6379/0 (it is not shown: it may hold a password)"
        ) from None


@lru_cache(maxsize=1024)
def _packed(fields: tuple[bytes, ...]) -> bytes:
    return pack_tail(fields)
