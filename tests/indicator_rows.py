"""A symbol's indicator rows from its bars, computed over all of history in one go: what increments must equal."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import numpy.typing as npt
import pandas as pd

from feature_repo.catalog import INDICATOR_FIELDS, INDICATORS, Symbol, Timeframe
from feature_repo.indicators import compute
from flows.compute.derive import closes
from flows.compute.increment import input_columns


def compute_all(columns: Mapping[str, npt.NDArray[np.float64]]) -> dict[str, npt.NDArray[np.float64]]:
    """Every indicator of the catalog over consecutive bars; ``columns`` as ``input_columns`` returns them."""
    return {name: values for i in INDICATORS.values() for name, values in compute(i, columns).items()}


def indicator_rows(bars: pd.DataFrame, *, symbol: Symbol, timeframe: Timeframe) -> pd.DataFrame:
    """Every indicator of the catalog for every bar.

    Args:
        bars: the bars table of one symbol and timeframe, all of its history, ascending.

    Returns:
        One row per bar: ``open_time``, ``event_timestamp`` (datetime64[us, UTC]), every indicator field (float64, NaN
        in its warm-up).
    """
    values = compute_all(input_columns(bars, symbol, timeframe))
    frame = pd.DataFrame({name: values[name] for name in INDICATOR_FIELDS}, index=bars.index)
    frame.insert(0, "open_time", bars["open_time"])
    frame.insert(1, "event_timestamp", closes(bars, timeframe))
    return frame
