"""The hot path: closed bars of one symbol through the gate, into indicators and derived timeframes.

Pure: it reads no clock and no store. It does the ordinary only, what follows upon the newest bar and passes the gate;
whatever is not ordinary raises ``NeedsBatchFlow`` and is the slow path's: late bars, corrections
and bars whose indicators are bad. So there is one place where each of them is decided.
"""

from __future__ import annotations

import logging
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from functools import lru_cache

import numpy as np
import numpy.typing as npt
import pandas as pd

from feature_repo.catalog import BAR_FIELDS, INDICATOR_FIELDS, Symbol, Timeframe
from feature_repo.sessions import bar_close, grid_open, on_grid
from feature_repo.stores.delta.window import Window
from flows.compute import step  # what the batch flow makes of source bars, and which of it counts
from flows.compute.agreement import same_number
from flows.compute.derive import opens_us
from flows.compute.increment import TailTooShort
from flows.quality import bar_rules, indicator_rules
from flows.quality.fast_rules import FastRules
from flows.quality.rules import CLOSED_FOR_S, ON_GRID
from flows.runs.plan import complete_until
from flows.stream.bar import LiveBar
from flows.stream.series import Series

FloatArray = npt.NDArray[np.float64]
IntArray = npt.NDArray[np.int64]
BoolArray = npt.NDArray[np.bool_]
_log = logging.getLogger("fstore")


class NeedsBatchFlow(Exception):  # noqa: N818  # answered by the batch flow
    """Something that the batch flow has to deal with; the series that met it is of no more use."""


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Fresh:
    """New bars of one series, to be published and stored.

    Attributes:
        opens_us: (n,) ascending.
        bars: (``BAR_FIELDS``, n) float64.
        features: (``INDICATOR_FIELDS``, n) float64.
        created_us: when they were written, as they are published and stored.
        made_of: (2, n), source bars that were there and that an open market makes; None for ingested bars.
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


@lru_cache(maxsize=4096)
def _bar_gate(symbol: Symbol, timeframe: Timeframe) -> FastRules:
    return FastRules(bar_rules(symbol, timeframe), (*BAR_FIELDS, ON_GRID, CLOSED_FOR_S), time="open_time")


@lru_cache(maxsize=1)
def _indicator_gate() -> FastRules:
    return FastRules(indicator_rules(), INDICATOR_FIELDS, time="event_timestamp")


def bad_bars(symbol: Symbol, timeframe: Timeframe, opens: IntArray, bars: FloatArray, now_us: int) -> BoolArray:
    """Which bars the gate rejects, each judged by itself, (n,)."""
    grid = on_grid(symbol.session, timeframe, opens).astype(np.float64)
    closed_for_s = (now_us - opens - timeframe.microseconds) / 1e6
    return _bar_gate(symbol, timeframe).bad_rows(np.concatenate([bars, grid[None], closed_for_s[None]]))


def unknown_to(series: Series, bars: Sequence[LiveBar]) -> list[LiveBar]:
    """The bars that follow upon the series' newest, ascending, each once: of two the one that came later.

    Bars that are stored already, with the same values, are left out.

    Raises:
        NeedsBatchFlow: one corrects a stored bar, or fills a hole before the newest.
    """
    newest = {bar.open_us: bar for bar in bars}
    opens, held = series.opens_us, series.bars
    for open_us in [us for us in newest if us <= series.end_us]:
        at = int(np.searchsorted(opens, open_us))
        if opens[at] != open_us or not same_number(held[:, at], np.array(newest[open_us].values)).all():
            raise NeedsBatchFlow
        del newest[open_us]
    return [newest[us] for us in sorted(newest)]


def take(series: Series, opens: IntArray, bars: FloatArray, created_us: int, made_of: IntArray | None = None) -> Fresh:
    """Computes the indicators of new good bars and adds them to the series.

    Raises:
        NeedsBatchFlow: all of history is needed, or the gate rejects an indicator.
    """
    try:
        features = series.extend(opens, bars)
    except TailTooShort:
        raise NeedsBatchFlow from None
    if _indicator_gate().bad_rows(features, _allowed(series, features)).any():
        raise NeedsBatchFlow
    window = series.admit(opens, bars, features, created_us)
    return Fresh(symbol=series.symbol, timeframe=series.timeframe, opens_us=opens, bars=bars, features=features,
                 created_us=created_us, made_of=made_of, window=window)  # fmt: skip


def _allowed(series: Series, features: FloatArray) -> BoolArray | None:
    allowed = series.may_be_nan(features)
    return None if allowed is None else allowed[[*_indicator_gate().optional.values()]]


def derive(
    source: Series, target: Series, created_us: int, *, min_completeness: float, now: datetime
) -> tuple[Fresh | None, pd.DataFrame | None]:
    """What of a longer timeframe the source's bars have closed since the last time.

    Returns:
        The new bars, and those that lack too many source bars, as ``quarantine_rows`` takes them; None for none.

    Raises:
        NeedsBatchFlow: as ``take``, or the gate rejects a derived bar.
    """
    session = source.symbol.session
    at = int(np.searchsorted(source.opens_us, target.settled_us))
    if at == len(source.opens_us):
        return None, None
    if at == 0 and not source.is_whole:
        raise NeedsBatchFlow  # it begins before the tail
    first = int(source.opens_us[at])
    if target.due is None or target.due[0] != first:
        begin = grid_open(session, target.timeframe, np.array([first]))
        target.due = first, int(bar_close(session, target.timeframe, begin)[0])
    now_us = int(now.timestamp() * 1e6)
    told_us = complete_until(session, source.timeframe, source.end_us, now_us)
    if max(source.end_us + source.timeframe.microseconds, told_us) < target.due[1]:
        return None, None
    rows = pd.DataFrame(dict(zip(BAR_FIELDS, source.bars[:, at:], strict=True)))
    rows.insert(0, "open_time", pd.DatetimeIndex(source.opens_us[at:].view("datetime64[us]")).tz_localize("UTC"))
    try:
        derived = step.derive(rows, source.symbol, source.timeframe, target.timeframe, now)
    except ValueError as error:  # these bars do not fill those, and never will
        _log.warning("%s: %s", source.symbol.name, error)
        target.settled_us = np.iinfo(np.int64).max
        return None, None
    if derived.empty:
        return None, None
    target.settled_us = int(bar_close(session, target.timeframe, opens_us(derived)[-1:])[0])
    good, short = step.complete(derived, min_completeness)
    rejected = short if len(short) else None
    if good.empty:
        return None, rejected
    opens, bars = opens_us(good), good[list(BAR_FIELDS)].to_numpy().T.copy()
    if bad_bars(target.symbol, target.timeframe, opens, bars, now_us).any():
        raise NeedsBatchFlow
    made_of = good[["source_bars", "expected_bars"]].to_numpy(dtype=np.int64).T
    return take(target, opens, bars, created_us, made_of), rejected
