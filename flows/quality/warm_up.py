"""Where an indicator may have no value."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import numpy.typing as npt

from feature_repo.catalog import INDICATORS, Indicator
from feature_repo.indicators import unknown_inputs
from flows.quality.masks import BoolArray

FloatArray = npt.NDArray[np.float64]
IntArray = npt.NDArray[np.int64]


def nan_allowed(columns: Mapping[str, FloatArray], *, position: IntArray | None = None) -> dict[str, BoolArray]:
    """Where each indicator field of the catalog may be NaN.

    Args:
        columns: the bar columns that the indicators were computed from (high, low, close, volume, session_day),
            float64 of shape (bars,), consecutive bars of one symbol and timeframe, oldest first.
        position: how many bars precede each one in the symbol's history, int64 of shape (bars,); by default the
            columns are all of that history.

    Returns:
        field -> bool array of shape (bars,), as ``check_indicators`` takes it.
    """
    if position is None:
        position = np.arange(len(columns["close"]), dtype=np.int64)
    masks = {name: undefined_bars(indicator, columns, position) for name, indicator in INDICATORS.items()}
    return {output: masks[name] for name, indicator in INDICATORS.items() for output in indicator.outputs}


def undefined_bars(indicator: Indicator, columns: Mapping[str, FloatArray], position: IntArray) -> BoolArray:
    """Where one indicator may be NaN, shape (bars,); arguments as for :func:`nan_allowed`.

    That is at a bar with an unknown input, while fewer than ``lookback`` bars precede it since history began or since
    the last such bar, and where its kind is ``undefined`` (VWAP on a session day without volume so far).
    """
    unknown = unknown_inputs(indicator, columns)
    index = np.arange(len(unknown))
    last_unknown = np.maximum.accumulate(np.where(unknown, index, -1))
    preceding = np.where(last_unknown < 0, position, index - last_unknown - 1)  # -1 at an unknown bar itself
    undefined: BoolArray = preceding < indicator.lookback
    if indicator.kind.undefined is not None:
        undefined |= indicator.kind.undefined(columns)
    return undefined
