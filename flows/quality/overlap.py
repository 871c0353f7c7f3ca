"""How a source differs from the bars that are stored already: by a factor, a shift in time, a spread."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from datetime import timedelta
from fractions import Fraction

import numpy as np
import numpy.typing as npt
import pandas as pd

from feature_repo.agreement import same_number
from feature_repo.catalog import BAR_FIELDS, Timeframe

FloatArray = npt.NDArray[np.float64]
IntArray = npt.NDArray[np.int64]
BoolArray = npt.NDArray[np.bool_]

_PRICES = len(BAR_FIELDS) - 1  # all but the volume
_MIN_FACTOR = 5e-4
"""The smallest factor that is a basis of its own, in logarithms: a closer one is a spread."""
_MIN_BARS = 3
"""How few bars can show a constant factor, unless it is a multiple of ten."""
_MIN_REVISED = 3
"""How few revisions are never too many: a download's last bar was unfinished, a vendor corrected two."""
_SHIFTS_H = (*range(-14, 0), *range(1, 15))
_SAMPLE = 2000


@dataclass(frozen=True, slots=True, kw_only=True)
class Overlap:
    """The bars that a source and the store both have.

    Attributes:
        bars: how many such bars there are.
        differing: in how many of them a price differs by more than its last decimal, or the volume.
        factor: what each stored price is multiplied by in the source; 1.0 when there is no one factor.
        volume_factor: the same of the volumes.
        shift: how much later the source puts the same bars; zero when they are not the same ones moved.
        typical, largest: the median and the largest difference between two closes, as shares of the stored one.
        higher: the share of differing closes that are higher in the source.
    """

    bars: int
    differing: int
    factor: float = 1.0
    volume_factor: float = 1.0
    shift: timedelta = timedelta(0)
    typical: float = 0.0
    largest: float = 0.0
    higher: float = 0.0

    @property
    def is_other_basis(self) -> bool:
        """Whether the source's prices are the stored ones times one factor: a split, cents for dollars."""
        return self.factor != 1.0

    def revises_too_much(self, max_share: float) -> bool:
        """Whether storing the source would change more than ``max_share`` of the bars that both have."""
        return self.differing >= _MIN_REVISED and self.differing > max_share * self.bars

    def __str__(self) -> str:
        if self.is_other_basis:
            volume = f" (volumes by {self.volume_factor:.6g})" if self.volume_factor != 1.0 else ""
            return f"prices differ by the factor {self.factor:.6g} throughout{volume}"
        if self.shift:
            hours = self.shift.total_seconds() / 3600
            return f"the same bars stand {abs(hours):g} h {'later' if hours > 0 else 'earlier'}: another time zone"
        if not self.typical and not self.largest:
            return "volumes differ, closes do not"
        side = "higher" if self.higher >= 0.5 else "lower"
        share = max(self.higher, 1 - self.higher)
        return (
            f"closes differ by {1e4 * self.typical:.3g} bp in the median and {1e4 * self.largest:.3g} bp at most, and "
            f"are {side} in {100 * share:.0f} % of the bars that differ: another feed, or another side of the quote"
        )


def compare_overlap(fresh: pd.DataFrame, stored: pd.DataFrame, timeframe: Timeframe) -> Overlap:
    """Compares a source with stored bars of the same symbol and timeframe.

    Args:
        fresh, stored: ``open_time`` (datetime64, UTC, ascending, unique) and ``open high low close volume`` (float64).
    """
    ours, theirs = _opens(fresh), _opens(stored)
    new, known = _values(fresh), _values(stored)
    _, at_new, at_known = np.intersect1d(ours, theirs, assume_unique=True, return_indices=True)
    if not at_new.size:
        return Overlap(bars=0, differing=0)
    now, was = new[:, at_new], known[:, at_known]
    same = np.stack([same_number(a, b) for a, b in zip(was, now, strict=True)])
    rounding = 0.51 * (_tick(now[:_PRICES]) + _tick(was[:_PRICES]))
    with np.errstate(invalid="ignore"):
        same[:_PRICES] |= np.abs(now[:_PRICES] - was[:_PRICES]) <= rounding
    differs = np.asarray(~same.all(axis=0))
    if not differs.any():
        return Overlap(bars=len(differs), differing=0)
    close_now, close_was = now[3], was[3]
    with np.errstate(divide="ignore", invalid="ignore"):
        moved = np.abs(close_now - close_was)[differs] / np.abs(close_was[differs])
    moved = moved[np.isfinite(moved)]
    return Overlap(
        bars=len(differs),
        differing=int(differs.sum()),
        factor=_constant_factor(now[:_PRICES], was[:_PRICES]),
        volume_factor=_constant_factor(now[_PRICES:], was[_PRICES:]),
        shift=_shift(ours, new[3], theirs, known[3], timeframe),
        typical=float(np.median(moved)) if moved.size else 0.0,
        largest=float(moved.max()) if moved.size else 0.0,
        higher=float((close_now > close_was)[differs].mean()),
    )


def _opens(bars: pd.DataFrame) -> IntArray:
    opens: IntArray = bars["open_time"].to_numpy(dtype="datetime64[us]").view(np.int64)
    return opens


def _values(bars: pd.DataFrame) -> FloatArray:
    values: FloatArray = bars[list(BAR_FIELDS)].to_numpy(dtype=np.float64).T
    return values


def _constant_factor(now: FloatArray, was: FloatArray) -> float:
    """The factor between the two in every bar, within the rounding of their decimals; 1.0 when there is none.

    One bar in twenty may deviate, as an unfinished last one does.

    Args:
        now, was: shape (columns, bars).
    """
    usable = (np.isfinite(now) & np.isfinite(was) & (now > 0) & (was > 0)).all(axis=0)
    now, was = now[:, usable], was[:, usable]
    if not now.size:
        return 1.0
    ratios = now / was
    factor = float(np.median(ratios))
    if abs(np.log(factor)) < _MIN_FACTOR:
        return 1.0
    if now.shape[1] < _MIN_BARS and abs(np.log10(factor) - np.round(np.log10(factor))) > 1e-3:
        return 1.0
    rounding = 0.51 * (_tick(now) / now + _tick(was) / was) + 1e-9
    typical = float(np.median(rounding))
    simple = float(Fraction(factor).limit_denominator(20)) if factor < 1e6 else factor
    if factor < 1:
        simple = float(1 / Fraction(1 / factor).limit_denominator(20))
    if abs(simple / factor - 1) <= typical:
        factor = simple  # 0.1, and not the 0.09999983 that rounded prices make of it
    fits = np.asarray((np.abs(ratios / factor - 1) <= rounding + typical).all(axis=0))
    return factor if (~fits).sum() <= max(len(fits) >= 4, 0.05 * len(fits)) else 1.0


def _tick(numbers: FloatArray) -> float:
    """The unit of the last decimal that the numbers are written with."""
    sample = numbers[np.isfinite(numbers)]
    sample = sample[:: max(1, sample.size // _SAMPLE)]
    for decimals in range(9):
        if (np.abs(np.round(sample, decimals) - sample) <= 1e-9 * np.abs(sample)).all():
            return float(10.0**-decimals)
    return 0.0


def _shift(ours: IntArray, new: FloatArray, theirs: IntArray, known: FloatArray, timeframe: Timeframe) -> timedelta:
    """How much later the source has the stored closes, when they agree far better with that shift."""
    ours, new = ours[-_SAMPLE:], new[-_SAMPLE:]

    def distance(shift_us: int) -> float:
        at = np.minimum(np.searchsorted(theirs, ours - shift_us), len(theirs) - 1)
        same = theirs[at] == ours - shift_us
        return (
            float(np.median(np.abs(new[same] - known[at[same]]))) if same.sum() >= max(10, len(ours) // 4) else np.inf
        )

    usual = distance(0)
    step = timeframe.microseconds
    candidates = _unique(shift for shift in (*(3_600_000_000 * h for h in _SHIFTS_H), -step, step) if not shift % step)
    best = min(candidates, key=distance)
    return timedelta(microseconds=best) if distance(best) < 0.2 * usual < np.inf else timedelta(0)


def _unique(shifts: Iterable[int]) -> list[int]:
    return [*dict.fromkeys(shifts)]
