"""One symbol and timeframe in memory: what its next bar is computed from, and the window that is published with it.

All of it comes from the offline store and from bars that passed the gate since, so it can be thrown away at any moment
and read again.
"""

from __future__ import annotations

from functools import lru_cache

import numpy as np
import numpy.typing as npt

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
from feature_repo.sessions import session_day
from feature_repo.stores.delta.window import Window
from flows.compute.increment import LONGEST, STATE_FIELDS, stretch_bars, warm_up
from flows.quality.warm_up import undefined_bars
from flows.stream.columns import RollingColumns
from flows.stream.newest import newest

FloatArray = npt.NDArray[np.float64]
BoolArray = npt.NDArray[np.bool_]
IntArray = npt.NDArray[np.int64]

TAIL_BARS = stretch_bars(LONGEST) + warm_up(LONGEST)
"""Bars before a new one that no indicator looks beyond."""
_COLUMNS = (*BAR_FIELDS, "session_day", *STATE_FIELDS)
_STATE = slice(len(BAR_FIELDS) + 1, None)
_STATE_ROWS = [INDICATOR_FIELDS.index(name) for name in STATE_FIELDS]
_LONGEST_LOOKBACK = max(i.lookback for i in INDICATORS.values())
_FIRST_OUTPUT = {i.name: INDICATOR_FIELDS.index(i.outputs[0]) for i in INDICATORS.values()}


class Series:
    """The tail and the window of one symbol and timeframe.

    Args:
        source: the ingested timeframe that its bars are derived from; None when they are ingested.
        opens_us: (n,) open times of the tail, ascending, microseconds since 1970-01-01 UTC.
        bars: (``BAR_FIELDS``, n) float64.
        state: (``STATE_FIELDS``, n) float64, as stored; NaN where nothing is.
        whole: whether the tail begins where history does.
        window: the newest bars with their indicators; None when there are none.
        settled_us: close of the newest bar that needs no more source bars (of a derived series), same unit.
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
        """Of a derived series: the first source bar that is not settled, and when the bar closes that it lies in."""
        days = session_day(symbol.session, opens_us).astype(np.float64)
        cells = np.concatenate([bars, days[None], state])
        self._whole = whole
        self._opens = RollingColumns(opens_us[None], keep=TAIL_BARS, spare=1024)
        self._cells = RollingColumns(cells, keep=TAIL_BARS, spare=1024)
        held = np.empty((len(WINDOW_FIELDS), 0))
        if window is not None:
            held = np.stack([window.columns[name] for name in WINDOW_FIELDS])
        self._window = RollingColumns(held, keep=WINDOW_BARS, spare=256)
        self._created_us = window.created_us if window else 0

    @property
    def opens_us(self) -> IntArray:
        """(n,) open times of the tail."""
        opens: IntArray = self._opens.rows[0]
        return opens

    @property
    def bars(self) -> FloatArray:
        """(``BAR_FIELDS``, n) of the tail."""
        return self._cells.rows[: len(BAR_FIELDS)]

    @property
    def end_us(self) -> int:
        """Open of the newest bar; -1 when there is none."""
        return int(self._opens.rows[0, -1]) if len(self._opens) else -1

    @property
    def is_whole(self) -> bool:
        """Whether the tail begins where history does."""
        return self._whole and not self._opens.dropped

    def extend(self, opens_us: IntArray, bars: FloatArray) -> FloatArray:
        """Takes bars that follow upon its newest, and computes their indicators.

        Returns:
            (``INDICATOR_FIELDS``, n) float64. The window is as before: ``admit`` adds what the gate lets pass.

        Raises:
            TailTooShort: all of history is needed; the series is of no more use.
        """
        unknown = np.full((len(STATE_FIELDS), len(opens_us)), np.nan)
        self._opens.extend(opens_us[None])
        self._cells.extend(np.concatenate([bars, _days(self.symbol.session, opens_us)[None], unknown]))
        first = len(self._opens) - len(opens_us)
        columns = self._columns()
        features = newest(first, columns, self.opens_us, self.timeframe, whole=self.is_whole, stored=columns)
        self._cells.rows[_STATE, first:] = features[_STATE_ROWS]
        return features

    def may_be_nan(self, features: FloatArray) -> BoolArray | None:
        """Where the newest bars' indicators may have no value, (fields, n); None when all of them have one."""
        lacking = np.isnan(features).any(axis=1)
        if not lacking.any():
            return None
        n, columns = features.shape[1], self._columns()
        first = len(self._opens) - n
        days = columns["session_day"]
        start = max(0, min(first - _LONGEST_LOOKBACK - 1, int(np.searchsorted(days, days[first]))))
        tail = {name: column[start:] for name, column in columns.items()}
        position = self._cells.dropped + np.arange(start, len(self._opens))
        allowed = np.zeros(features.shape, dtype=np.bool_)
        for name in {PRODUCER[INDICATOR_FIELDS[i]].name for i in np.flatnonzero(lacking)}:
            at, indicator = _FIRST_OUTPUT[name], INDICATORS[name]
            allowed[at : at + len(indicator.outputs)] = undefined_bars(indicator, tail, position)[first - start :]
        return allowed

    def admit(self, opens_us: IntArray, bars: FloatArray, features: FloatArray, created_us: int) -> Window:
        """Adds bars with their indicators to the window; the window to be published."""
        self._window.extend(np.concatenate([(opens_us / 1e6)[None], bars, features]))
        self._created_us = max(self._created_us, created_us)
        cells = self._window.rows[:, -WINDOW_BARS:]
        return Window(
            event_us=int(opens_us[-1]) + self.timeframe.microseconds,
            created_us=self._created_us,
            columns=dict(zip(WINDOW_FIELDS, cells, strict=True)),
        )

    def _columns(self) -> dict[str, FloatArray]:
        return dict(zip(_COLUMNS, self._cells.rows, strict=True))


def _days(session: Session, opens_us: IntArray) -> FloatArray:
    if len(opens_us) == 1:
        return np.array([_day(session, int(opens_us[0]))])
    return session_day(session, opens_us).astype(np.float64)


@lru_cache(maxsize=4096)  # hundreds of symbols are at the same bar, and a zone's clock is slow to ask
def _day(session: Session, open_us: int) -> float:
    return float(session_day(session, np.array([open_us]))[0])
