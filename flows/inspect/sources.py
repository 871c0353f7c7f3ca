"""Where a symbol's ingested bars came from."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime

import pandas as pd

from feature_repo import catalog
from feature_repo.catalog import Symbol
from feature_repo.stores.tables import OfflineTables
from flows.ledger import Ledger


@dataclass(frozen=True, slots=True, kw_only=True)
class Source:
    """A download that stored bars of a timeframe came from.

    Attributes:
        digest: names it; empty for bars of which that is unknown: live ones, and those that version 0.1 stored.
        name: what it was called; empty when unknown.
        bars: how many bars are its own now.
        first_open, last_open: of those.
        written: when the first of them was written, UTC.
    """

    timeframe: str
    digest: str
    name: str
    bars: int
    first_open: datetime
    last_open: datetime
    written: datetime


def sources_of(symbol: Symbol, tables: OfflineTables, ledger: Ledger) -> list[Source]:
    """The sources of a symbol's ingested bars, timeframes from the shortest, then in the order they were written."""
    rows: pd.DataFrame = tables.read("bars", symbols=[symbol.name], columns=["source_bars", "source"]).to_pandas()
    rows = rows[rows["source_bars"].isna()].assign(source=rows["source"].fillna(""))
    names = ledger.ingest_names(symbol.name)
    sources = [
        Source(
            timeframe=str(timeframe),
            digest=str(digest),
            name=names.get(str(digest), ""),
            bars=len(group),
            first_open=group["open_time"].min().to_pydatetime(),
            last_open=group["open_time"].max().to_pydatetime(),
            written=group["created"].min().to_pydatetime(),
        )
        for (timeframe, digest), group in rows.groupby(["timeframe", "source"])
    ]
    order = list(catalog.TIMEFRAMES)
    return sorted(sources, key=lambda source: (order.index(source.timeframe), source.written))
