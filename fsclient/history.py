"""Bars with the history that an indicator needs before them. Blocking: called in the client's threads."""

from __future__ import annotations

from collections.abc import Iterable
from datetime import UTC, datetime, timedelta

import numpy as np

from feature_repo.catalog import BAR_FIELDS, PRODUCER, Symbol, Timeframe, View
from feature_repo.indicators import compute
from feature_repo.kernel_inputs import kernel_inputs
from feature_repo.stores.tables import OfflineTables
from feature_repo.stores.window import column, microseconds
from fsclient.offline import RangeValues
from fsclient.online import NO_BAR, LatestValues
from fsclient.request import LatestRequest


def read_history(
    tables: OfflineTables,
    symbol: Symbol,
    timeframe: Timeframe,
    *,
    start: datetime | None,
    end: datetime | None,
    warm_up: int | None,
) -> RangeValues:
    """The bars of ``[start, end]`` (open times) and at least ``warm_up`` bars before them, or all there are.

    Args:
        start: None for the newest bar alone.
        warm_up: None for all history.
    """
    span = {"timeframe": timeframe.name, "symbols": [symbol.name], "end": end}
    if start is None:
        opens = microseconds(tables.read("bars", columns=[], **span), "open_time")  # type: ignore[arg-type]
        start = _moment(int(opens[-1])) if len(opens) else end
    bars = warm_up
    while True:
        since = None
        if bars is not None and start is not None:  # a market is open at least a quarter of the time, most days
            since = start - timedelta(seconds=timeframe.seconds * bars * 4) - timedelta(days=5)
        rows = tables.read("bars", columns=BAR_FIELDS, start=since, **span)  # type: ignore[arg-type]
        opens = microseconds(rows, "open_time")
        before = int(np.searchsorted(opens, _micros(start))) if start is not None else len(opens)
        if since is None or before >= (warm_up or 0):
            return RangeValues(opens_us=opens, columns={name: column(rows, name) for name in BAR_FIELDS})
        bars = bars * 8 if bars is not None and bars < 100_000 else None


def recompute_latest(tables: OfflineTables, request: LatestRequest) -> LatestValues:
    """The newest closed bar's features, computed here from the offline store's bars."""
    n, m = len(request.symbols), len(request.columns)
    values, event_us = np.full((n, m), np.nan), np.full((n, m), NO_BAR, dtype=np.int64)
    for i, symbol in enumerate(request.symbols):
        for timeframe in dict.fromkeys(view.timeframe for view, _ in request.columns):
            wanted = [j for j, (view, _) in enumerate(request.columns) if view.timeframe is timeframe]
            newest, close_us = _newest(tables, symbol, timeframe, [request.columns[j] for j in wanted])
            if close_us != NO_BAR:
                values[i, wanted], event_us[i, wanted] = newest, close_us
    return LatestValues(values=values, stored=event_us != NO_BAR, event_us=event_us)


def warm_up_of(fields: Iterable[str]) -> int | None:
    """Bars that must precede a bar for all of ``fields``; None when one of them needs all history."""
    longest = 0
    for field in fields:
        needed = PRODUCER[field].warm_up if field in PRODUCER else 0
        if needed is None:
            return None
        longest = max(longest, needed)
    return longest


def _newest(
    tables: OfflineTables, symbol: Symbol, timeframe: Timeframe, columns: list[tuple[View, str]]
) -> tuple[list[float], int]:
    fields = [field for _, field in columns]
    bars = read_history(tables, symbol, timeframe, start=None, end=None, warm_up=warm_up_of(fields))
    if not len(bars.opens_us):
        return [], NO_BAR
    inputs = kernel_inputs(symbol.session, bars.opens_us, bars.columns)
    found = dict(bars.columns)
    for indicator in {PRODUCER[field].name: PRODUCER[field] for field in fields if field in PRODUCER}.values():
        found |= compute(indicator, inputs)
    return [float(found[field][-1]) for field in fields], int(bars.opens_us[-1]) + timeframe.microseconds


def _moment(us: int) -> datetime:
    return datetime.fromtimestamp(0, UTC) + timedelta(microseconds=us)


def _micros(moment: datetime) -> int:
    return int((moment - datetime.fromtimestamp(0, UTC)) / timedelta(microseconds=1))
