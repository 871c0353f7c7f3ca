"""The offline store as the dashboard reads it: bars with their indicators, gaps, sessions and revisions."""

from __future__ import annotations

import threading
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import date, datetime, timedelta
from typing import Any, TypeVar

import numpy as np
import numpy.typing as npt
from cachetools import LRUCache

from feature_repo.catalog import BAR_FIELDS, SYMBOLS, TIMEFRAMES, symbol, timeframe
from feature_repo.gaps import Gaps, find_gaps
from feature_repo.moments import to_datetime, to_us
from feature_repo.sessions import DAY_US, expected_opens, session_day
from feature_repo.stores.redis.codec import FloatArray
from feature_repo.stores.tables import OfflineTables
from feature_repo.stores.window import column, microseconds

T = TypeVar("T")
Int64Array = npt.NDArray[np.int64]

MAX_BARS = 1_500
"""Bars of one chart at most."""

_MAX_OPENS = 24
_MAX_CHARTS = 64


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Chart:
    """Bars of one symbol and timeframe, with what is drawn over, below and behind them.

    Attributes:
        opens_us: (n,) open times, microseconds UTC, ascending.
        bars: ``open high low close volume`` -> (n,) float64.
        indicators: field -> (n,) float64, NaN during warm-up or where none is stored.
        revisions: (n,) how often each bar was revised; 0 for a bar that is as it was first stored.
        gaps: where bars are missing or the market was closed within the chart.
        days_us: starts of the trading days within the chart; empty when there are too many to draw.
        stored_bars: how many bars are stored in total.
    """

    symbol: str
    timeframe: str
    opens_us: Int64Array
    bars: Mapping[str, FloatArray]
    indicators: Mapping[str, FloatArray]
    revisions: Int64Array
    gaps: Gaps
    days_us: Int64Array
    stored_bars: int


class Market:
    """Reads the offline tables, each version once. Thread-safe."""

    def __init__(self, tables: OfflineTables) -> None:
        self._tables = tables
        self._lock = threading.Lock()
        self._opens: LRUCache[Any, Int64Array] = LRUCache(_MAX_OPENS)
        self._charts: LRUCache[Any, Any] = LRUCache(_MAX_CHARTS)

    def symbols(self) -> tuple[str, ...]:
        """The symbols that have bars, in the catalog's order. Raises ``OFFLINE_OUTAGE``."""
        version = self._tables.version("bars")

        def read() -> tuple[str, ...]:
            stored = set(self._tables.symbols())
            return tuple(name for name in SYMBOLS if name in stored)

        return self._once(("symbols", version), read)

    def timeframes(self, name: str) -> tuple[str, ...]:
        """The timeframes in which a symbol has bars, shortest first. Raises ``OFFLINE_OUTAGE``."""
        version = self._tables.version("bars")

        def read() -> tuple[str, ...]:
            rows = self._tables.read("bars", symbols=[name], columns=[])
            stored = set(rows["timeframe"].unique().to_pylist())
            return tuple(tf for tf in TIMEFRAMES if tf in stored)

        return self._once(("timeframes", version, name), read)

    def chart(
        self, name: str, tf: str, *, bars: int, fields: Sequence[str] = (), end: datetime | None = None
    ) -> Chart | None:
        """The last ``bars`` bars that opened by ``end``; None when there are none. Raises ``OFFLINE_OUTAGE``."""
        versions = self._tables.version("bars"), self._tables.version("indicators")
        key = ("chart", *versions, name, tf, bars, tuple(fields), end)
        return self._once(key, lambda: self._read_chart(name, tf, min(bars, MAX_BARS), fields, end))

    def _read_chart(self, name: str, tf: str, bars: int, fields: Sequence[str], end: datetime | None) -> Chart | None:
        stored = self.opens(name, tf)
        last = len(stored) if end is None else int(np.searchsorted(stored, to_us(end), side="right"))
        opens = stored[max(0, last - bars) : last]
        if not len(opens):
            return None
        span = {"timeframe": tf, "start": to_datetime(int(opens[0])), "end": to_datetime(int(opens[-1]))}
        rows = self._tables.read_range("bars", symbol=name, columns=BAR_FIELDS, **span)  # type: ignore[arg-type]
        at = microseconds(rows, "open_time")
        indicators = {}
        if fields:
            values = self._tables.read_range("indicators", symbol=name, columns=fields, **span)  # type: ignore[arg-type]
            positions = np.searchsorted(at, microseconds(values, "open_time"))
            for field in fields:
                indicators[field] = np.full(len(at), np.nan)
                indicators[field][positions] = column(values, field)
        spec, frame = symbol(name), timeframe(tf)
        days = session_day(spec.session, at, frame)
        starts = at[1:][np.diff(days) > 0]
        return Chart(
            symbol=name,
            timeframe=tf,
            opens_us=at,
            bars={field: column(rows, field) for field in BAR_FIELDS},
            indicators=indicators,
            revisions=self._revisions(name, span, at),
            gaps=find_gaps(at, session=spec.session, timeframe=frame),
            days_us=starts if len(starts) <= 45 and frame.microseconds < DAY_US else np.empty(0, np.int64),
            stored_bars=len(stored),
        )

    def _revisions(self, name: str, span: Mapping[str, Any], at: Int64Array) -> Int64Array:
        rows = self._tables.read("bars", symbols=[name], columns=[], all_revisions=True, **span)
        opens, counts = np.unique(microseconds(rows, "open_time"), return_counts=True)
        return counts[np.searchsorted(opens, at)] - 1

    def opens(self, name: str, tf: str) -> Int64Array:
        """(n,) open times of all stored bars, microseconds UTC, ascending. Raises ``OFFLINE_OUTAGE``."""
        key = (self._tables.version("bars"), name, tf)
        with self._lock:
            opens = self._opens.get(key)
        if opens is None:
            rows = self._tables.read_range("bars", timeframe=tf, symbol=name, start=None, end=None, columns=[])
            opens = microseconds(rows, "open_time")
            with self._lock:
                self._opens[key] = opens
        return opens

    def missing_by_day(self, name: str, tf: str) -> dict[date, int]:
        """Trading day -> bars that are missing in open hours; 0 for a complete day. Raises ``OFFLINE_OUTAGE``."""
        version = self._tables.version("bars")
        return self._once(("missing", version, name, tf), lambda: self._read_missing(name, tf))

    def _read_missing(self, name: str, tf: str) -> dict[date, int]:
        opens, session = self.opens(name, tf), symbol(name).session
        if not len(opens):
            return {}
        expected = expected_opens(session, timeframe(tf), int(opens[0]), int(opens[-1]) + 1)
        days = session_day(session, expected)
        absent = ~np.isin(expected, opens, assume_unique=True)
        trading_days, positions = np.unique(days, return_inverse=True)
        missing = np.bincount(positions, absent, minlength=len(trading_days)).astype(int)
        epoch = date(1970, 1, 1)
        return {
            epoch + timedelta(days=int(day)): int(bars)
            for day, bars in zip(trading_days.tolist(), missing, strict=True)
        }

    def _once(self, key: Any, read: Callable[[], T]) -> T:
        with self._lock:
            if key in self._charts:
                cached: T = self._charts[key]
                return cached
        answer = read()
        with self._lock:
            self._charts[key] = answer
        return answer
