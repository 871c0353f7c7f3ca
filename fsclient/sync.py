"""The same client for code without an event loop: backtrader, freqtrade, notebooks."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Coroutine, Iterable, Mapping, Sequence
from concurrent.futures import CancelledError
from types import TracebackType
from typing import Any, Self, TypeVar

import pandas as pd

from feature_repo.moments import When
from fsclient.client import FeatureStoreClient
from fsclient.errors import CLOSED, FeatureStoreUnavailable

T = TypeVar("T")


class SyncFeatureStoreClient:
    """``FeatureStoreClient`` with plain methods; the same arguments, answers and errors.

    It runs the client on an event loop in a thread of its own, so it works inside a running loop (a notebook) too and
    may be shared between threads. Use it as ``with SyncFeatureStoreClient() as client``, or call ``close()``.
    """

    def __init__(self, **options: Any) -> None:
        self._client = FeatureStoreClient(**options)
        self._submitting = threading.Lock()  # nothing is submitted to a loop that is about to stop
        self._closed = False
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, name="fsclient-sync", daemon=True)
        self._thread.start()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """Ends the client and its thread; calls under way in other threads fail. Harmless when called twice."""
        with self._submitting:
            if self._closed:
                return
            self._closed = True
        for last in (self._client.close(), _settle()):
            asyncio.run_coroutine_threadsafe(last, self._loop).result()
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()
        self._loop.close()

    def get_latest(
        self, symbols: Sequence[str] | str, features: Iterable[str], *, timeframe: str = "1h"
    ) -> pd.DataFrame:
        """See ``FeatureStoreClient.get_latest``."""
        return self._run(self._client.get_latest(symbols, features, timeframe=timeframe))

    def get_ohlcv(
        self, symbol: str, start_date: When, end_date: When, timeframe: str = "1h", *, as_known_at: When | None = None
    ) -> pd.DataFrame:
        """See ``FeatureStoreClient.get_ohlcv``."""
        return self._run(self._client.get_ohlcv(symbol, start_date, end_date, timeframe, as_known_at=as_known_at))

    def get_indicators(
        self,
        symbol: str,
        start_date: When,
        end_date: When,
        timeframe: str = "1h",
        indicators: Iterable[str] = (),
        *,
        as_known_at: When | None = None,
    ) -> pd.DataFrame:
        """See ``FeatureStoreClient.get_indicators``."""
        call = self._client.get_indicators(symbol, start_date, end_date, timeframe, indicators, as_known_at=as_known_at)
        return self._run(call)

    def compute_feature(
        self,
        feature_name: str,
        symbol: str,
        start_date: When,
        end_date: When,
        timeframe: str = "1h",
        parameters: Mapping[str, Any] | None = None,
    ) -> pd.Series | pd.DataFrame:
        """See ``FeatureStoreClient.compute_feature``."""
        return self._run(
            self._client.compute_feature(feature_name, symbol, start_date, end_date, timeframe, parameters)
        )

    def _run(self, call: Coroutine[Any, Any, T]) -> T:
        with self._submitting:
            if self._closed:
                call.close()
                raise FeatureStoreUnavailable(CLOSED)
            future = asyncio.run_coroutine_threadsafe(call, self._loop)
        try:
            return future.result()
        except CancelledError:
            raise FeatureStoreUnavailable("this client was closed during the call; make a new one") from None
        except BaseException:
            future.cancel()  # an interrupt: no caller waits any longer
            raise


async def _settle() -> None:
    """Ends what other threads still wait for."""
    calls = asyncio.all_tasks() - {asyncio.current_task()}
    for call in calls:
        call.cancel()
    await asyncio.gather(*calls, return_exceptions=True)
