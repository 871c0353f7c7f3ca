"""An online store in this process's memory: the second implementation of ``OnlineReader``, for its contract."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence

import numpy as np

from feature_repo.catalog import WINDOW_TIME, Symbol, Timeframe
from feature_repo.stores.window import Window
from fsclient.answers.values import NO_BAR, LatestValues, WindowValues
from fsclient.cache.listening import Listener, OnLost, OnPublish
from fsclient.errors import CLOSED, FeatureStoreUnavailable
from fsclient.questions.latest import LatestRequest


class MemoryReader:
    """Reads what was published to it.

    Attributes:
        is_away: whether it fails as a server that is gone.
        hearers: called with the symbol and timeframe of each publish.
    """

    def __init__(self) -> None:
        self._windows: dict[tuple[str, str], Window] = {}
        self._doubts: dict[tuple[str, str], str] = {}
        self._closed = False
        self.is_away = False
        self.hearers: set[Callable[[tuple[str, str]], None]] = set()

    def publish(self, symbol: str, timeframe: str, window: Window) -> None:
        """Replaces what it holds of a symbol and timeframe."""
        self._windows[symbol, timeframe] = window
        for hear in self.hearers:
            hear((symbol, timeframe))

    def doubt(self, symbol: str, timeframe: str, reason: str) -> None:
        """Marks what it holds of a symbol and timeframe as in doubt."""
        self._doubts[symbol, timeframe] = reason

    async def latest(self, request: LatestRequest) -> LatestValues:
        self._check()
        n, m = len(request.symbols), len(request.columns)
        values, stored = np.full((n, m), np.nan), np.zeros((n, m), dtype=bool)
        event_us = np.full((n, len(request.views)), NO_BAR, dtype=np.int64)
        for i, symbol in enumerate(request.symbols):
            for j, (view, field) in enumerate(request.columns):
                window = self._windows.get((symbol.name, view.timeframe.name))
                if window is not None and field in window.columns:
                    values[i, j], stored[i, j] = window.columns[field][-1], True
            for k, view in enumerate(request.views):
                window = self._windows.get((symbol.name, view.timeframe.name))
                if window is not None:
                    event_us[i, k] = window.event_us
        doubt = tuple(
            entry for symbol in request.symbols for tf in request.by_timeframe for entry in self._doubt(symbol, tf)
        )
        return LatestValues(values=values, stored=stored, event_us=event_us, doubt=doubt)

    async def window(self, symbol: Symbol, timeframe: Timeframe, columns: Sequence[str]) -> WindowValues | None:
        self._check()
        window = self._windows.get((symbol.name, timeframe.name))
        if window is None:
            return None
        return WindowValues(
            event_us=window.event_us,
            opens_us=(window.columns[WINDOW_TIME] * 1e6).astype(np.int64),
            columns={name: window.columns[name] for name in columns if name in window.columns},
            doubt=self._doubt(symbol, timeframe),
        )

    async def revision(self, symbol: Symbol, timeframe: Timeframe) -> bytes:
        self._check()
        window = self._windows.get((symbol.name, timeframe.name))
        stamp = "" if window is None else f"{window.event_us} {window.created_us}"
        return f"{stamp}|{self._doubts.get((symbol.name, timeframe.name), '')}".encode()

    async def ping(self) -> None:
        self._check()

    async def close(self) -> None:
        self._closed = True

    def _check(self) -> None:
        if self._closed:
            raise FeatureStoreUnavailable(CLOSED)
        if self.is_away:
            raise ConnectionError("the store is gone")

    def _doubt(self, symbol: Symbol, timeframe: Timeframe) -> tuple[dict[str, str], ...]:
        reason = self._doubts.get((symbol.name, timeframe.name))
        return () if reason is None else ({"symbol": symbol.name, "timeframe": timeframe.name, "reason": reason},)


class MemoryListener(Listener):
    """Hears what is published to a ``MemoryReader`` on the loop that it listens on."""

    def __init__(self, reader: MemoryReader, *, on_publish: OnPublish, on_lost: OnLost) -> None:
        super().__init__(on_publish=on_publish, on_lost=on_lost)
        self._reader = reader

    async def _follow(self) -> None:
        published = asyncio.Queue[tuple[str, str]]()
        self._reader.hearers.add(published.put_nowait)
        try:
            await self._subscribed()
            while True:
                await self._on_publish([await published.get()])
        finally:
            self._reader.hearers.discard(published.put_nowait)
