"""The fast path: a symbol and timeframe in memory, and what its next closed bars make.

Pure: it reads no clock and no store. What a ``LiveSeries`` holds comes from the offline store and from bars that have
passed the gate since, so it can be dropped at any moment and loaded again. Only the ordinary case is handled here: good
bars that follow the newest one. Anything else raises ``NeedsBatchFlow`` and goes down the slow path: late bars,
corrections, and bars whose indicators are bad. So each of those is decided in one place.
"""

from __future__ import annotations

import logging
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from functools import lru_cache
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd

from feature_repo.agreement import same_number
from feature_repo.catalog import (
    BAR_FIELDS,
    INDICATOR_FIELDS,
    INDICATORS,
    PRODUCER,
    WINDOW_BARS,
    WINDOW_FIELDS,
    Session,
    Symbol,
    Timeframe,
)
from feature_repo.sessions import bar_close, grid_open, on_grid, session_day
from feature_repo.stores.window import Window
from flows.compute import step
from flows.compute.derive import complete_until, opens_us
from flows.compute.increment import LONGEST, STATE_FIELDS, TailTooShort, stretch_bars, warm_up
from flows.compute.newest import Reaches, newest
from flows.quality import bar_rules, indicator_rules
from flows.quality.closed_hours import idle_bars
from flows.quality.fast_rules import FastRules
from flows.quality.rules import DERIVED
from flows.quality.units import is_suspect
from flows.quality.warm_up import undefined_bars
from flows.stream.bar import LiveBar

FloatArray = npt.NDArray[np.float64]
IntArray = npt.NDArray[np.int64]
BoolArray = npt.NDArray[np.bool_]

TAIL_BARS = stretch_bars(LONGEST) + warm_up(LONGEST)
"""Bars before a new one that no indicator looks beyond."""
_COLUMNS = (*BAR_FIELDS, "session_day", *STATE_FIELDS)
_BARS = slice(0, len(BAR_FIELDS))
_STATE = slice(len(BAR_FIELDS) + 1, None)
_STATE_ROWS = [INDICATOR_FIELDS.index(name) for name in STATE_FIELDS]
_LONGEST_LOOKBACK = max(i.lookback for i in INDICATORS.values())
_FIRST_OUTPUT = {i.name: INDICATOR_FIELDS.index(i.outputs[0]) for i in INDICATORS.values()}
_log = logging.getLogger("fstore")


class NeedsBatchFlow(Exception):  # noqa: N818  # not an error: the batch flow takes over
    """The batch flow has to deal with these bars; the series that raised it must be loaded again."""


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Fresh:
    """New bars of one series, to be published and stored.

    Attributes:
        opens_us: (n,) int64, ascending, microseconds since 1970-01-01 UTC.
        bars: (``BAR_FIELDS``, n) float64.
        features: (``INDICATOR_FIELDS``, n) float64, NaN in warm-up.
        created_us: the revision they are published and stored with, microseconds since 1970-01-01 UTC.
        made_of: (2, n) int64, the source bars present and those an open market makes; None for ingested bars.
        window: what is published.
    """

    symbol: Symbol
    timeframe: Timeframe
    opens_us: IntArray
    bars: FloatArray
    features: FloatArray
    created_us: int
    made_of: IntArray | None
    window: Window


class RollingColumns:
    """The newest rows of several columns, each column contiguous in memory; rows are appended at the end.

    At least ``keep`` rows before the newest ones stay available.

    Args:
        rows: (columns, n), the initial rows; their dtype is kept.
        spare: rows of free space at each reallocation, which also drops the oldest rows.
    """

    def __init__(self, rows: npt.NDArray[Any], *, keep: int, spare: int) -> None:
        self._keep, self._spare = keep, spare
        self._cells, self._end = rows, int(rows.shape[1])
        self.rows = rows
        """(columns, rows held), oldest first; a view, valid until the next ``extend``."""
        self.dropped = 0
        """How many rows were appended and are no longer held."""

    def extend(self, rows: npt.NDArray[Any]) -> None:
        """Appends ``rows``, (columns, n)."""
        added = rows.shape[1]
        if self._end + added > self._cells.shape[1]:
            kept = self.rows[:, -self._keep :]
            self.dropped += self._end - kept.shape[1]
            self._cells = np.empty((len(rows), kept.shape[1] + added + self._spare), dtype=kept.dtype)
            self._cells[:, : kept.shape[1]] = kept
            self._end = int(kept.shape[1])
        self._cells[:, self._end : self._end + added] = rows
        self._end += added
        self.rows = self._cells[:, : self._end]


class LiveSeries:
    """One symbol and timeframe in memory: the tail its next bar is computed from, and the window to publish with it.

    Args:
        source: the ingested timeframe that the bars are derived from; None when they are ingested.
        opens_us: (n,) int64 open times of the tail, ascending, microseconds since 1970-01-01 UTC.
        bars: (``BAR_FIELDS``, n) float64.
        state: (``STATE_FIELDS``, n) float64, as stored; NaN where nothing is stored.
        whole: whether the tail begins where history does.
        window: the newest bars with their indicators; None when there are none.
        settled_us: close of the newest bar that needs no more source bars (of a derived series), microseconds since
            1970-01-01 UTC.

    Attributes:
        step_us: length of a bar, microseconds.
        close_us: close of the newest bar, microseconds since 1970-01-01 UTC; 0 when there is none.
        due: of a derived series: the first source bar that is not settled, and the close of the bar it belongs to.
        withdrawn_us: open of a bar, up to which some that would follow the newest one were withdrawn; 0 for none. The
            batch flow knows which of them may come again. Microseconds since 1970-01-01 UTC.
    """

    def __init__(
        self,
        symbol: Symbol,
        timeframe: Timeframe,
        source: Timeframe | None,
        *,
        opens_us: IntArray,
        bars: FloatArray,
        state: FloatArray,
        whole: bool,
        window: Window | None,
        settled_us: int,
    ) -> None:
        self.symbol, self.timeframe, self.source, self.settled_us = symbol, timeframe, source, settled_us
        self.due: tuple[int, int] | None = None
        self.withdrawn_us = 0
        self.step_us = timeframe.microseconds
        self.close_us = int(opens_us[-1]) + self.step_us if len(opens_us) else 0
        cells = np.concatenate([bars, _days(symbol.session, timeframe, opens_us)[None], state])
        recent = (
            np.stack([window.columns[name] for name in WINDOW_FIELDS]) if window else np.empty((len(WINDOW_FIELDS), 0))
        )
        self._whole = whole
        self._opens = RollingColumns(opens_us[None], keep=TAIL_BARS, spare=1024)
        self._cells = RollingColumns(cells, keep=TAIL_BARS, spare=1024)
        self._window = RollingColumns(recent, keep=WINDOW_BARS, spare=256)
        self._reaches: Reaches = {}
        self._created_us = window.created_us if window else 0

    @property
    def opens_us(self) -> IntArray:
        """(n,) int64 open times of the tail, microseconds since 1970-01-01 UTC."""
        opens: IntArray = self._opens.rows[0]
        return opens

    @property
    def bars(self) -> FloatArray:
        """(``BAR_FIELDS``, n) float64 of the tail."""
        return self._cells.rows[_BARS]

    @property
    def is_whole(self) -> bool:
        """Whether the tail begins where history does."""
        return self._whole and not self._opens.dropped

    def extend(self, opens_us: IntArray, bars: FloatArray) -> FloatArray:
        """Appends bars that follow the newest one, and computes their indicators.

        Returns:
            (``INDICATOR_FIELDS``, n) float64, NaN in warm-up. The window is unchanged: ``admit`` adds what passes the
            gate.

        Raises:
            TailTooShort: all of history is needed; the series must be loaded again.
        """
        unknown = np.full((len(STATE_FIELDS), len(opens_us)), np.nan)
        self._opens.extend(opens_us[None])
        self._cells.extend(np.concatenate([bars, _days(self.symbol.session, self.timeframe, opens_us)[None], unknown]))
        self.close_us = int(opens_us[-1]) + self.step_us
        opens, columns = self.opens_us, self._columns()
        first = len(opens) - len(opens_us)
        features = newest(
            first, columns, opens, self.timeframe, whole=self.is_whole, stored=columns, reaches=self._reaches
        )
        self._cells.rows[_STATE, first:] = features[_STATE_ROWS]
        return features

    def may_be_nan(self, features: FloatArray) -> BoolArray | None:
        """Where the newest bars' indicators may be undefined, (fields, n) bool; None when all of them are defined."""
        lacking = np.isnan(features).any(axis=1)
        if not lacking.any():
            return None
        n, columns, size = features.shape[1], self._columns(), len(self.opens_us)
        first = size - n
        days = columns["session_day"]
        start = max(0, min(first - _LONGEST_LOOKBACK - 1, int(np.searchsorted(days, days[first]))))
        tail = {name: column[start:] for name, column in columns.items()}
        position = self._cells.dropped + np.arange(start, size)
        allowed = np.zeros(features.shape, dtype=np.bool_)
        for name in {PRODUCER[INDICATOR_FIELDS[i]].name for i in np.flatnonzero(lacking)}:
            at, indicator = _FIRST_OUTPUT[name], INDICATORS[name]
            allowed[at : at + len(indicator.outputs)] = undefined_bars(indicator, tail, position)[first - start :]
        return allowed

    def admit(self, opens_us: IntArray, bars: FloatArray, features: FloatArray, created_us: int) -> Window:
        """Appends bars with their indicators to the window. Returns the window to publish."""
        self._window.extend(np.concatenate([(opens_us / 1e6)[None], bars, features]))
        self._created_us = max(self._created_us, created_us)
        cells = self._window.rows[:, -WINDOW_BARS:]
        return Window(
            event_us=int(opens_us[-1]) + self.step_us,
            created_us=self._created_us,
            columns=dict(zip(WINDOW_FIELDS, cells, strict=True)),
        )

    def _columns(self) -> dict[str, FloatArray]:
        return dict(zip(_COLUMNS, self._cells.rows, strict=True))


def _days(session: Session, timeframe: Timeframe, opens_us: IntArray) -> FloatArray:
    if len(opens_us) == 1:
        return np.array([_day(session, timeframe, int(opens_us[0]))])
    return session_day(session, opens_us, timeframe).astype(np.float64)


@lru_cache(maxsize=4096)  # hundreds of symbols are at the same bar, and a zone's clock is slow to read
def _day(session: Session, timeframe: Timeframe, open_us: int) -> float:
    return float(session_day(session, np.array([open_us]), timeframe)[0])


# ------------------------------------------------------------------------------------------------- what bars make


@lru_cache(maxsize=4096)
def _bar_gate(symbol: Symbol, timeframe: Timeframe) -> FastRules:
    return FastRules(bar_rules(symbol, timeframe), (*BAR_FIELDS, *DERIVED), time="open_time")


@lru_cache(maxsize=2)
def _indicator_gate(*, below_zero: bool) -> FastRules:
    return FastRules(indicator_rules(below_zero=below_zero), INDICATOR_FIELDS, time="event_timestamp")


_UNKNOWN = np.array(np.nan)


def bad_bars(symbol: Symbol, timeframe: Timeframe, opens: IntArray, bars: FloatArray, now_us: int) -> BoolArray:
    """Which bars the gate rejects, each judged on its own, (n,) bool."""
    table = np.empty((len(BAR_FIELDS) + len(DERIVED), len(opens)))
    table[: len(BAR_FIELDS)] = bars
    grid, closed_for_s, idle, unit_factor = table[len(BAR_FIELDS) :]
    grid[:] = on_grid(symbol.session, timeframe, opens)
    closed_for_s[:] = (now_us - opens - timeframe.microseconds) / 1e6
    idle[:] = idle_bars(symbol, timeframe, opens, bars, _UNKNOWN)
    unit_factor[:] = 1.0  # ``unknown_to`` compares it with the bars before it
    return _bar_gate(symbol, timeframe).bad_rows(table)


def unknown_to(series: LiveSeries, bars: Sequence[LiveBar]) -> list[LiveBar]:
    """The bars that follow the newest of the series, ascending; of two for one open time, the later arrival.

    Bars that are stored already, with the same values, are left out.

    Raises:
        NeedsBatchFlow: a bar corrects a stored one, fills a gap before the newest, may have been withdrawn, or may be
            in another unit than the bars before it.
    """
    latest = {bar.open_us: bar for bar in bars}
    for open_us in [us for us in latest if us < series.close_us]:
        opens = series.opens_us
        at = int(np.searchsorted(opens, open_us))
        if opens[at] != open_us or not same_number(series.bars[:, at], np.array(latest[open_us].values)).all():
            raise NeedsBatchFlow
        del latest[open_us]
    new = [latest[us] for us in sorted(latest)]
    if new and new[0].open_us <= series.withdrawn_us:
        raise NeedsBatchFlow
    if new and series.bars.shape[1] and is_suspect(float(series.bars[3, -1]), np.array([bar.values for bar in new]).T):
        raise NeedsBatchFlow
    return new


def take(
    series: LiveSeries, opens: IntArray, bars: FloatArray, created_us: int, made_of: IntArray | None = None
) -> Fresh:
    """Computes the indicators of new good bars and appends both to the series.

    Raises:
        NeedsBatchFlow: all of history is needed, or the gate rejects an indicator.
    """
    try:
        features = series.extend(opens, bars)
    except TailTooShort:
        raise NeedsBatchFlow from None
    gate = _indicator_gate(below_zero=series.symbol.may_be_below_zero)
    allowed = series.may_be_nan(features)
    if gate.bad_rows(features, None if allowed is None else allowed[[*gate.optional.values()]]).any():
        raise NeedsBatchFlow
    window = series.admit(opens, bars, features, created_us)
    return Fresh(
        symbol=series.symbol,
        timeframe=series.timeframe,
        opens_us=opens,
        bars=bars,
        features=features,
        created_us=created_us,
        made_of=made_of,
        window=window,
    )


def derive(
    source: LiveSeries, target: LiveSeries, created_us: int, *, min_completeness: float, now: datetime
) -> tuple[Fresh | None, pd.DataFrame | None]:
    """The bars of a longer timeframe that have closed since the last call.

    Returns:
        The new bars, and those that lack too many source bars, as ``quarantine_rows`` takes them; None for none.

    Raises:
        NeedsBatchFlow: as ``take``, or the gate rejects a derived bar.
    """
    session, opens = source.symbol.session, source.opens_us
    at = int(np.searchsorted(opens, target.settled_us))
    if at == len(opens):
        return None, None
    if at == 0 and not source.is_whole:
        raise NeedsBatchFlow  # the derived bar begins before the tail
    first = int(opens[at])
    if target.due is None or target.due[0] != first:
        begin = grid_open(session, target.timeframe, np.array([first]))
        target.due = first, int(bar_close(session, target.timeframe, begin)[0])
    now_us, due_us = int(now.timestamp() * 1e6), target.due[1]
    if source.close_us < due_us and (
        now_us < due_us or complete_until(session, source.timeframe, int(opens[-1]), now_us) < due_us
    ):
        return None, None
    rows = pd.DataFrame(dict(zip(BAR_FIELDS, source.bars[:, at:], strict=True)))
    rows.insert(0, "open_time", pd.DatetimeIndex(opens[at:].view("datetime64[us]")).tz_localize("UTC"))
    try:
        derived = step.derive(rows, source.symbol, source.timeframe, target.timeframe, now)
    except ValueError as error:  # bars of this source do not fill bars of this timeframe, and never will
        _log.warning("%s: %s", source.symbol.name, error)
        target.settled_us = np.iinfo(np.int64).max
        return None, None
    if derived.empty:  # nothing but bars of closed hours
        target.settled_us = due_us
        return None, None
    target.settled_us = int(bar_close(session, target.timeframe, opens_us(derived)[-1:])[0])
    good, short = step.complete(derived, min_completeness)
    rejected = short if len(short) else None
    if good.empty:
        return None, rejected
    derived_opens, bars = opens_us(good), good[list(BAR_FIELDS)].to_numpy().T.copy()
    if bad_bars(target.symbol, target.timeframe, derived_opens, bars, now_us).any():
        raise NeedsBatchFlow
    made_of = good[["source_bars", "expected_bars"]].to_numpy(dtype=np.int64).T
    return take(target, derived_opens, bars, created_us, made_of), rejected
