"""The bars that are already stored in the span of a source's bars, and around it."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import timedelta

import pandas as pd

from feature_repo.catalog import BAR_FIELDS
from feature_repo.moments import to_datetime, to_us
from feature_repo.series import Series
from feature_repo.stores.tables import OfflineTables
from flows.ledger import Ledger
from flows.quality.overlap import Overlap, compare_overlap
from flows.quality.units import CONTEXT_BARS

_COLUMNS = ["open_time", *BAR_FIELDS]
_MARGIN = timedelta(days=7)  # a weekend and holidays, over which an intraday series has no bars


@dataclass(frozen=True, slots=True, kw_only=True)
class StoredNeighbours:
    """The stored bars that a source is compared with; ``open_time`` and ``BAR_FIELDS``, ascending.

    Attributes:
        within: ingested bars of the source's span, but for those that the source was corrected by since.
        around: the bars before and after it, at most ``CONTEXT_BARS`` each.
        outside: whether ingested bars lie outside the source's span.
        last_close: when the newest ingested bar closes.
    """

    within: pd.DataFrame
    around: pd.DataFrame
    outside: bool = False
    last_close: pd.Timestamp | None = None

    def overlap(self, bars: pd.DataFrame, series: Series) -> Overlap:
        """How a source's ``bars`` differ from those that are stored for the same open times."""
        usable = bars[bars["open_time"].notna() & ~bars["open_time"].duplicated(keep=False)]
        return compare_overlap(usable.sort_values("open_time"), self.within, series.timeframe)


def read_neighbours(
    series: Series, bars: pd.DataFrame, tables: OfflineTables, ledger: Ledger, *, digest: str = ""
) -> StoredNeighbours:
    """Reads what is stored in the span of ``bars`` and beside it.

    Args:
        digest: of a download. When it was ingested before, bars that were corrected since are left out.
    """
    first, last = bars["open_time"].min(), bars["open_time"].max()
    (symbol, timeframe), columns = series.key, [*BAR_FIELDS, "source_bars"]
    margin = CONTEXT_BARS * timedelta(seconds=series.timeframe.seconds) + _MARGIN
    span = {} if pd.isna(first) else {"start": (first - margin).to_pydatetime(), "end": (last + margin).to_pydatetime()}
    rows = tables.read("bars", timeframe=timeframe, symbols=[symbol], columns=columns, **span).to_pandas()
    if pd.isna(first) or rows.empty:
        return StoredNeighbours(within=rows[_COLUMNS].head(0), around=rows[_COLUMNS].head(0))
    inside = rows["open_time"].between(first, last) & rows["source_bars"].isna()
    if digest and (before := ledger.ingested_at(symbol, timeframe, digest)) is not None:
        inside &= rows["created"] <= before
    before_it, after_it = rows[rows["open_time"] < first], rows[rows["open_time"] > last]
    listed = ledger.series([symbol]).get(series.key)
    ingested = rows[rows["source_bars"].isna()]
    newest = to_datetime(listed.last_us) if listed else ingested["open_time"].max()
    return StoredNeighbours(
        within=rows.loc[inside, _COLUMNS],
        around=pd.concat([before_it.tail(CONTEXT_BARS), after_it.head(CONTEXT_BARS)])[_COLUMNS],
        outside=listed is not None and (listed.first_us < to_us(first) or listed.last_us > to_us(last)),
        last_close=None if pd.isna(newest) else pd.Timestamp(newest) + timedelta(seconds=series.timeframe.seconds),
    )


def overlap_problem(
    overlap: Overlap, stored: StoredNeighbours, series: Series, *, max_share: float, revise: bool
) -> str:
    """Why a source may not be stored beside what is; empty when it may.

    Args:
        max_share: the largest share of the overlap that may be revised without being asked for.
        revise: whether revisions were asked for.
    """
    if overlap.is_other_basis and (stored.outside or not revise):
        volume = f" --volume-factor {overlap.volume_factor:.6g}" if overlap.volume_factor != 1.0 else ""
        command = (
            f"fstore rebase {series.symbol.name} --factor {overlap.factor:.6g}{volume} "
            f"--before {stored.last_close:%Y-%m-%dT%H:%M}"
        )
        whole = (
            "load the whole history again in the new basis with --revise"
            if stored.outside
            else "store all of it in the new basis with --revise"
        )
        return (
            f"{overlap} in {overlap.bars:,} bars that are stored already: another basis, as after a split, or another "
            f"unit. If the new one is right, {whole}, or bring the stored bars over first: {command}"
        )
    if not revise and overlap.revises_too_much(max_share):
        return (
            f"{overlap.differing:,} of {overlap.bars:,} bars that are stored already would change "
            f"({100 * overlap.differing / overlap.bars:.4g} %, at most {100 * max_share:.4g} % may): {overlap}. If the "
            "new ones are right, run it again with --revise; to keep both, ingest one under a symbol of its own"
        )
    return ""
