"""Whether a computation that begins in the middle of history returns the same values as one over all of history.

A recursive average forgets what came before at a known rate. A quotient of two such averages does not: in a market
that does not move both decay alike, and their quotient stays what it was before (RSI, the directional indicators). How
many bars must precede a value then depends on the bars, and is found by trying: the computation begins with a rising,
a falling and a choppy past, each with moves as large as the price, and with no past at all. Where all of them end in
the same value, the real past cannot matter either.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping

import numpy as np

from feature_repo.agreement import FloatArray

Columns = Mapping[str, FloatArray]

_MARGIN = 1e-11
"""Relative difference up to which pasts count as forgotten: well below the promised 1e-9, since a moving average of
quotients (ADX) shows only a part of the error that a quotient has at that bar."""
_OF_SCALE = 1e-13
"""The same for a value near zero, as a share of the output's largest."""


def is_settled(run: Callable[[Columns], Columns], columns: Columns, lookback: int) -> bool:
    """Whether the values after the last row are the same whatever preceded the first row.

    Args:
        run: the computation: bar columns to outputs.
        columns: (n,) float64 each, without unknown values.
        lookback: rows before the first value. The first ``lookback + 1`` rows are replaced by each of the pasts.
    """
    replaced = lookback + 1
    if replaced >= len(next(iter(columns.values()))):
        return False
    results = [run(past) for past in (columns, *_pasts(columns, replaced))]
    for name in results[0]:
        ends = np.array([values[name][-1] for values in results])
        scale = max(float(np.fmax.reduce(np.abs(values[name]), initial=0.0)) for values in results)
        tolerance = max(_MARGIN * float(np.abs(ends).max()), _OF_SCALE * scale)
        if not np.ptp(ends) <= tolerance:  # NaN is not settled
            return False
    return True


def _pasts(columns: Columns, replaced: int) -> Iterator[Columns]:
    """The columns with their first rows replaced by a rising, a falling and a choppy past, which meet the bars.

    Ranges of bars grow in the first, shrink in the second, and come and go in the third.
    """
    prices = [name for name in ("open", "high", "low", "close") if name in columns]
    anchor = float(columns[prices[-1]][replaced]) if prices else 1.0
    size = abs(anchor) or 1.0
    steps, in_turn = np.arange(1, replaced + 1) / (replaced + 1), np.arange(replaced) % 3 / 4
    for path, wick in ((steps - 1, steps / 8), (1 - steps, (1 - steps) / 8), (in_turn, (in_turn > 0) / 8)):
        close = anchor + size * path
        before = np.concatenate([close[:1], close[:-1]])
        past = {
            "open": before,
            "high": np.maximum(before, close) + size * wick,
            "low": np.minimum(before, close) * (1 - wick) if anchor > 0 else np.minimum(before, close) - size * wick,
            "close": close,
        }
        changed = {name: np.concatenate([past[name], columns[name][replaced:]]) for name in prices}
        if "volume" in columns:
            volume = columns["volume"].copy()
            volume[:replaced] = (float(volume.max()) or 1.0) * (0.5 + wick)
            changed["volume"] = volume
        yield {**columns, **changed}
