"""What all clients of all machines did, held in memory as columns and kept up to date from Redis.

Every minute of the last day and every hour of the last thirty days is read once and again only when its version has
changed. Its rows lie in NumPy columns, so that any filter over the whole history is a mask and a sum. Memory is
bounded by the number of minutes and hours and by the rows that each may have (see ``history``).
"""

from __future__ import annotations

import threading
import time
from collections import OrderedDict
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any

import numpy as np
import numpy.typing as npt
from redis.exceptions import RedisError

from fsclient.metrics.histogram import BOUNDS_S, BUCKETS
from fsclient.metrics.history import COARSE, COARSE_BUCKETS, SlotRows
from fsclient.metrics.store import (
    KEPT_S,
    SECONDS,
    Process,
    Resolution,
    When,
    read_counts,
    read_processes,
    read_versions,
    times_between,
)

Ints = npt.NDArray[np.int64]
Floats = npt.NDArray[np.float64]

REFRESH_S = 2.0
"""Callers within this time of the last reading share it."""
ALIVE_S = 20.0
"""A process that has not published for longer is taken for dead."""
FALLBACKS = ("last_good", "recomputed")
_RESOLUTIONS: tuple[Resolution, ...] = ("m", "h")
_MOST_PROCESSES_HELD = 4
_BATCH = 500

_UPPER = np.array([*BOUNDS_S, BOUNDS_S[-1]])
_LOWER = np.array([BOUNDS_S[0], *BOUNDS_S])
MIDDLES = np.sqrt(_LOWER * _UPPER)
"""What stands for each bucket, seconds: its geometric middle, as in ``histogram.percentile_s``."""
COARSE_MIDDLES = np.sqrt(_LOWER[::COARSE] * _UPPER[np.minimum(np.arange(COARSE_BUCKETS) * COARSE + 3, BUCKETS - 1)])


def percentiles(histogram: npt.NDArray[Any], share: float) -> Floats:
    """The duration that ``share`` of the calls do not exceed, seconds; NaN where there are no calls.

    Args:
        histogram: (..., buckets), of full or coarse resolution.
    """
    middles = MIDDLES if histogram.shape[-1] == BUCKETS else COARSE_MIDDLES
    total = np.cumsum(histogram, axis=-1, dtype=np.int64)
    rank = np.maximum(1.0, share * total[..., -1:])
    number = np.argmax(total >= rank, axis=-1)
    return np.where(total[..., -1] > 0, middles[number], np.nan)


@dataclass(frozen=True, slots=True, kw_only=True)
class Filter:
    """Which calls are meant; None for all of them."""

    process: str | None = None
    method: str | None = None
    symbol: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Selection:
    """What the chosen calls come to, by time. Arrays of shape (times,) unless told otherwise; 0 where nothing was.

    Attributes:
        times: starts, datetime64[s] UTC, ascending without a hole.
        step_s: seconds from one to the next.
        running_s: how many seconds of the last one have passed.
        histogram: (times, buckets) calls by duration.
        by_source, by_error: calls by where the answer came from and by kind of error.
        by_method: method -> (times,) calls.
        method_histograms: method -> (buckets,).
        symbols: symbol -> calls; of the busiest symbols of each time, ``other`` for the rest.
        states: name -> state -> (times,) how often a process was seen in it; only what is not closed is kept.
    """

    times: npt.NDArray[np.datetime64]
    step_s: int
    running_s: float
    calls: Ints
    errors: Ints
    hits: Ints
    misses: Ints
    stale: Ints
    retries: Ints
    seconds: Floats
    histogram: npt.NDArray[np.int64]
    by_source: Mapping[str, Ints]
    by_error: Mapping[str, Ints]
    by_method: Mapping[str, Ints]
    method_errors: Mapping[str, int]
    method_histograms: Mapping[str, Ints]
    symbols: Mapping[str, int]
    states: Mapping[str, Mapping[str, Ints]] = field(default_factory=dict)

    @property
    def error_share(self) -> float | None:
        """Failed calls of all, 0 to 1; None when there were none."""
        total = int(self.calls.sum())
        return int(self.errors.sum()) / total if total else None

    @property
    def hit_share(self) -> float | None:
        """Calls that the cache answered of those that asked it, 0 to 1."""
        asked = int(self.hits.sum() + self.misses.sum())
        return int(self.hits.sum()) / asked if asked else None

    @property
    def fallbacks(self) -> dict[str, Ints]:
        """Answers that stood in for the online store's own, by source."""
        return {source: self.by_source[source] for source in FALLBACKS if source in self.by_source}

    def percentile_s(self, share: float) -> float | None:
        """Over the whole time."""
        found = float(percentiles(self.histogram.sum(axis=0), share))
        return None if np.isnan(found) else found


class _Codes:
    """Names as small numbers."""

    def __init__(self) -> None:
        self.names: list[str] = []
        self._numbers: dict[str, int] = {}

    def __getitem__(self, name: str) -> int:
        number = self._numbers.get(name)
        if number is None:
            number = self._numbers[name] = len(self.names)
            self.names.append(name)
        return number

    def find(self, name: str) -> int:
        return self._numbers.get(name, -1)


@dataclass(frozen=True, slots=True, eq=False)
class _Columns:
    """Rows of one time, or of many. ``about``: time, method, source, (symbol or kind of error) as numbers."""

    about: Ints
    figures: Ints
    seconds: Floats
    histogram: npt.NDArray[np.uint32]
    errors: Ints
    symbol_about: Ints
    symbol_figures: Ints
    symbol_histogram: npt.NDArray[np.uint32]
    states: tuple[tuple[int, str, str, int], ...]

    @classmethod
    def joined(cls, parts: Iterable[_Columns]) -> _Columns:
        held = list(parts)

        def all_of(name: str) -> npt.NDArray[Any]:
            return np.concatenate([getattr(part, name) for part in held])

        return cls(
            about=all_of("about"),
            figures=all_of("figures"),
            seconds=all_of("seconds"),
            histogram=all_of("histogram"),
            errors=all_of("errors"),
            symbol_about=all_of("symbol_about"),
            symbol_figures=all_of("symbol_figures"),
            symbol_histogram=all_of("symbol_histogram"),
            states=tuple(state for part in held for state in part.states),
        )


@dataclass(frozen=True, slots=True)
class Totals:
    """All that was counted since the first reading, added up; never less than before, also when times are forgotten.

    Attributes:
        series: (method, source) as numbers -> calls, errors, hits, misses, stale, retries; seconds; histogram.
        errors: (method, kind) as numbers -> calls.
    """

    series: dict[tuple[int, int], tuple[Ints, float, Ints]] = field(default_factory=dict)
    errors: dict[tuple[int, int], int] = field(default_factory=dict)

    def follow(self, before: _Columns | None, after: _Columns) -> None:
        """Adds what a time counts now and did not before."""
        for part, sign in ((before, -1), (after, 1)):
            if part is None:
                continue
            for about, figures, seconds, histogram in zip(
                part.about.tolist(), part.figures, part.seconds.tolist(), part.histogram, strict=True
            ):
                key = about[1], about[2]
                held = self.series.get(key, (np.zeros(6, np.int64), 0.0, np.zeros(BUCKETS, np.int64)))
                more = histogram.astype(np.int64)
                self.series[key] = held[0] + sign * figures, held[1] + sign * seconds, held[2] + sign * more
            for _, method, _, kind, calls in part.errors.tolist():
                self.errors[method, kind] = self.errors.get((method, kind), 0) + sign * calls


class _History:
    """The times of one resolution, of all processes or of one."""

    def __init__(self, resolution: Resolution, process_id: str | None = None) -> None:
        self.resolution: Resolution = resolution
        self.process_id = process_id
        self.versions: dict[When, int] = {}
        self.parts: dict[When, _Columns] = {}
        self._joined: _Columns | None = None
        self.totals = Totals()

    def refresh(self, client: Any, project: str, now: float, columns: Callable[[When, SlotRows], _Columns]) -> None:
        """Reads what has changed and forgets what is too old."""
        step, kept = SECONDS[self.resolution], KEPT_S[self.resolution]
        times = [*times_between(self.resolution, now - kept + step, now + step)]
        versions = read_versions(client, project, times)
        changed = [when for when, version in versions.items() if self.versions.get(when) != version]
        gone = [when for when in self.versions if when not in versions]
        for when in gone:
            del self.versions[when]
            self.parts.pop(when, None)
        for first in range(0, len(changed), _BATCH):
            batch = changed[first : first + _BATCH]
            for when, rows in read_counts(client, project, batch, process_id=self.process_id).items():
                part = columns(when, rows)
                self.totals.follow(self.parts.get(when), part)
                self.parts[when] = part
            self.versions |= {when: versions[when] for when in batch}
        if changed or gone:
            self._joined = None

    def joined(self, empty: _Columns) -> _Columns:
        if self._joined is None:
            self._joined = _Columns.joined([empty, *(self.parts[when] for when in sorted(self.parts))])
        return self._joined


class Traffic:
    """The history of all calls. Thread-safe.

    Args:
        connect: gives a synchronous redis-py client; may raise RedisError or OSError.
        project: the Feast project whose clients are meant.
        now: seconds since 1970.
    """

    def __init__(self, connect: Callable[[], Any], project: str, *, now: Callable[[], float] = time.time) -> None:
        self._connect, self._project, self._now = connect, project, now
        self._lock = threading.RLock()
        self._methods, self._sources, self._symbols, self._errors = _Codes(), _Codes(), _Codes(), _Codes()
        self._all: dict[Resolution, _History] = {r: _History(r) for r in _RESOLUTIONS}
        self._of_process: OrderedDict[tuple[str, Resolution], _History] = OrderedDict()
        self._processes: dict[str, Process] = {}
        self._read_at = float("-inf")
        self.problem: str = ""
        """Why what is shown may be old; empty when the last reading succeeded."""
        self.read_s: float | None = None
        """When the last reading succeeded, seconds since 1970."""

    # ------------------------------------------------------------------------------------------------ reading

    def refresh(self) -> None:
        """Reads what is new, unless that was done a moment ago. A store that is away leaves what was read before."""
        with self._lock:
            now = self._now()
            if now - self._read_at < REFRESH_S:
                return
            try:
                client = self._connect()
                for history in self._all.values():
                    history.refresh(client, self._project, now, self._columns)
                self._processes = {p.id: p for p in read_processes(client, self._project)}
                self.problem, self.read_s = "", now
            except (RedisError, OSError, ValueError) as error:
                self.problem = f"The online store does not answer ({type(error).__name__})."
            self._read_at = self._now()

    @property
    def processes(self) -> list[Process]:
        """Every known process, the one seen last first."""
        return sorted(self._processes.values(), key=lambda p: -p.seen_s)

    def is_alive(self, process: Process) -> bool:
        """Whether it published just now, as of the last reading."""
        return self.read_s is not None and self.read_s - process.seen_s < ALIVE_S

    @property
    def methods(self) -> list[str]:
        """Methods that were called within the history."""
        return sorted(self._methods.names)

    @property
    def symbols(self) -> list[str]:
        """Symbols that were asked for within the history."""
        return sorted(self._symbols.names)

    @property
    def bytes_held(self) -> int:
        """Memory of the columns."""
        with self._lock:
            parts = [p for h in (*self._all.values(), *self._of_process.values()) for p in h.parts.values()]
            return sum(getattr(p, name).nbytes for p in parts for name in _Columns.__slots__ if name != "states")

    def totals(self) -> dict[str, Any]:
        """What was counted by the minute since the first reading, and before it within a day.

        Returns:
            ``series``: (method, source) -> (calls, errors, hits, misses, stale, retries), seconds, histogram; and
            ``errors``: (method, kind) -> calls.
        """
        with self._lock:
            held = self._all["m"].totals
            methods, sources, kinds = self._methods.names, self._sources.names, self._errors.names
            return {
                "series": {(methods[m], sources[s]): row for (m, s), row in held.series.items()},
                "errors": {(methods[m], kinds[k]): calls for (m, k), calls in held.errors.items()},
            }

    def _columns(self, when: When, rows: SlotRows) -> _Columns:
        """A time's rows as columns."""
        at, methods, sources = when.number, self._methods, self._sources
        series, symbols = rows.series, rows.symbols
        histogram = np.zeros((len(series), BUCKETS), np.uint32)
        errors: list[tuple[int, int, int, int, int]] = []
        for n, row in enumerate(series):
            if row[10]:
                histogram[n, row[10][0] : row[10][0] + len(row[10]) - 1] = row[10][1:]
            for kind, calls in row[9].items():
                errors.append((at, methods[row[0]], sources[row[1]], self._errors[kind], calls))
        coarse = np.zeros((len(symbols), COARSE_BUCKETS), np.uint32)
        for n, row in enumerate(symbols):
            if row[7]:
                coarse[n, row[7][0] : row[7][0] + len(row[7]) - 1] = row[7][1:]
        failed = [sum(row[9].values()) for row in series]
        return _Columns(
            _table([(at, methods[row[0]], sources[row[1]]) for row in series], 3),
            _table([(row[2], bad, *row[3:7]) for row, bad in zip(series, failed, strict=True)], 6),
            np.array([row[8] for row in series], np.float64),
            histogram,
            _table(errors, 5),
            _table([(at, methods[row[0]], sources[row[1]], self._symbols[row[2]]) for row in symbols], 4),
            _table([row[3:7] for row in symbols], 4),
            coarse,
            tuple((at, name, state, n) for name, seen in rows.states.items() for state, n in seen.items()),
        )

    # ----------------------------------------------------------------------------------------------- selecting

    def select(
        self, resolution: Resolution, period_s: float, chosen: Filter | None = None, *, every: int = 1
    ) -> Selection:
        """What the chosen calls come to, over the last ``period_s`` seconds, the running minute or hour included.

        Args:
            every: how many minutes or hours make one point.
        """
        chosen = chosen or Filter()
        with self._lock:
            rows = self._history(resolution, chosen.process).joined(_EMPTY)
            codes = (self._methods, self._sources, self._symbols, self._errors)
            step, now = SECONDS[resolution] * every, self._now()
            last = int(now // step)
            first = last - max(1, int(period_s // step)) + 1
        return _select(rows, codes, first, last, every, step, now - last * step, chosen)

    def _history(self, resolution: Resolution, process_id: str | None) -> _History:
        if process_id is None:
            return self._all[resolution]
        name = (process_id, resolution)
        history = self._of_process.setdefault(name, _History(resolution, process_id))
        self._of_process.move_to_end(name)
        while len(self._of_process) > _MOST_PROCESSES_HELD:
            self._of_process.popitem(last=False)
        try:
            history.refresh(self._connect(), self._project, self._now(), self._columns)
        except (RedisError, OSError, ValueError) as error:
            self.problem = f"The online store does not answer ({type(error).__name__})."
        return history


def _select(
    rows: _Columns,
    codes: tuple[_Codes, _Codes, _Codes, _Codes],
    first: int,
    last: int,
    every: int,
    step: int,
    running_s: float,
    chosen: Filter,
) -> Selection:
    methods, sources, symbols, errors = codes
    n = last - first + 1

    def place(when: Ints) -> Ints:
        """The point that each time belongs to."""
        return when // every - first

    method = None if chosen.method is None else methods.find(chosen.method)

    def meant(about: Ints) -> npt.NDArray[np.bool_]:
        mask = (about[:, 0] >= first * every) & (about[:, 0] < (last + 1) * every)
        return mask if method is None else mask & (about[:, 1] == method)

    symbol_mask = meant(rows.symbol_about)
    by_symbol = np.bincount(
        rows.symbol_about[symbol_mask, 3], rows.symbol_figures[symbol_mask, 0], minlength=len(symbols.names)
    )
    if chosen.symbol is None:
        mask = meant(rows.about)
        about, figures, seconds = rows.about[mask], rows.figures[mask], rows.seconds[mask]
        histogram = rows.histogram[mask]
        failed = rows.errors[meant(rows.errors)]
        by_error = {
            errors.names[kind]: _sums(place(failed[failed[:, 3] == kind, 0]), failed[failed[:, 3] == kind, 4], n)
            for kind in np.unique(failed[:, 3]).tolist()
        }
    else:
        symbol_mask &= rows.symbol_about[:, 3] == symbols.find(chosen.symbol)
        about, histogram = rows.symbol_about[symbol_mask], rows.symbol_histogram[symbol_mask]
        counted = rows.symbol_figures[symbol_mask]
        figures = np.zeros((len(counted), 6), np.int64)
        figures[:, :4] = counted
        seconds = np.zeros(len(counted))
        at_error = _sums(place(about[:, 0]), counted[:, 1], n)
        by_error = {"all kinds": at_error} if at_error.any() else {}
    at = place(about[:, 0])
    totals = [_sums(at, figures[:, column], n) for column in range(6)]
    over_time = np.zeros((n, histogram.shape[1]), np.int64)
    order = np.argsort(at, kind="stable")
    if len(order):
        edges = np.flatnonzero(np.diff(at[order], prepend=-1))
        over_time[at[order][edges]] = np.add.reduceat(histogram[order], edges, axis=0, dtype=np.int64)
    states: dict[str, dict[str, Ints]] = {}
    for when, name, state, seen in rows.states:
        if first <= when // every <= last and state != "closed":
            states.setdefault(name, {}).setdefault(state, np.zeros(n, np.int64))[when // every - first] += seen
    present = np.unique(about[:, 1]).tolist()
    return Selection(
        times=((first + np.arange(n)) * step).astype("datetime64[s]"),
        step_s=step,
        running_s=running_s,
        calls=totals[0],
        errors=totals[1],
        hits=totals[2],
        misses=totals[3],
        stale=totals[4],
        retries=totals[5],
        seconds=np.bincount(at, seconds, minlength=n).astype(np.float64),
        histogram=over_time,
        by_source={
            sources.names[code]: _sums(at[about[:, 2] == code], figures[about[:, 2] == code, 0], n)
            for code in np.unique(about[:, 2]).tolist()
        },
        by_error=by_error,
        by_method={
            methods.names[code]: _sums(at[about[:, 1] == code], figures[about[:, 1] == code, 0], n) for code in present
        },
        method_errors={methods.names[code]: int(figures[about[:, 1] == code, 1].sum()) for code in present},
        method_histograms={
            methods.names[code]: histogram[about[:, 1] == code].sum(axis=0, dtype=np.int64) for code in present
        },
        symbols={symbols.names[code]: int(by_symbol[code]) for code in np.flatnonzero(by_symbol).tolist()},
        states=states,
    )


def _sums(at: Ints, values: Ints, n: int) -> Ints:
    return np.bincount(at, values, minlength=n).astype(np.int64)


def _table(rows: list[Any], width: int) -> Ints:
    return np.array(rows, np.int64).reshape(-1, width)


def from_epoch(seconds: float) -> datetime:
    """Seconds since 1970 as a moment in UTC."""
    return datetime.fromtimestamp(seconds, UTC)


_EMPTY = _Columns(
    _table([], 3),
    _table([], 6),
    np.zeros(0),
    np.zeros((0, BUCKETS), np.uint32),
    _table([], 5),
    _table([], 4),
    _table([], 4),
    np.zeros((0, COARSE_BUCKETS), np.uint32),
    (),
)
