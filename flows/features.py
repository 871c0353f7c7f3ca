"""A symbol's indicator rows from its bars."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
import pandas as pd

from feature_repo.catalog import BAR_FIELDS, INDICATOR_FIELDS, Symbol, Timeframe
from feature_repo.indicators import compute_all
from feature_repo.sessions import session_day
from flows.bars import closes


def input_columns(bars: pd.DataFrame, symbol: Symbol) -> dict[str, npt.NDArray[np.float64]]:
    """What the kernels take, from the bars table of one symbol: its columns, and each bar's trading day."""
    opens = bars["open_time"].to_numpy(dtype="datetime64[us]").astype(np.int64)
    columns = {name: bars[name].to_numpy(dtype=np.float64) for name in BAR_FIELDS}
    columns["session_day"] = session_day(symbol.session, opens).astype(np.float64)
    return columns


def compute_features(bars: pd.DataFrame, *, symbol: Symbol, timeframe: Timeframe) -> pd.DataFrame:
    """Every indicator of the catalog for every bar.

    Args:
        bars: the bars table of one symbol and timeframe, all of its history, ascending.

    Returns:
        A row a bar: ``open_time``, ``event_timestamp`` (datetime64[us, UTC]), every indicator field (float64, NaN in
        its warm-up).
    """
    values = compute_all(input_columns(bars, symbol))
    frame = pd.DataFrame({name: values[name] for name in INDICATOR_FIELDS}, index=bars.index)
    frame.insert(0, "open_time", bars["open_time"])
    frame.insert(1, "event_timestamp", closes(bars, timeframe))
    return frame
