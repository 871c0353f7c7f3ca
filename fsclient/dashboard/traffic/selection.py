"""Selections from the history: filters, and the figures of the calls that pass them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import numpy.typing as npt

from fsclient.dashboard.traffic.columns import Columns, Floats, Ints, Names
from fsclient.metrics.calls import is_fallback
from fsclient.metrics.histogram import BOUNDS_S, BUCKETS
from fsclient.metrics.history import COARSE, COARSE_BUCKETS

_UPPER = np.array([*BOUNDS_S, BOUNDS_S[-1]])
_LOWER = np.array([BOUNDS_S[0], *BOUNDS_S])
MIDDLES = np.sqrt(_LOWER * _UPPER)
"""The duration that represents each bucket, seconds: its geometric middle, as in ``histogram.percentile_s``."""
COARSE_MIDDLES = np.sqrt(_LOWER[::COARSE] * _UPPER[np.minimum(np.arange(COARSE_BUCKETS) * COARSE + 3, BUCKETS - 1)])


def percentiles(histogram: npt.NDArray[Any], share: float) -> Floats:
    """The duration that ``share`` of the calls did not exceed, seconds; NaN where there were no calls.

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
    """Which calls to select; None for all of them."""

    process: str | None = None
    method: str | None = None
    symbol: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Selection:
    """The figures of the selected calls over time. Arrays of shape (times,) unless stated otherwise; 0 without calls.

    Attributes:
        times: starts of the intervals, datetime64[s] UTC, ascending without gaps.
        step_s: length of an interval, seconds.
        running_s: how many seconds of the last interval have passed.
        histogram: (times, buckets) calls by duration.
        by_source, by_error: calls by source of the answer and by kind of error.
        fallbacks: answers that replaced the store's own, by source.
        by_method: method -> (times,) calls.
        method_histograms: method -> (buckets,).
        symbols: symbol -> calls, of the busiest symbols of each interval; ``other`` for the rest.
        states: name -> state -> (times,) how often processes were seen in that state; ``closed`` is left out.
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
    fallbacks: Mapping[str, Ints]
    by_error: Mapping[str, Ints]
    by_method: Mapping[str, Ints]
    method_errors: Mapping[str, int]
    method_histograms: Mapping[str, Ints]
    symbols: Mapping[str, int]
    states: Mapping[str, Mapping[str, Ints]] = field(default_factory=dict)

    @property
    def error_share(self) -> float | None:
        """Share of failed calls, 0 to 1; None when there were no calls."""
        total = int(self.calls.sum())
        return int(self.errors.sum()) / total if total else None

    @property
    def hit_share(self) -> float | None:
        """Share of calls answered by the cache among those that asked it, 0 to 1; None when none did."""
        asked = int(self.hits.sum() + self.misses.sum())
        return int(self.hits.sum()) / asked if asked else None

    def percentile_s(self, share: float) -> float | None:
        """The duration that ``share`` of all calls did not exceed, seconds; None when there were no calls."""
        duration_s = float(percentiles(self.histogram.sum(axis=0), share))
        return None if np.isnan(duration_s) else duration_s


def select(
    rows: Columns,
    names: Names,
    first: int,
    last: int,
    every: int,
    step: int,
    running_s: float,
    chosen: Filter,
) -> Selection:
    """Adds up the selected calls.

    Args:
        first, last: the first and last point, in steps since 1970.
        every: minutes or hours per point of ``step`` seconds.
        running_s: how many seconds of the last point have passed.
    """
    methods, sources, symbols, errors = names.methods, names.sources, names.symbols, names.errors
    n = last - first + 1

    def place(when: Ints) -> Ints:
        """The point that each interval belongs to."""
        return when // every - first

    method = None if chosen.method is None else methods.find(chosen.method)

    def is_selected(about: Ints) -> npt.NDArray[np.bool_]:
        mask = (about[:, 0] >= first * every) & (about[:, 0] < (last + 1) * every)
        return mask if method is None else mask & (about[:, 1] == method)

    symbol_mask = is_selected(rows.symbol_about)
    by_symbol = np.bincount(
        rows.symbol_about[symbol_mask, 3], rows.symbol_figures[symbol_mask, 0], minlength=len(symbols.names)
    )
    if chosen.symbol is None:
        mask = is_selected(rows.about)
        about, figures, seconds = rows.about[mask], rows.figures[mask], rows.seconds[mask]
        histogram = rows.histogram[mask]
        failed = rows.errors[is_selected(rows.errors)]
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
    fallbacks: dict[str, Ints] = {}
    for source, name in enumerate(sources.names):
        by = [code for code in present if is_fallback(methods.names[code], name)]
        calls = np.flatnonzero((about[:, 2] == source) & np.isin(about[:, 1], by)) if by else ()
        if len(calls):
            fallbacks[name] = _sums(at[calls], figures[calls, 0], n)
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
        fallbacks=fallbacks,
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
