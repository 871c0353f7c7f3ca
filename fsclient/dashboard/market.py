"""The offline store as the dashboard reads it: bars with their indicators, gaps, sessions and revisions."""

from __future__ import annotations

import threading
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta
from typing import Any, TypeVar

import numpy as np
import numpy.typing as npt
from cachetools import LRUCache

from feature_repo.catalog import BAR_FIELDS, SYMBOLS, TIMEFRAMES, symbol, timeframe
from feature_repo.gaps import Gaps, find_gaps
from feature_repo.sessions import DAY_US, expected_opens, session_day
from feature_repo.stores.delta.window import column, microseconds
from feature_repo.stores.redis.codec import FloatArray
from feature_repo.stores.tables import OfflineTables

T = TypeVar("T")
Int64Array = npt.NDArray[np.int64]

MOST_BARS = 1_500

_MAX_OPENS = 24
_MAX_CHARTS = 64


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Chart:
    """Bars of one symbol and timeframe with what is drawn over, below and behind them.

    Attributes:
        opens_us: (n,) open times, microseconds UTC, ascending.
        bars: ``open high low close volume`` -> (n,) float64.
        indicators: field -> (n,) float64, NaN in warm-up or where it is not stored.
        revisions: (n,) how often each bar was rewritten; 0 for one that stands as it came.
        gaps: where bars are missing or the market was closed, within the chart.
        days_us: where trading days begin within the chart; empty when there are too many to draw.
        stored_bars: how many bars there are in all, of all times.
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
        """Symbols of the catalog that have bars, in its order. Raises ``OFFLINE_OUTAGE``."""
        version = self._tables.version("bars")

        def read() -> tuple[str, ...]:
            held = set(self._tables.symbols())
            return tuple(name for name in SYMBOLS if name in held)

        return self._once(("symbols", version), read)

    def timeframes(self, name: str) -> tuple[str, ...]:
        """Timeframes that a symbol has bars of, from the shortest. Raises ``OFFLINE_OUTAGE``."""
        version = self._tables.version("bars")

        def read() -> tuple[str, ...]:
            rows = self._tables.read("bars", symbols=[name], columns=[])
            held = set(rows["timeframe"].unique().to_pylist())
            return tuple(tf for tf in TIMEFRAMES if tf in held)

        return self._once(("timeframes", version, name), read)

    def chart(
        self, name: str, tf: str, *, bars: int, fields: Sequence[str] = (), end: datetime | None = None
    ) -> Chart | None:
        """The last bars that opened at or before ``end``; None if there are none. Raises ``OFFLINE_OUTAGE``."""
        versions = self._tables.version("bars"), self._tables.version("indicators")
        key = ("chart", *versions, name, tf, bars, tuple(fields), end)
        return self._once(key, lambda: self._read_chart(name, tf, min(bars, MOST_BARS), fields, end))

    def _read_chart(self, name: str, tf: str, bars: int, fields: Sequence[str], end: datetime | None) -> Chart | None:
        stored = self.opens(name, tf)
        last = len(stored) if end is None else int(np.searchsorted(stored, _us(end), side="right"))
        opens = stored[max(0, last - bars) : last]
        if not len(opens):
            return None
        span = {"timeframe": tf, "start": _moment(opens[0]), "end": _moment(opens[-1])}
        rows = self._tables.read_range("bars", symbol=name, columns=BAR_FIELDS, **span)  # type: ignore[arg-type]
        at = microseconds(rows, "open_time")
        indicators = {}
        if fields:
            found = self._tables.read_range("indicators", symbol=name, columns=fields, **span)  # type: ignore[arg-type]
            place = np.searchsorted(at, microseconds(found, "open_time"))
            for field in fields:
                indicators[field] = np.full(len(at), np.nan)
                indicators[field][place] = column(found, field)
        spec, frame = symbol(name), timeframe(tf)
        days = session_day(spec.session, at)
        starts = at[1:][np.diff(days) > 0]
        return Chart(
            symbol=name,
            timeframe=tf,
            opens_us=at,
            bars={field: column(rows, field) for field in BAR_FIELDS},
            indicators=indicators,
            revisions=self._rewritten(name, span, at),
            gaps=find_gaps(at, session=spec.session, timeframe=frame),
            days_us=starts if len(starts) <= 45 and frame.microseconds < DAY_US else np.empty(0, np.int64),
            stored_bars=len(stored),
        )

    def _rewritten(self, name: str, span: Mapping[str, Any], at: Int64Array) -> Int64Array:
        rows = self._tables.read("bars", symbols=[name], columns=[], all_revisions=True, **span)
        opens, counts = np.unique(microseconds(rows, "open_time"), return_counts=True)
        return counts[np.searchsorted(opens, at)] - 1

    def opens(self, name: str, tf: str) -> Int64Array:
        """Open times of all stored bars, microseconds UTC, ascending. Raises ``OFFLINE_OUTAGE``."""
        key = (self._tables.version("bars"), name, tf)
        with self._lock:
            held = self._opens.get(key)
        if held is None:
            rows = self._tables.read_range("bars", timeframe=tf, symbol=name, start=None, end=None, columns=[])
            held = microseconds(rows, "open_time")
            with self._lock:
                self._opens[key] = held
        return held

    def missing_by_day(self, name: str, tf: str) -> dict[date, int]:
        """Trading day -> bars that an open market made and nobody has. Raises ``OFFLINE_OUTAGE``."""
        version = self._tables.version("bars")
        return self._once(("missing", version, name, tf), lambda: self._read_missing(name, tf))

    def _read_missing(self, name: str, tf: str) -> dict[date, int]:
        opens, session = self.opens(name, tf), symbol(name).session
        if not len(opens):
            return {}
        expected = expected_opens(session, timeframe(tf), int(opens[0]), int(opens[-1]) + 1)
        days = session_day(session, expected)
        absent = ~np.isin(expected, opens, assume_unique=True)
        every, place = np.unique(days, return_inverse=True)
        missing = np.bincount(place, absent, minlength=len(every)).astype(int)
        epoch = date(1970, 1, 1)
        return {epoch + timedelta(days=int(day)): int(bars) for day, bars in zip(every.tolist(), missing, strict=True)}

    def _once(self, key: Any, read: Callable[[], T]) -> T:
        with self._lock:
            if key in self._charts:
                held: T = self._charts[key]
                return held
        found = read()
        with self._lock:
            self._charts[key] = found
        return found


def _moment(us: Any) -> datetime:
    return datetime(1970, 1, 1, tzinfo=UTC) + timedelta(microseconds=int(us))


def _us(moment: datetime) -> int:
    return (moment - datetime(1970, 1, 1, tzinfo=UTC)) // timedelta(microseconds=1)
