"""The unit of a source's numbers: as quoted, or in integer points; and the decimals beneath their float noise."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

from feature_repo.catalog import Symbol
from flows.sources.error import SourceError

_DIGITS = 14  # one fewer than survive, for the rounding of factor and product
_NOISE = 1e-9  # of a number: 103428.00000000001 is a whole one
_POWERS = range(1, 9)


def in_units(numbers: NDArray[np.float64], factor: float) -> NDArray[np.float64]:
    """``numbers`` times ``factor``, as the decimal that this is: 103428.00000000001 points of 0.00001 are 1.03428."""
    return numbers if factor == 1 else nearest_decimal(numbers * factor, _DIGITS)


def nearest_decimal(numbers: NDArray[np.float64], digits: int) -> NDArray[np.float64]:
    """``numbers`` rounded to this many significant digits: 0.17600000000000002 is 0.176.

    Every decimal of up to 15 significant digits survives float64. Zeros, infinities and NaN stay as they are.
    """
    with np.errstate(all="ignore"):  # zeros, infinities and the tiniest numbers come out as NaN
        scale = 10.0 ** (digits - 1 - np.floor(np.log10(np.abs(numbers))))
        rounded = np.rint(numbers * scale) / scale
    return np.where(np.isfinite(rounded), rounded, numbers)


def price_factor(
    prices: NDArray[np.float64], symbol: Symbol, stated: float | None, error: Callable[[str, str], SourceError]
) -> tuple[float, str]:
    """What prices are multiplied by to be as the symbol is quoted, and a note on it, empty for 1.

    Prices are points when all are whole numbers, none lies within the symbol's bounds, and all do when divided by
    10 ** digits. Prices that only look like it are neither taken nor left as they are.

    Args:
        prices: all prices of a file, any shape.
        stated: the user's factor.
        error: makes the error for what and remedy, naming the file.

    Raises:
        SourceError: most prices fit the symbol in another unit only, but not beyond doubt.
    """
    if stated is not None:
        return stated, "" if stated == 1 else f"times {stated:g} (as stated)"
    finite = prices[np.isfinite(prices)]
    if not len(finite) or _fits(finite, symbol, 0).all() or not _whole(finite).all():
        return 1.0, ""
    points = ~_fits(finite, symbol, 0) & _fits(finite, symbol, symbol.digits)
    if points.all():
        return 10.0**-symbol.digits, f"points of {_decimal(symbol.digits)} (detected)"
    if 2 * points.sum() > len(finite):
        raise error(
            f"{points.sum():,} of {len(finite):,} prices are whole numbers that fit {symbol.name} only as points of "
            f"{_decimal(symbol.digits)}, the others do not",
            f"Use --unit {_decimal(symbol.digits)} if all are points, or --unit 1 if none is.",
        )
    for power in _POWERS:
        if power != symbol.digits and (~_fits(finite, symbol, 0) & _fits(finite, symbol, power)).all():
            raise error(
                f"all prices are whole numbers that fit {symbol.name} only when divided by {10**power:,}, "
                f"yet it is quoted with {symbol.digits} decimals",
                f"Use --unit {_decimal(power)} if they are such points, or --unit 1 if not.",
            )
    return 1.0, ""


def _fits(prices: NDArray[np.float64], symbol: Symbol, power: int) -> NDArray[np.bool_]:
    """Which prices lie within the symbol's bounds when divided by a power of ten."""
    divided = prices / 10.0**power
    return (divided >= symbol.price_min) & (divided <= symbol.price_max)


def _whole(prices: NDArray[np.float64]) -> NDArray[np.bool_]:
    whole: NDArray[np.bool_] = np.abs(prices - np.rint(prices)) <= _NOISE * np.abs(prices)
    return whole


def _decimal(power: int) -> str:
    return f"{10.0**-power:.{power}f}"
