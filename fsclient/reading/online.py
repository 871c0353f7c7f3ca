"""Reading the online store in Redis: stored bytes to arrays, one command per symbol, no Feast on the way."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from functools import lru_cache
from typing import Any, TypeAlias

import numpy as np
from redis.connection import parse_url

from feature_repo.catalog import WINDOW_TIME, Symbol, Timeframe, view
from feature_repo.repo import Repo
from feature_repo.stores.redis.codec import (
    decode_array,
    decode_doubles,
    decode_timestamp,
    doubt_key,
    entity_key,
    field_key,
    revision_key,
    timestamp_key,
)
from feature_repo.stores.redis.connection import connect_async, online_url
from fsclient.answers.values import NO_BAR, Doubt, LatestValues, WindowValues
from fsclient.errors import CLOSED, FeatureStoreUnavailable, InvalidRequestError
from fsclient.frames import Int64Array
from fsclient.questions.latest import LatestRequest
from fsclient.reading.connection import RedisConnection, pack
from fsclient.reading.per_loop import PerLoop

Replies: TypeAlias = list[list[bytes | None]]
"""For each symbol the fields that were asked for."""


class RedisReader:
    """The ``OnlineReader`` of a repository whose online store is Redis.

    A single server without TLS is read over one shared connection per event loop; Cluster, Sentinel and TLS through
    redis-py. A loop's connections end with it or with ``close``, whichever comes first.

    Args:
        timeout_s: the longest that any call waits for an answer.
        threads: where blocking work runs, off the event loop.
        on_first_answer: called once, with the store's URL, after it has answered.

    Raises:
        InvalidRequestError: the repository's URL is invalid. The message does not repeat it: it may hold a password.
    """

    def __init__(
        self,
        repo: Repo,
        *,
        timeout_s: float,
        threads: ThreadPoolExecutor,
        on_first_answer: Callable[[str], None] = lambda _: None,
    ) -> None:
        self._repo = repo
        self._project = repo.project
        self._threads = threads
        self._locating: Future[str] | None = None
        self._url = repo.redis_url
        if self._url is not None:
            _check_url(self._url)
        # Less than the longest wait, so that a call after one that waited in vain gets a new connection.
        self._connections = PerLoop(lambda: RedisConnection(timeout_s=0.95 * timeout_s), RedisConnection.close)
        # Waits are bounded by each call's deadline, which ends them by cancellation.
        self._clients: PerLoop[Any] = PerLoop(
            lambda: connect_async(str(self._url), repo.redis_type, timeout_s=None), lambda client: client.aclose()
        )
        self._on_first_answer: Callable[[str], None] | None = on_first_answer
        self._closed = False

    async def latest(self, request: LatestRequest) -> LatestValues:
        """The newest values; one HMGET per symbol serves all views and timeframes."""
        replies = await self._fetch(request.symbols, request.fields)
        if len(replies) == 1:
            return _latest_of_one(request, tuple(replies[0]))
        return _latest_values(request, replies)

    async def window(self, symbol: Symbol, timeframe: Timeframe, columns: Sequence[str]) -> WindowValues | None:
        """The symbol's window with these columns; None when nothing is published."""
        ((*cells, stamp, doubt),) = await self._fetch([symbol], _window_fields(timeframe.name, tuple(columns)))
        if not stamp or not cells[0]:
            return None
        opens = (decode_array(cells[0]) * 1e6).astype(np.int64)
        arrays = {name: decode_array(cell) for name, cell in zip(columns, cells[1:], strict=True) if cell}
        return WindowValues(
            event_us=decode_timestamp(stamp),
            opens_us=opens,
            columns=arrays,
            doubt=_doubts([symbol], [timeframe], [[doubt]]),
        )

    async def revision(self, symbol: Symbol, timeframe: Timeframe) -> bytes:
        """What changes with every publish of the symbol and timeframe, and with a doubt about it."""
        views = [revision_key(view(kind, timeframe.name).name) for kind in ("ohlcv", "indicators", "window")]
        (reply,) = await self._fetch([symbol], (*views, doubt_key(timeframe.name)))
        return b"|".join(cell or b"" for cell in reply)

    async def ping(self) -> None:
        """Returns once the server has answered."""
        await (await self.client()).ping()

    async def _fetch(self, symbols: Sequence[Symbol], fields: tuple[bytes, ...]) -> Replies:
        url = await self._located() if self._url is None or self._closed else self._url
        replies: Replies
        if self._repo.redis_type == "redis" and url.startswith(("redis://", "unix://")):
            commands = [_hmget(symbol.name, self._project, fields) for symbol in symbols]
            try:
                replies = await self._connections[asyncio.get_running_loop()].ask(url, commands)
            except OSError:
                self._url = self._repo.redis_url  # the embedded server's owner may have gone: find or start it again
                raise
        else:
            client = await self.client()
            async with client.pipeline(transaction=False) as pipe:
                for symbol in symbols:
                    pipe.hmget(entity_key(symbol.name, self._project), fields)
                replies = list(await pipe.execute())
        if self._on_first_answer is not None:
            report, self._on_first_answer = self._on_first_answer, None
            report(url)
        return replies

    async def _located(self) -> str:
        """The store's URL."""
        if self._closed:
            raise FeatureStoreUnavailable(CLOSED)
        if self._url is None:
            if self._locating is None or self._locating.done():
                self._locating = self._threads.submit(online_url, self._repo)  # may have to start the embedded server
            try:
                self._url = await asyncio.shield(asyncio.wrap_future(self._locating))  # for all callers that wait
            except ValueError as error:
                raise InvalidRequestError(str(error)) from None
        return self._url

    async def client(self) -> Any:
        """The running event loop's redis.asyncio client."""
        await self._located()
        return self._clients[asyncio.get_running_loop()]

    async def close(self) -> None:
        """Ends all connections; those of loops that run in other threads a moment later."""
        self._closed = True
        await self._connections.close()
        await self._clients.close()


def _check_url(url: str) -> None:
    try:
        parse_url(url)  # type: ignore[no-untyped-call]
    except ValueError:
        raise InvalidRequestError(
            "the online store's URL must be redis://, rediss:// or unix://, its parts percent-encoded, as "
            "redis://user:p%40ss@host:6379/0 (it is not shown: it may hold a password)"
        ) from None


@lru_cache(maxsize=1024)  # a strategy asks the same questions all day
def _hmget(symbol: str, project: str, fields: tuple[bytes, ...]) -> bytes:
    return pack(b"HMGET", entity_key(symbol, project), *fields)


@lru_cache(maxsize=1024)  # from one publish to the next a symbol's bytes are the same
def _latest_of_one(request: LatestRequest, reply: tuple[bytes | None, ...]) -> LatestValues:
    return _latest_values(request, [reply])


def _latest_values(request: LatestRequest, replies: Sequence[Sequence[bytes | None]]) -> LatestValues:
    """From each symbol's fields: the columns, the views' timestamps, the timeframes' doubts."""
    n, m = len(request.symbols), len(request.columns)
    ends = m + len(request.views)
    values, stored = decode_doubles([cell for reply in replies for cell in reply[:m]])
    for cells in (values, stored):  # several answers may be made of them
        cells.flags.writeable = False
    return LatestValues(
        values=values.reshape(n, m),
        stored=stored.reshape(n, m),
        event_us=_events(tuple([tuple(reply[m:ends]) for reply in replies])),
        doubt=_doubts(request.symbols, request.by_timeframe, [reply[ends:] for reply in replies]),
    )


@lru_cache(maxsize=1024)  # from one close to the next it is the same
def _events(stamps: tuple[tuple[bytes | None, ...], ...]) -> Int64Array:
    events = np.array([[decode_timestamp(t) if t else NO_BAR for t in row] for row in stamps], dtype=np.int64)
    events.flags.writeable = False
    return events


@lru_cache(maxsize=1024)
def _window_fields(timeframe: str, columns: tuple[str, ...]) -> tuple[bytes, ...]:
    """Of the times and the columns, then the view's timestamp and the timeframe's doubt."""
    name = view("window", timeframe).name
    cells = (field_key(name, column) for column in (WINDOW_TIME, *columns))
    return (*cells, timestamp_key(name), doubt_key(timeframe))


def _doubts(
    symbols: Sequence[Symbol], timeframes: Iterable[Timeframe], replies: Sequence[Sequence[bytes | None]]
) -> Doubt:
    """From each symbol's reasons, one per timeframe."""
    if not any(cell is not None for cells in replies for cell in cells):
        return ()
    return tuple(
        {"symbol": symbol.name, "timeframe": tf.name, "reason": cell.decode(errors="replace")}
        for symbol, cells in zip(symbols, replies, strict=True)
        for tf, cell in zip(timeframes, cells, strict=True)
        if cell is not None
    )
