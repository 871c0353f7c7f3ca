"""Comparison of two computations of a value: what counts as the same number, and what as a correction."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

FloatArray = npt.NDArray[np.float64]
BoolArray = npt.NDArray[np.bool_]

RELATIVE = 1e-9
"""The platform's promise: however a value was computed, from all history or from a tail, it is the same within this."""
_OF_SCALE = 1e-11
"""The same for a value near zero, as a share of the column's largest: an MACD of 1e-12 is a rounding of prices."""
_NOISE = 1e-12
"""Two sources mean the same number: one wrote 0.176, the other 0.17600000000000002."""


def equal(was: FloatArray, is_now: FloatArray) -> BoolArray:
    """Where both are the same number, or both unknown (NaN)."""
    same: BoolArray = (was == is_now) | (np.isnan(was) & np.isnan(is_now))
    return same


def same_number(was: FloatArray, is_now: FloatArray) -> BoolArray:
    """Where two sources mean the same number, or both are unknown."""
    return _near(was, is_now, _NOISE * np.abs(was))


def agree(was: FloatArray, is_now: FloatArray) -> BoolArray:
    """Where two computations of one column return the same value, or both are unknown."""
    sizes = np.maximum(np.abs(was), np.abs(is_now))
    finite = sizes[np.isfinite(sizes)]
    floor = _OF_SCALE * float(finite.max()) if finite.size else 0.0
    return _near(was, is_now, np.maximum(RELATIVE * sizes, floor))


def _near(was: FloatArray, is_now: FloatArray, tolerance: FloatArray) -> BoolArray:
    """Where two numbers lie within the tolerance of each other; an infinite one is near no other, whatever it is."""
    with np.errstate(over="ignore", invalid="ignore"):
        near: BoolArray = np.abs(was - is_now) <= tolerance
    return (near & np.isfinite(was) & np.isfinite(is_now)) | equal(was, is_now)
