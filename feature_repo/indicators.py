"""The catalog's indicators over bars: what their kernels take, and their values."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

import numpy as np
import numpy.typing as npt

from feature_repo.catalog import BAR_FIELDS, Indicator, Session, Timeframe
from feature_repo.convergence import is_settled
from feature_repo.kernels import BoolArray, FloatArray
from feature_repo.sessions import session_day

_PRICES = {*BAR_FIELDS} - {"volume"}


def kernel_inputs(
    session: Session, timeframe: Timeframe, opens_us: npt.NDArray[np.int64], columns: Mapping[str, FloatArray]
) -> dict[str, FloatArray]:
    """The bar columns and ``session_day``.

    Args:
        opens_us: (n,) open times, microseconds since 1970-01-01 UTC, ascending.
        columns: (n,) float64 for each of ``BAR_FIELDS``.
    """
    inputs = {name: np.asarray(columns[name], dtype=np.float64) for name in BAR_FIELDS}
    inputs["session_day"] = session_day(session, opens_us, timeframe).astype(np.float64)
    return inputs


def compute(indicator: Indicator, columns: Mapping[str, FloatArray]) -> dict[str, FloatArray]:
    """The outputs of one indicator over consecutive bars.

    A bar with an unknown input (NaN, or to a relative kind a price that is not above zero) has no value, and the
    indicator starts again after it, as if history began there.
    So a value depends on no bar before the last unknown one, wherever the computation starts. (TA-Lib itself would
    go on: some of its functions return NaN from then on, others numbers that no bar explains.)

    Args:
        indicator: what to compute; its ``inputs`` name the columns it takes.
        columns: bar columns of one symbol and timeframe, shape (n,), oldest first: prices and volume as float64,
            ``session_day`` as the number of the bar's trading day. Others than the inputs are ignored.

    Returns:
        output name -> float64 array of shape (n,), in the order of ``indicator.outputs``; NaN in warm-up.

    Raises:
        ValueError: a column is missing, columns differ in length, or TA-Lib refuses a parameter.
    """
    missing = [name for name in indicator.inputs if name not in columns]
    if missing:
        raise ValueError(f"{indicator.name} takes the columns {', '.join(indicator.inputs)}: add {', '.join(missing)}")
    inputs = [np.ascontiguousarray(columns[name], dtype=np.float64) for name in indicator.inputs]
    lengths = {name: len(values) for name, values in zip(indicator.inputs, inputs, strict=True)}
    if len(set(lengths.values())) > 1:
        raise ValueError(f"{indicator.name} takes columns of one length, was given {lengths}")

    outputs = {name: np.full(len(inputs[0]), np.nan) for name in indicator.outputs}
    whole = indicator.kind.memory == "day"
    for run in [slice(None)] if whole else runs(~unknown_inputs(indicator, columns)):
        try:
            results = indicator.kind.kernel(*(values[run] for values in inputs), **indicator.parameters)
        except Exception as error:  # TA-Lib raises nothing more specific
            raise ValueError(f"{indicator.name} with parameters {dict(indicator.parameters)}: {error}") from error
        for output, values in zip(outputs.values(), results, strict=True):
            output[run] = _within(values, indicator.low, indicator.high)
    return outputs


def forgets(indicator: Indicator, columns: Mapping[str, FloatArray]) -> bool:
    """Whether what preceded these bars no longer matters to the values that follow them, within the promise.

    An average forgets after ``indicator.warm_up`` bars, whatever these are; the quotient of two averages only if the
    market moved in them. After an unknown bar an indicator begins again, so there is nothing to forget.

    Args:
        columns: as for :func:`compute`; at least ``indicator.warm_up`` bars.
    """
    if not indicator.kind.is_quotient or unknown_inputs(indicator, columns).any():
        return True

    def run(bars: Mapping[str, FloatArray]) -> dict[str, FloatArray]:
        results = indicator.kind.kernel(*(bars[name] for name in indicator.inputs), **indicator.parameters)
        return dict(zip(indicator.outputs, results, strict=True))

    return is_settled(run, {name: columns[name] for name in indicator.inputs}, indicator.lookback)


def unknown_inputs(indicator: Indicator, columns: Mapping[str, FloatArray]) -> BoolArray:
    """Which bars have an input that is unknown to the indicator, shape (n,); ``columns`` as for :func:`compute`."""
    inputs = {name: np.asarray(columns[name], dtype=np.float64) for name in indicator.inputs}
    unknown: BoolArray = np.logical_or.reduce([np.isnan(values) for values in inputs.values()])
    if indicator.kind.is_relative:
        for name in _PRICES & {*inputs}:
            unknown |= inputs[name] <= 0
    return unknown


def runs(known: BoolArray) -> Iterator[slice]:
    """The longest runs of rows that are ``known``, (n,), in order."""
    edges = np.flatnonzero(np.diff(known, prepend=False, append=False))
    for start, stop in edges.reshape(-1, 2).tolist():
        yield slice(start, stop)


def _within(values: FloatArray, low: float | None, high: float | None) -> FloatArray:
    """``values`` with those on a bound that rounding moved just outside (100.00000000000001) put back on it.

    Only rounding is corrected: a value further out is a bug, and stays visible to the quality gate.
    """
    for bound, outside in ((low, np.less), (high, np.greater)):
        if bound is not None:
            values = np.where(outside(values, bound) & (np.abs(values - bound) <= 1e-9), bound, values)
    return values
