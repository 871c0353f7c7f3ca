"""Bars that should never have been, taken back: one by one, or all that came from a source."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime

import numpy as np
import pandas as pd

from feature_repo import catalog
from feature_repo.catalog import BAR_FIELDS, Symbol
from feature_repo.series import Series
from feature_repo.stores.tables import OfflineTables
from flows.errors import FixableError
from flows.ingest.ingest import require_lease
from flows.ledger import Ledger
from flows.runs.store import withdraw_bars

_SHORTEST_DIGEST = 8


class WithdrawError(FixableError):
    """Bars that cannot be taken back; the message says why. Nothing was written."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Withdrawn:
    """What was taken back of a timeframe.

    Attributes:
        bars: how many bars are no longer there.
        replaced: how many have again the values of an earlier source.
    """

    symbol: str
    timeframe: str
    bars: int
    replaced: int
    first_open: datetime
    last_open: datetime


def withdraw(
    symbol: Symbol,
    *,
    reason: str,
    timeframe: str | None = None,
    start: datetime | None = None,
    end: datetime | None = None,
    source: str = "",
    tables: OfflineTables,
    ledger: Ledger,
    now: datetime,
) -> list[Withdrawn]:
    """Takes ingested bars back, as revisions written ``now``: a read as of an earlier moment still shows them.

    Bars and indicators that depend on them are computed again by the next run. A bar of ``source`` that
    revised another source's bar gets that bar's values back. All timeframes are read before anything is written.

    Args:
        reason: why the bars are withdrawn; it is kept with each of them.
        timeframe: only bars of this timeframe; None for every ingested one.
        start, end: only bars that open in this span, both ends inclusive, with their time zone.
        source: only bars whose newest revision came from the download with this digest, or one that begins so.

    Returns:
        One entry per timeframe, from the shortest.

    Raises:
        WithdrawError: there is no reason, nothing that says which bars, or no such bar; or several sources begin so.
        SymbolBusyError: another run works on the symbol.
    """
    if not reason.strip():
        raise WithdrawError(f"say why the bars of {symbol.name} are taken back: a reason is kept with them")
    if not source and (start is None or end is None or timeframe is None):
        raise WithdrawError("say which bars: a timeframe with a start and an end, or a source (see `fstore sources`)")
    if source and len(source) < _SHORTEST_DIGEST:
        raise WithdrawError(f"{source!r} is too short to name a source: {_SHORTEST_DIGEST} characters at least")
    names = [tf for tf in catalog.TIMEFRAMES if timeframe in (None, tf)]
    parameters = {
        "symbol": symbol.name,
        "timeframe": timeframe,
        "start": start and start.isoformat(),
        "end": end and end.isoformat(),
        "source": source,
        "reason": reason,
    }
    withdrawn: list[Withdrawn] = []
    with (
        ledger.run("withdraw", tables=tables, now=now, parameters=parameters) as run,
        run.lease_of(symbol.name) as lease,
    ):
        require_lease(lease, symbol.name)
        since = tables.version("bars")
        chosen_bars: dict[Series, pd.DataFrame] = {}
        digests: set[str] = set()
        for name in names:
            series = Series(symbol=symbol, timeframe=catalog.timeframe(name))
            revisions = _ingested(series, tables, start, end)
            newest = revisions.groupby("open_time").tail(1)
            chosen = newest[newest["withdrawn"].isna()]
            if source:
                chosen = chosen[chosen["source"].fillna("").str.startswith(source)]
                digests |= {*chosen["source"]}
            if len(chosen):
                chosen_bars[series] = _revisions_of(chosen, revisions, reason, replaces=bool(source))
        if len(digests) > 1:
            several = ", ".join(sorted(digests))
            raise WithdrawError(f"{source!r} begins {len(digests)} sources of {symbol.name}: {several}")
        if not chosen_bars:
            what = f"from a source {source!r}" if source else f"of {timeframe} in that span"
            raise WithdrawError(f"{symbol.name} has no ingested bars {what}; `fstore sources {symbol.name}` lists them")
        for series, bars in chosen_bars.items():
            withdraw_bars(run.holding(lease), series, bars, since=since)
            since = tables.version("bars")
            removed = int(bars["withdrawn"].notna().sum())
            withdrawn.append(
                Withdrawn(
                    symbol=symbol.name,
                    timeframe=series.timeframe.name,
                    bars=removed,
                    replaced=len(bars) - removed,
                    first_open=bars["open_time"].iloc[0].to_pydatetime(),
                    last_open=bars["open_time"].iloc[-1].to_pydatetime(),
                )
            )
        run.counts.update(
            withdrawn=sum(entry.bars for entry in withdrawn), replaced=sum(entry.replaced for entry in withdrawn)
        )
    return withdrawn


def _ingested(series: Series, tables: OfflineTables, start: datetime | None, end: datetime | None) -> pd.DataFrame:
    """Every revision of the ingested bars, oldest first within a bar."""
    symbol, timeframe = series.key
    columns = [*BAR_FIELDS, "source_bars", "source", "withdrawn"]
    rows: pd.DataFrame = tables.read(
        "bars", timeframe=timeframe, symbols=[symbol], start=start, end=end, columns=columns, all_revisions=True
    ).to_pandas()
    return rows[rows["source_bars"].isna()]


def _revisions_of(chosen: pd.DataFrame, revisions: pd.DataFrame, reason: str, *, replaces: bool) -> pd.DataFrame:
    """The revisions that take bars back: without values, or with those of an earlier source."""
    columns = ["open_time", *BAR_FIELDS, "source", "withdrawn"]
    withdrawn = chosen[columns].assign(withdrawn=reason, **dict.fromkeys(BAR_FIELDS, np.nan))
    if not replaces:
        return withdrawn.reset_index(drop=True)
    sources = revisions["open_time"].map(chosen.set_index("open_time")["source"])
    others = revisions[sources.notna() & (revisions["source"].fillna("") != sources)]
    before = others.groupby("open_time").tail(1)
    before = before.loc[before["withdrawn"].isna(), columns]
    rows = pd.concat([withdrawn[~withdrawn["open_time"].isin(before["open_time"])], before])
    return rows.sort_values("open_time", ignore_index=True)
