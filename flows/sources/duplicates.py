"""Rows that say what an earlier row said already."""

from __future__ import annotations

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from flows.sources.decimals import nearest_decimal

_DIGITS = 15  # what differs beyond them is float noise


def repeated(bars: pd.DataFrame) -> NDArray[np.bool_]:
    """Which rows have the time and all the numbers of an earlier row; no value equals no value.

    Two downloads of one bar may spell a number 0.176 and 0.17600000000000002: they are compared to 15 significant
    digits. Rows that share a time but differ are no repetition: which of them is right is not decided here.
    """
    found = np.asarray(bars.duplicated("open_time", keep=False))
    if found.any():  # only rows that share a time need a full look
        shared = bars[found]
        numbers = pd.DataFrame(nearest_decimal(shared.select_dtypes("float64").to_numpy(), _DIGITS))
        found[found] = numbers.assign(open_time=shared["open_time"].to_numpy()).duplicated()
    return found
