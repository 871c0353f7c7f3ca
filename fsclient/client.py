"""The client: what a strategy calls."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime
from types import TracebackType
from typing import Any, Self

import numpy as np
import pandas as pd

from feature_repo.repo import Repo, load_repo
from feature_repo.freshness import bars_behind
from feature_repo.stores.tables import OfflineTables
from fsclient.completeness import find_missing
from fsclient.frames import latest_frame, range_frame
from fsclient.offline import RangeValues, read_range
from fsclient.online import NO_BAR, LatestValues, OnlineReader, WindowValues
from fsclient.provenance import Provenance, Source, iso
from fsclient.request import LatestRequest, RangeRequest, When, latest_request, range_request


class FeatureStoreClient:
    """Looks features up in one feature repository.

    Use it as ``async with FeatureStoreClient() as client`` or call ``close()``. One client serves any number of
    concurrent calls; blocking work runs in its own threads, never on the event loop.

    Args:
        repo: the feature repository; the one of this project when not given.
        use_cache: answer repeated questions from memory until the next bar closes.
        timeout_s: how long a call may take as a whole.
        clock: what time it is, UTC.
    """

    def __init__(
        self,
        *,
        repo: Repo | None = None,
        use_cache: bool = True,
        timeout_s: float = 5.0,
        clock: Callable[[], datetime] = lambda: datetime.now(UTC),
    ) -> None:
        self._repo = repo or load_repo()
        self._use_cache = use_cache
        self._clock = clock
        self._online = OnlineReader(self._repo, timeout_s=timeout_s)
        self._tables = OfflineTables(self._repo.offline)
        self._threads = ThreadPoolExecutor(max_workers=4, thread_name_prefix="fsclient")

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        await self.close()

    async def close(self) -> None:
        """Closes connections and threads; harmless when called twice."""
        await self._online.close()
        self._threads.shutdown(wait=False, cancel_futures=True)

    # -------------------------------------------------------------------------------------------- lookups

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
            UnknownSymbolError, UnknownFeatureError, InvalidRequestError, FeatureStoreUnavailable.
        """
        request = latest_request(symbols, features, timeframe)
        return self._latest_answer(request, await self._online.latest(request), source="online")

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
            UnknownSymbolError, InvalidRequestError, FeatureStoreUnavailable.
        """
        return await self._range(range_request(symbol, start_date, end_date, timeframe), as_known_at)

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
            UnknownSymbolError, UnknownFeatureError, InvalidRequestError, FeatureStoreUnavailable.
        """
        return await self._range(range_request(symbol, start_date, end_date, timeframe, indicators), as_known_at)

    # -------------------------------------------------------------------------------------------- answers

    async def _range(self, request: RangeRequest, as_known_at: When | None) -> pd.DataFrame:
        if as_known_at is None:
            window = await self._online.window(request.symbol, request.timeframe, request.columns)
            if window is not None and _covers(window, request):
                return self._range_answer(request, _cut(window, request), source="online")
        known = None if as_known_at is None else _moment(as_known_at)
        loop = asyncio.get_running_loop()
        values = await loop.run_in_executor(self._threads, read_range, self._tables, request, known)
        return self._range_answer(request, values, source="offline")

    def _range_answer(self, request: RangeRequest, values: RangeValues, *, source: Source) -> pd.DataFrame:
        now = self._clock()
        missing = find_missing(request, values, now)
        event_us = int(values.opens_us[-1]) + request.timeframe.microseconds if len(values.opens_us) else NO_BAR
        record = Provenance(
            source=source,
            origin=source,
            as_of=_as_of(event_us),
            age_bars=self._age(request.symbol, request.timeframe, event_us, now),
            complete=not missing,
            missing=missing,
        )
        return range_frame(values.opens_us, values.columns, request.columns, record)

    def _latest_answer(self, request: LatestRequest, found: LatestValues, *, source: Source) -> pd.DataFrame:
        now = self._clock()
        own = [i for i, (view, _) in enumerate(request.columns) if view.timeframe is request.timeframe]
        event_us = found.event_us[:, own].min(axis=1) if own else found.event_us.min(axis=1)
        ages = [self._age(s, request.timeframe, int(us), now) for s, us in zip(request.symbols, event_us, strict=True)]
        missing = _missing_values(request, found)
        known = event_us[event_us != NO_BAR]
        record = Provenance(
            source=source,
            origin=source,
            as_of=_as_of(int(known.min())) if len(known) else None,
            age_bars=max((a for a in ages if a is not None), default=None),
            complete=not missing,
            missing=missing,
        )
        names = [s.name for s in request.symbols]
        return latest_frame(
            names, request.names, found.values, event_us, [np.nan if a is None else a for a in ages], record
        )

    @staticmethod
    def _age(symbol: Any, timeframe: Any, event_us: int, now: datetime) -> int | None:
        if event_us == NO_BAR:
            return None
        return bars_behind(symbol.session, timeframe, event_us, int(now.timestamp() * 1e6))


def _covers(window: WindowValues, request: RangeRequest) -> bool:
    """Whether the window holds every stored bar of the range: it reaches back to its start, with all columns."""
    reaches = len(window.opens_us) and window.opens_us[0] <= request.start.value // 1000
    return bool(reaches) and all(name in window.columns for name in request.columns)


def _cut(window: WindowValues, request: RangeRequest) -> RangeValues:
    first = np.searchsorted(window.opens_us, request.start.value // 1000, side="left")
    last = np.searchsorted(window.opens_us, request.end.value // 1000, side="right")
    columns = {name: window.columns[name][first:last] for name in request.columns}
    return RangeValues(opens_us=window.opens_us[first:last], columns=columns)


def _missing_values(request: LatestRequest, found: LatestValues) -> tuple[dict[str, Any], ...]:
    missing: list[dict[str, Any]] = []
    for i, j in zip(*np.nonzero(np.isnan(found.values)), strict=True):
        if found.event_us[i, j] == NO_BAR:
            reason = "no_data"
        else:
            reason = "warm_up" if found.stored[i, j] else "not_stored"
        missing.append({"symbol": request.symbols[i].name, "feature": request.names[j], "reason": reason})
    return tuple(missing)


def _as_of(event_us: int) -> str | None:
    return None if event_us == NO_BAR else iso(pd.Timestamp(event_us, unit="us", tz="UTC"))


def _moment(value: When) -> datetime:
    from fsclient.request import moment

    return moment(value, "as_known_at").to_pydatetime()  # type: ignore[no-any-return]
