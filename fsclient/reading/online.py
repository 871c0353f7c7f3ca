"""Reading the online store: stored bytes to arrays, one command a symbol, no Feast on the way."""

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
from fsclient.reading.line import Line
from fsclient.reading.per_loop import PerLoop
from fsclient.reading.wire import pack_hmget, pack_tail

Replies: TypeAlias = list[list[bytes | None]]
"""Of each symbol the fields that were asked for."""


class OnlineReader:
    """Reads one repository's online store.

    A single server without TLS is read over one shared connection a loop; Cluster, Sentinel and TLS through redis-py.
    A loop's connections end with it or with ``close``, whichever comes first.

    Args:
        timeout_s: the longest that anybody waits for an answer.
        threads: where blocking work runs, off the event loop.
        on_first_answer: called once, with the store's URL, after it has answered.

    Raises:
        InvalidRequestError: the repository's URL is none. The message does not repeat it: it may hold a password.
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
        self._threads = threads
        self._locating: Future[str] | None = None
        self._url = repo.redis_url
        if self._url is not None:
            _check_url(self._url)
        # Less than the longest wait, so that who comes after one that waited in vain gets a new connection.
        self._lines = PerLoop(lambda: Line(patience_s=0.95 * timeout_s), Line.close)
        # Waits are bounded by each call's deadline, which ends them by cancellation.
        self._clients: PerLoop[Any] = PerLoop(
            lambda: connect_async(str(self._url), repo.redis_type, timeout_s=None), lambda client: client.aclose()
        )
        self._on_first_answer: Callable[[str], None] | None = on_first_answer
        self._closed = False

    async def latest(self, request: LatestRequest) -> LatestValues:
        """The newest values; one HMGET a symbol serves all views and timeframes."""
        return latest_values(request, await self._fetch(request.symbols, request.fields))

    def begin_latest(self, request: LatestRequest) -> asyncio.Future[Replies] | None:
        """Asks what ``latest`` asks at once, if there is an open connection; ``latest_values`` decodes the replies."""
        line = self._lines.held()
        wire = None if line is None else line.held()
        return None if wire is None else wire.ask(self._commands(request.symbols, request.fields))

    async def window(self, symbol: Symbol, timeframe: Timeframe, columns: Sequence[str]) -> WindowValues | None:
        """The symbol's window with these columns; None when nothing is published."""
        ((*cells, stamp, doubt),) = await self._fetch([symbol], _window_fields(timeframe.name, tuple(columns)))
        if not stamp or not cells[0]:
            return None
        opens = (decode_array(cells[0]) * 1e6).astype(np.int64)
        found = {name: decode_array(cell) for name, cell in zip(columns, cells[1:], strict=True) if cell}
        return WindowValues(
            event_us=decode_timestamp(stamp),
            opens_us=opens,
            columns=found,
            doubt=_doubts([symbol], [timeframe], [[doubt]]),
        )

    async def revision(self, symbol: Symbol, timeframe: Timeframe) -> bytes:
        """What changes with every publish of the symbol and timeframe, and with a doubt about it."""
        views = [revision_key(view(kind, timeframe.name).name) for kind in ("ohlcv", "indicators", "window")]
        (reply,) = await self._fetch([symbol], (*views, doubt_key(timeframe.name)))
        return b"|".join(cell or b"" for cell in reply)

    async def _fetch(self, symbols: Sequence[Symbol], fields: tuple[bytes, ...]) -> Replies:
        url = await self._located() if self._url is None or self._closed else self._url
        if self._repo.redis_type == "redis" and url.startswith(("redis://", "unix://")):
            try:
                wire = await self._lines.get().get(url)
                replies = await wire.ask(self._commands(symbols, fields))
            except OSError:
                self._url = self._repo.redis_url  # the embedded server's owner may have gone: find or start it again
                raise
        else:
            client = await self.client()
            async with client.pipeline(transaction=False) as pipe:
                for symbol in symbols:
                    pipe.hmget(_key(symbol.name, self._repo.project), fields)
                replies = list(await pipe.execute())
        if self._on_first_answer is not None:
            tell, self._on_first_answer = self._on_first_answer, None
            tell(url)
        return replies

    def _commands(self, symbols: Sequence[Symbol], fields: tuple[bytes, ...]) -> list[bytes]:
        tail, n = _packed(fields), len(fields)
        return [pack_hmget(_key(symbol.name, self._repo.project), n, tail) for symbol in symbols]

    async def _located(self) -> str:
        """The store's URL."""
        if self._closed:
            raise FeatureStoreUnavailable(CLOSED)
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
        await self._located()
        return self._clients.get()

    async def close(self) -> None:
        """Ends all connections; those of loops that run in other threads a moment later."""
        self._closed = True
        await self._lines.close()
        await self._clients.close()


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


@lru_cache(maxsize=1024)
def _key(symbol: str, project: str) -> bytes:
    return entity_key(symbol, project)


def latest_values(request: LatestRequest, replies: Replies) -> LatestValues:
    """The values of a lookup from what the store replied, a list a symbol."""
    return _latest_of_one(request, tuple(replies[0])) if len(replies) == 1 else _latest_values(request, replies)


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
    """From each symbol's reasons, one a timeframe."""
    if not any(cell is not None for cells in replies for cell in cells):
        return ()
    return tuple(
        {"symbol": symbol.name, "timeframe": tf.name, "reason": cell.decode(errors="replace")}
        for symbol, cells in zip(symbols, replies, strict=True)
        for tf, cell in zip(timeframes, cells, strict=True)
        if cell is not None
    )
