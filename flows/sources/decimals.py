"""The decimal that a number stands for, beneath the noise of binary arithmetic."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray


def nearest_decimal(numbers: NDArray[np.float64], digits: int) -> NDArray[np.float64]:
    """``numbers`` to so many significant digits: 103428.00000000001 is 103428.0, and 0.17600000000000002 is 0.176.

    Every decimal of up to 15 significant digits survives float64. Zeros, infinities and NaN stay as they are.
    """
    with np.errstate(all="ignore"):  # zeros, infinities and the tiniest numbers come out as NaN
        scale = 10.0 ** (digits - 1 - np.floor(np.log10(np.abs(numbers))))
        rounded = np.rint(numbers * scale) / scale
    return np.where(np.isfinite(rounded), rounded, numbers)
