"""Bars with the history that an indicator needs before them. Blocking: called in the client's threads."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from datetime import UTC, datetime, timedelta

import numpy as np

from feature_repo.catalog import BAR_FIELDS, PRODUCER, Symbol, Timeframe
from feature_repo.indicators import compute, forgets, kernel_inputs
from feature_repo.stores.tables import OfflineTables
from feature_repo.stores.window import column, microseconds
from fsclient.answers.values import NO_BAR, LatestValues, RangeValues
from fsclient.questions.latest import LatestRequest
from fsclient.questions.ranges import ComputeRequest, RangeRequest

_FURTHER = 4
"""How many times the warm-up is read when it does not suffice (``Computable.forgets``), before all of history is."""
_LONGEST_S = 150 * 365 * 86_400


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
    bars, around = warm_up, start or end
    while True:
        since = None if bars is None or around is None else _bars_before(around, timeframe, bars)
        rows = tables.read_range(
            "bars", timeframe=timeframe.name, symbol=symbol.name, start=since, end=end, columns=BAR_FIELDS
        )
        opens = microseconds(rows, "open_time")
        before = len(opens) - 1 if start is None else int(np.searchsorted(opens, _micros(start)))
        if since is None or before >= (warm_up or 0):
            return RangeValues(opens_us=opens, columns={name: column(rows, name) for name in BAR_FIELDS})
        bars = bars * 8 if bars else None


def _bars_before(start: datetime, timeframe: Timeframe, bars: int) -> datetime | None:
    """A moment most likely this many bars before ``start``; None when prices do not go that far back."""
    back_s = timeframe.seconds * bars * 4 + 5 * 86_400  # a market is open at least a quarter of the time, most days
    return start - timedelta(seconds=back_s) if back_s < _LONGEST_S else None


def history_before(tables: OfflineTables, span: RangeRequest, warm_up: int | None) -> RangeValues:
    """The bars of ``span`` with those before them, as ``read_history``."""
    start, end = span.start.to_pydatetime(), span.end.to_pydatetime()
    return read_history(tables, span.symbol, span.timeframe, start=start, end=end, warm_up=warm_up)


def history_for(tables: OfflineTables, request: ComputeRequest, span: RangeRequest) -> RangeValues:
    """The bars of ``span``, and enough before them that nothing earlier could change the feature's values."""
    what, parameters, start_us = request.what, request.parameters, span.start.value // 1000

    def forgets_before(bars: RangeValues) -> bool:
        before = int(np.searchsorted(bars.opens_us, start_us))
        columns = {name: bars.columns[name][:before] for name in BAR_FIELDS}
        inputs = kernel_inputs(span.symbol.session, span.timeframe, bars.opens_us[:before], columns)
        return before < (what.warm_up(parameters) or 0) or what.forgets(inputs, parameters)  # fewer are all there are

    return _settled(lambda warm_up: history_before(tables, span, warm_up), what.warm_up(parameters), forgets_before)


def _settled(
    read: Callable[[int | None], RangeValues], warm_up: int | None, forgets_before: Callable[[RangeValues], bool]
) -> RangeValues:
    """What ``read`` returns for the warm-up, for more of it where that does not suffice, or for all of history."""
    for bars in () if warm_up is None else (warm_up, warm_up * _FURTHER):
        history = read(bars)
        if forgets_before(history):
            return history
    return read(None)


def compute_range(bars: RangeValues, request: ComputeRequest, span: RangeRequest) -> RangeValues:
    """The feature over the bars of ``span``, which is the request's own or less of it.

    Args:
        bars: those of ``span``, and before them as many as the feature needs.
    """
    inputs = kernel_inputs(
        span.symbol.session, span.timeframe, bars.opens_us, {name: bars.columns[name] for name in BAR_FIELDS}
    )
    outputs = request.what.compute(inputs, request.parameters)
    first = np.searchsorted(bars.opens_us, span.start.value // 1000, side="left")
    return RangeValues(
        opens_us=bars.opens_us[first:], columns={name: values[first:] for name, values in outputs.items()}
    )


def recompute_latest(tables: OfflineTables, request: LatestRequest, now_us: int) -> LatestValues:
    """The features of the newest bar that has closed by ``now_us``, computed here from the offline store's bars."""
    n = len(request.symbols)
    values = np.full((n, len(request.columns)), np.nan)
    event_us = np.full((n, len(request.views)), NO_BAR, dtype=np.int64)
    for i, symbol in enumerate(request.symbols):
        for timeframe, views in request.by_timeframe.items():
            wanted = [j for j, (view, _) in enumerate(request.columns) if view.timeframe is timeframe]
            end = _moment(now_us - timeframe.microseconds)
            newest, close_us = _newest(tables, symbol, timeframe, [request.columns[j][1] for j in wanted], end)
            if close_us != NO_BAR:
                values[i, wanted], event_us[i, views] = newest, close_us
    return LatestValues(values=values, stored=event_us[:, request.at] != NO_BAR, event_us=event_us)


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
    tables: OfflineTables, symbol: Symbol, timeframe: Timeframe, fields: list[str], end: datetime
) -> tuple[list[float], int]:
    indicators = {PRODUCER[field].name: PRODUCER[field] for field in fields if field in PRODUCER}.values()
    needed = warm_up_of(fields)

    def forgets_before(bars: RangeValues) -> bool:
        inputs = kernel_inputs(symbol.session, timeframe, bars.opens_us, bars.columns)
        before = {name: values[:-1] for name, values in inputs.items()}
        return len(bars.opens_us) <= (needed or 0) or all(forgets(indicator, before) for indicator in indicators)

    def read(warm_up: int | None) -> RangeValues:
        return read_history(tables, symbol, timeframe, start=None, end=end, warm_up=warm_up)

    bars = _settled(read, needed, forgets_before)
    if not len(bars.opens_us):
        return [], NO_BAR
    inputs = kernel_inputs(symbol.session, timeframe, bars.opens_us, bars.columns)
    columns = dict(bars.columns)
    for indicator in indicators:
        columns |= compute(indicator, inputs)
    return [float(columns[field][-1]) for field in fields], int(bars.opens_us[-1]) + timeframe.microseconds


def _moment(us: int) -> datetime:
    return datetime.fromtimestamp(0, UTC) + timedelta(microseconds=us)


def _micros(moment: datetime) -> int:
    return int((moment - datetime.fromtimestamp(0, UTC)) / timedelta(microseconds=1))
