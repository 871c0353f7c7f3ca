"""The causes of gaps: a single symbol that lacks bars, or a feed that was down, which many symbols show at once."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Literal

import numpy as np
import numpy.typing as npt

from feature_repo.catalog import Session, Timeframe
from feature_repo.gaps import Gaps
from feature_repo.sessions import expected_opens

SHARE = 0.5
LEAST = 3
"""A feed counts as down while at least this share of its symbols, and at least this many of them, lack bars."""

Cause = Literal["closed", "missing", "feed_down"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Outage:
    """An interval ``[start_us, end_us)`` in which a feed was down, microseconds since 1970-01-01 UTC.

    Attributes:
        symbols: how many symbols lacked bars at its worst moment.
        quoting: how many symbols could have had bars at that moment.
    """

    start_us: int
    end_us: int
    symbols: int
    quoting: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Gap:
    """A part of a symbol's gap that has one cause; ``missing_bars`` is 0 where the market was closed."""

    start_us: int
    end_us: int
    missing_bars: int
    cause: Cause


def find_outages(
    gaps: Mapping[str, Gaps],
    spans: Mapping[str, tuple[int, int]],
    *,
    share: float = SHARE,
    least: int = LEAST,
) -> tuple[Outage, ...]:
    """When the feed of some symbols was down, ascending; intervals neither overlap nor touch.

    Args:
        gaps: symbol -> its gaps; symbols of one session and timeframe, those without gaps included.
        spans: symbol -> open of its first bar and close of its last, between which it counts as quoting.
        share, least: the share and the number of the quoting symbols that must lack bars at the same moment.

    Raises:
        ValueError: a symbol has no span, or a limit is out of range.
    """
    if not 0 < share <= 1 or least < 1:
        raise ValueError(f"share must be above 0 and at most 1, least at least 1, not {share} and {least}")
    unknown = gaps.keys() - spans.keys()
    if unknown:
        raise ValueError(f"{min(unknown)} has gaps but no span: pass its first bar's open and its last bar's close")
    lacking = [symbol_gaps.kind != "closed" for symbol_gaps in gaps.values()]
    starts = _sorted([symbol_gaps.start_us[mask] for symbol_gaps, mask in zip(gaps.values(), lacking, strict=True)])
    ends = _sorted([symbol_gaps.end_us[mask] for symbol_gaps, mask in zip(gaps.values(), lacking, strict=True)])
    firsts, lasts = (np.sort(np.array([spans[name][i] for name in gaps], np.int64)) for i in (0, 1))
    edges = np.unique(np.concatenate([starts, ends, firsts, lasts]))
    lack, quoting = (
        np.searchsorted(begun, edges, side="right") - np.searchsorted(over, edges, side="right")
        for begun, over in ((starts, ends), (firsts, lasts))
    )
    down = (lack >= least) & (lack >= share * quoting)
    turns = np.diff(np.concatenate([[False], down, [False]]).astype(np.int8))
    outages = []
    for begin, stop in zip(np.flatnonzero(turns == 1), np.flatnonzero(turns == -1), strict=True):
        worst = begin + int(np.argmax(lack[begin:stop]))
        first, last = int(edges[begin]), int(edges[stop])
        outages.append(Outage(start_us=first, end_us=last, symbols=int(lack[worst]), quoting=int(quoting[worst])))
    return tuple(outages)


def split_gaps(gaps: Gaps, outages: Sequence[Outage], *, session: Session, timeframe: Timeframe) -> list[Gap]:
    """A symbol's gaps by their causes, ascending: one that outlasts an outage is cut at the outage's ends.

    Pieces in which an open market makes no bar (a weekend between two outages) are left out.
    """
    starts = np.array([o.start_us for o in outages], np.int64)
    ends = np.array([o.end_us for o in outages], np.int64)
    pieces: list[Gap] = []
    for start, end, missing, kind in zip(
        gaps.start_us.tolist(), gaps.end_us.tolist(), gaps.missing_bars.tolist(), gaps.kind.tolist(), strict=True
    ):
        if kind == "closed":
            pieces.append(Gap(start_us=start, end_us=end, missing_bars=0, cause="closed"))
            continue
        over = range(int(np.searchsorted(ends, start, side="right")), int(np.searchsorted(starts, end, side="left")))
        if not over:
            pieces.append(Gap(start_us=start, end_us=end, missing_bars=missing, cause="missing"))
            continue
        cuts = sorted({start, end, *(min(max(int(t), start), end) for i in over for t in (starts[i], ends[i]))})
        for low, high in pairwise(cuts):
            bars = int(expected_opens(session, timeframe, low, high).size)
            is_down = any(starts[i] <= low and high <= ends[i] for i in over)
            if bars:
                cause: Cause = "feed_down" if is_down else "missing"
                pieces.append(Gap(start_us=low, end_us=high, missing_bars=bars, cause=cause))
    return pieces


def _sorted(parts: Sequence[npt.NDArray[np.int64]]) -> npt.NDArray[np.int64]:
    return np.sort(np.concatenate([np.empty(0, np.int64), *parts]))
