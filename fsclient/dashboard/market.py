"""The offline store as the dashboard reads it: bars with their indicators, gaps, sessions and revisions."""

from __future__ import annotations

import json
import threading
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, date, datetime, timedelta
from hashlib import sha256
from typing import Any, TypeVar

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc
from cachetools import LRUCache
from deltalake.exceptions import DeltaError

from feature_repo.catalog import BAR_FIELDS, PRODUCER, SYMBOLS, TIMEFRAMES, Indicator, symbol, timeframe
from feature_repo.gaps import Gaps, find_gaps
from feature_repo.indicators import compute
from feature_repo.kernel_inputs import kernel_inputs
from feature_repo.sessions import DAY_US, bar_close, expected_opens, session_day
from feature_repo.stores.codec import FloatArray
from feature_repo.stores.schemas import TableName
from feature_repo.stores.tables import OfflineTables
from feature_repo.stores.window import column, microseconds
from fsclient.dashboard.operations import DECISIONS, Decision, QuarantinedRow

T = TypeVar("T")
Int64Array = npt.NDArray[np.int64]

OUTAGE: tuple[type[Exception], ...] = (OSError, DeltaError, pa.ArrowException)
"""What says that the offline store can't be read."""
MOST_BARS = 1_500
MOST_QUARANTINED = 5_000
"""Newest quarantined rows that are looked at."""

_MOST_OPENS = 24
_MOST_CHARTS = 64


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


@dataclass(frozen=True, slots=True, kw_only=True)
class Explanation:
    """Where one value comes from.

    Attributes:
        open_time, close_time: the bar's; its values were known from the close on.
        revisions: (written at, value) of every stored revision, oldest first; the last is the truth.
        recomputed: the value computed here and now from the stored bars; None for a bar's own column.
        inputs: the bar columns that it is computed from, with this bar's values.
        bars_used: how many bars back the value reaches; None for a bar's own column.
        first_bar: the open of the first of them.
        is_warm: whether that many bars were there, so that the value is what all history would give.
    """

    symbol: str
    timeframe: str
    field: str
    open_time: datetime
    close_time: datetime
    indicator: Indicator | None
    revisions: tuple[tuple[datetime, float], ...]
    recomputed: float | None
    inputs: Mapping[str, float]
    bars_used: int | None
    first_bar: datetime | None
    is_warm: bool

    @property
    def stored(self) -> float | None:
        """The newest revision's value."""
        return self.revisions[-1][1] if self.revisions else None


class Market:
    """Reads the offline tables, each version once. Thread-safe."""

    def __init__(self, tables: OfflineTables) -> None:
        self._tables = tables
        self._lock = threading.Lock()
        self._opens: LRUCache[Any, Int64Array] = LRUCache(_MOST_OPENS)
        self._charts: LRUCache[Any, Any] = LRUCache(_MOST_CHARTS)

    def symbols(self) -> tuple[str, ...]:
        """Symbols of the catalog that have bars, in its order. Raises ``OUTAGE``."""
        version = self._tables.version("bars")

        def read() -> tuple[str, ...]:
            held = set(self._tables.symbols())
            return tuple(name for name in SYMBOLS if name in held)

        return self._once(("symbols", version), read)

    def timeframes(self, name: str) -> tuple[str, ...]:
        """Timeframes that a symbol has bars of, from the shortest. Raises ``OUTAGE``."""
        version = self._tables.version("bars")

        def read() -> tuple[str, ...]:
            rows = self._tables.read("bars", symbols=[name], columns=[])
            held = set(rows["timeframe"].unique().to_pylist())
            return tuple(tf for tf in TIMEFRAMES if tf in held)

        return self._once(("timeframes", version, name), read)

    def chart(
        self, name: str, tf: str, *, bars: int, fields: Sequence[str] = (), end: datetime | None = None
    ) -> Chart | None:
        """The last ``bars`` bars that opened at or before ``end``; None when there are none. Raises ``OUTAGE``."""
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
        """Open times of all stored bars, microseconds UTC, ascending. Raises ``OUTAGE``."""
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
        """Trading day -> bars that an open market made and nobody has. Raises ``OUTAGE``."""
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

    def explain(self, name: str, tf: str, field: str, opens_us: int) -> Explanation | None:
        """Where a value comes from; None when there is no such bar. Raises ``OUTAGE``."""
        stored = self.opens(name, tf)
        place = int(np.searchsorted(stored, opens_us))
        if place >= len(stored) or int(stored[place]) != opens_us:
            return None
        spec, frame, indicator = symbol(name), timeframe(tf), PRODUCER.get(field)
        table: TableName = "indicators" if indicator else "bars"
        moment = _moment(opens_us)
        rows = self._tables.read(
            table, timeframe=tf, symbols=[name], start=moment, end=moment, columns=[field], all_revisions=True
        )
        revisions = tuple(zip(rows["created"].to_pylist(), column(rows, field).tolist(), strict=True))
        recomputed, used, first, inputs = None, None, None, dict[str, float]()
        warm = True
        if indicator:
            reach = place if indicator.warm_up is None else indicator.warm_up
            begin = max(0, place - reach)
            span = {"start": _moment(stored[begin]), "end": moment, "columns": BAR_FIELDS}
            history = self._tables.read_range("bars", timeframe=tf, symbol=name, **span)  # type: ignore[arg-type]
            at = microseconds(history, "open_time")
            columns = kernel_inputs(spec.session, at, {n: column(history, n) for n in BAR_FIELDS})
            recomputed = float(compute(indicator, columns)[field][-1])
            used, first, warm = len(at), _moment(at[0]), place - begin >= reach
            inputs = {n: float(columns[n][-1]) for n in indicator.inputs if n in BAR_FIELDS}
        close = bar_close(spec.session, frame, np.array([opens_us], np.int64))
        return Explanation(
            symbol=name,
            timeframe=tf,
            field=field,
            open_time=moment,
            close_time=_moment(close[0]),
            indicator=indicator,
            revisions=revisions,
            recomputed=recomputed,
            inputs=inputs,
            bars_used=used,
            first_bar=first,
            is_warm=warm,
        )

    def quarantined(self) -> list[QuarantinedRow]:
        """The newest rows that a gate rejected, newest first, with what was decided since. Raises ``OUTAGE``."""
        return self._once(("quarantined", self._tables.version("quarantine")), self._read_quarantined)

    def _read_quarantined(self) -> list[QuarantinedRow]:
        rows = self._tables.read("quarantine", all_revisions=True)
        decided = {kind: (kind.rpartition("-")[0], d) for d in DECISIONS for kind in _decided_kinds(rows, d)}
        is_decision = pc.is_in(rows["kind"], pa.array(list(decided), pa.string()))
        decisions = {
            _row_id({**row, "kind": decided[row["kind"]][0]}): decided[row["kind"]][1]
            for row in rows.filter(is_decision).to_pylist()
        }
        rows = rows.filter(pc.invert(is_decision))
        order = pc.sort_indices(rows, sort_keys=[("created", "descending"), ("open_time", "descending")])
        found = (quarantined_row(row) for row in rows.take(order[:MOST_QUARANTINED]).to_pylist())
        return [replace(row, decision=decisions.get(row.id)) for row in found]

    def _once(self, key: Any, read: Callable[[], T]) -> T:
        with self._lock:
            if key in self._charts:
                held: T = self._charts[key]
                return held
        found = read()
        with self._lock:
            self._charts[key] = found
        return found


def quarantined_row(row: Mapping[str, Any]) -> QuarantinedRow:
    """A row of the quarantine table, undecided."""
    return QuarantinedRow(
        id=_row_id(row),
        symbol=row["symbol"],
        timeframe=row["timeframe"],
        open_time=row["open_time"],
        created=row["created"],
        kind=row["kind"],
        rule=row["rule"] or "",
        detail=row["detail"] or "",
        row=row["row"] or "",
        file=row["file"] or "",
        line=row["line"],
    )


def _row_id(row: Mapping[str, Any]) -> str:
    """A name made of what the quarantine itself tells rows apart by."""
    apart = json.dumps([row["symbol"], row["timeframe"], row["kind"], row["rule"], row["row"]])
    return sha256(apart.encode()).hexdigest()[:24]


def _decided_kinds(rows: pa.Table, decision: Decision) -> list[str]:
    return [kind for kind in rows["kind"].unique().to_pylist() if kind and kind.endswith(f"-{decision}")]


def definition_digest(indicator: Indicator) -> str:
    """A short name of what an indicator means: it changes when its kernel, parameters, inputs or warm-up do."""
    meaning = [
        indicator.kind,
        sorted(indicator.parameters.items()),
        indicator.inputs,
        indicator.outputs,
        indicator.lookback,
        indicator.warm_up,
    ]
    return sha256(json.dumps(meaning).encode()).hexdigest()[:8]


def lineage(field: str) -> tuple[str, ...]:
    """What a field is made of, from the source to the name that a strategy reads."""
    indicator = PRODUCER.get(field)
    if indicator is None:
        return ("source file", "quality gate", "bars", f"ohlcv_*:{field}", "latest_* service")
    parameters = ", ".join(f"{name}={number:g}" for name, number in indicator.parameters.items())
    return (
        f"bars ({', '.join(indicator.inputs)})",
        f"{indicator.kind}({parameters})",
        "quality gate",
        f"indicators_*:{field}",
        "latest_* service",
    )


def _moment(us: Any) -> datetime:
    return datetime(1970, 1, 1, tzinfo=UTC) + timedelta(microseconds=int(us))


def _us(moment: datetime) -> int:
    return (moment - datetime(1970, 1, 1, tzinfo=UTC)) // timedelta(microseconds=1)
