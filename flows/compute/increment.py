"""Indicators of some bars of a history, the same to the bit wherever a run begins and ends.

Every indicator is computed in stretches that begin at fixed moments: a stretch is a whole number of timeframes since
1970, and is computed from as many bars before it as the indicator declares as its warm-up. So a value depends on the
bars alone, and not on how they were cut into runs: bar by bar, once a day, or ten years at once return the same bits.
Within the promise (``feature_repo.agreement.RELATIVE``) they are those of a computation over all history at once.

The quotient of two decaying averages (``Kind.is_quotient``) needs more bars where the market hardly moves: its stretch
reaches back until what lies before is proven not to matter, in a dead market to the beginning of history. That again
depends on the bars alone.

A cumulative indicator never forgets, so it goes on from its stored state, as its kind says (``Kind.resume``).
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping

import numpy as np
import numpy.typing as npt
import pandas as pd

from feature_repo.agreement import FloatArray
from feature_repo.catalog import BAR_FIELDS, INDICATORS, Indicator, Symbol, Timeframe
from feature_repo.indicators import compute, forgets, kernel_inputs
from flows.compute.derive import opens_us

Times = npt.NDArray[np.int64]

STATE_FIELDS: tuple[str, ...] = tuple(n for i in INDICATORS.values() if i.warm_up is None for n in i.outputs)
"""The fields of cumulative indicators, whose stored values an increment goes on from."""
_STATE_BARS = 2047  # SuperTrend turns every few dozen bars, so both of its bands meet within this many
_SHORTEST = 1024
_REACHES = (2, 4, 8)
"""How many times its warm-up a quotient reaches back, in turn, before it takes all of history. Once the warm-up is too
little for most series: between pasts with moves as large as the price, and bars that move by a ten-thousandth of it."""


class TailTooShort(Exception):  # noqa: N818  # answered by reading more
    """The rows before the first new bar do not suffice to continue an indicator: all of history is needed."""


def warm_up(indicator: Indicator) -> int:
    """How many bars before a stretch it is computed from, in an ordinary market."""
    if indicator.warm_up is None:
        return _STATE_BARS
    return indicator.warm_up * (_REACHES[0] if indicator.kind.is_quotient else 1)


def stretch_bars(indicator: Indicator) -> int:
    """The length of a stretch, in timeframes: at least the warm-up, so that little is computed twice."""
    return max(_SHORTEST, 1 << warm_up(indicator).bit_length())


LONGEST: Indicator = max(INDICATORS.values(), key=lambda i: (stretch_bars(i), warm_up(i)))
"""The indicator that needs the most bars before a new one."""


def stretch_start(indicator: Indicator, timeframe: Timeframe, open_us: int) -> int:
    """When the stretch that contains a bar begins, microseconds since 1970-01-01 UTC."""
    step = stretch_bars(indicator) * timeframe.microseconds
    return open_us // step * step


def input_columns(bars: pd.DataFrame, symbol: Symbol, timeframe: Timeframe) -> dict[str, FloatArray]:
    """What the kernels take, from the bars table of one symbol and timeframe: name -> (rows,) float64."""
    columns = {name: bars[name].to_numpy() for name in BAR_FIELDS}
    return kernel_inputs(symbol.session, timeframe, opens_us(bars), columns)


def stretch_begin(indicator: Indicator, inputs: Mapping[str, FloatArray], start: int, *, whole: bool) -> int:
    """The row from which the stretch that begins at row ``start`` is computed.

    Args:
        inputs: the columns that kernels take, (n,) float64 each, rows before ``start`` are read.
        whole: whether row 0 is the first bar of all.

    Raises:
        TailTooShort: more bars are needed.
    """
    reaches = [warm_up(indicator)]
    if indicator.kind.is_quotient:
        reaches = [(indicator.warm_up or 0) * times for times in _REACHES]
    for reach in reaches:
        begin = start - reach
        if begin < 0:
            break
        if forgets(indicator, {name: inputs[name][begin:start] for name in indicator.inputs}):
            return begin
    if not whole:
        raise TailTooShort
    return 0


def compute_from(
    first: int,
    inputs: Mapping[str, FloatArray],
    opens_us: Times,
    timeframe: Timeframe,
    *,
    whole: bool,
    stored: Mapping[str, FloatArray],
) -> dict[str, FloatArray]:
    """Every indicator of the catalog, for the bars from row ``first`` on.

    Args:
        inputs: the columns that kernels take, (n,) float64 each, with the bars before row ``first`` that they need.
        opens_us: (n,) open times, microseconds since 1970-01-01 UTC, ascending.
        whole: whether row 0 is the first bar of all.
        stored: ``STATE_FIELDS`` as stored, (n,); NaN where none is. Rows from ``first`` on are not looked at.

    Returns:
        field -> (n - first,) float64, NaN in warm-up.

    Raises:
        TailTooShort: more bars are needed, or more of their stored values.
    """
    computed: dict[str, FloatArray] = {}
    for indicator in INDICATORS.values():
        state = {name: stored[name].copy() for name in indicator.outputs} if indicator.warm_up is None else None
        parts: list[dict[str, FloatArray]] = []
        at_once: dict[str, FloatArray] | None = None  # several stretches of a dead market take all of history
        for begin, start, stop in _stretches(indicator, inputs, timeframe, opens_us, first, whole=whole):
            if begin == 0 and indicator.kind.is_quotient:
                at_once = at_once or compute(indicator, inputs)
                part = {name: values[start:stop] for name, values in at_once.items()}
            else:
                part = compute_stretch(indicator, inputs, begin, start, stop, whole=whole, state=state)
            parts.append(part)
            if state is not None:
                for name, values in part.items():
                    state[name][start:stop] = values
        for name in indicator.outputs:
            computed[name] = np.concatenate([part[name] for part in parts]) if parts else np.empty(0)
    return computed


def _stretches(
    indicator: Indicator,
    inputs: Mapping[str, FloatArray],
    timeframe: Timeframe,
    opens_us: Times,
    first: int,
    *,
    whole: bool,
) -> Iterator[tuple[int, int, int]]:
    """Rows ``(begin, start, stop)``: values of rows ``start`` to ``stop`` are computed from row ``begin`` on."""
    step = stretch_bars(indicator) * timeframe.microseconds
    start = first
    while start < len(opens_us):
        begins_us = opens_us[start] // step * step
        stop = int(np.searchsorted(opens_us, begins_us + step))
        begin = stretch_begin(indicator, inputs, int(np.searchsorted(opens_us, begins_us)), whole=whole)
        yield begin, start, stop
        start = stop


def compute_stretch(
    indicator: Indicator,
    inputs: Mapping[str, FloatArray],
    begin: int,
    start: int,
    stop: int,
    *,
    whole: bool,
    state: Mapping[str, FloatArray] | None,
) -> dict[str, FloatArray]:
    """One indicator's values of rows ``start`` to ``stop``, computed from row ``begin`` on, or on from its state."""

    def rows(since: int) -> dict[str, FloatArray]:
        return {name: inputs[name][since:stop] for name in indicator.inputs}

    is_beginning = whole and begin == 0
    values = compute(indicator, rows(begin))
    resume = indicator.kind.resume
    if state is not None and resume is not None and not is_beginning:
        columns = [inputs[name][begin:stop] for name in indicator.inputs]
        pairs = {name: (values[name], state[name][begin:stop]) for name in indicator.outputs}
        carried = resume(columns, pairs, start - begin, indicator.parameters)
        if carried is not None:
            return carried
        if not whole:
            raise TailTooShort
        values, begin = compute(indicator, rows(0)), 0
    return {name: column[start - begin :] for name, column in values.items()}
