"""Stored bars brought into another basis: after a split, or when pence become pounds."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta

import numpy as np

from feature_repo import catalog
from feature_repo.catalog import BAR_FIELDS, Symbol
from feature_repo.series import Series
from feature_repo.stores.tables import OfflineTables
from flows.errors import FixableError
from flows.ingest.ingest import require_lease
from flows.ledger import Ledger
from flows.quality import check_bars
from flows.runs.store import store_bars

_PRICES = [name for name in BAR_FIELDS if name != "volume"]
_US = timedelta(microseconds=1)


class RebaseError(FixableError):
    """A basis that stored bars cannot be brought into; the message says why. Nothing was written."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Rebased:
    """How many ingested bars of a timeframe were revised, and which are the first and the last of them."""

    symbol: str
    timeframe: str
    revised: int
    first_open: datetime | None = None
    last_open: datetime | None = None


def rebase(
    symbol: Symbol,
    *,
    factor: float,
    volume_factor: float,
    before: datetime,
    timeframes: Sequence[str] | None,
    tables: OfflineTables,
    ledger: Ledger,
    now: datetime,
) -> list[Rebased]:
    """Multiplies the ingested bars that open before a moment, as revisions written ``now``.

    What was known before stays readable, as of every revision. Bars and indicators that depend on them are computed
    again by the next run. All timeframes are checked before anything is written.

    Args:
        factor: what prices are multiplied by; 0.1 after a split of 10 for 1, 0.01 from pence to pounds.
        volume_factor: what volumes are multiplied by; 1.0 leaves them.
        before: with its time zone; a bar that opens then or later is in the new basis already.
        timeframes: only these; every ingested timeframe of the symbol when None.

    Returns:
        One entry per timeframe, from the shortest.

    Raises:
        RebaseError: no such bars are stored, or a price would leave the symbol's bounds.
        SymbolBusyError: another run works on the symbol.
    """
    ingested = [tf for name, tf in ledger.series([symbol.name]) if name == symbol.name]
    wanted = [tf for tf in catalog.TIMEFRAMES if tf in (timeframes or ingested)]
    parameters = {
        "symbol": symbol.name,
        "timeframes": wanted,
        "factor": factor,
        "volume_factor": volume_factor,
        "before": before.isoformat(),
    }
    rebased: list[Rebased] = []
    with (
        ledger.run("rebase", tables=tables, now=now, parameters=parameters) as run,
        run.lease_of(symbol.name) as lease,
    ):
        require_lease(lease, symbol.name)
        fresh = {}
        for name in wanted:
            series = Series(symbol=symbol, timeframe=catalog.timeframe(name))
            rows = tables.read(
                "bars", timeframe=name, symbols=[symbol.name], end=before - _US, columns=[*BAR_FIELDS, "source_bars"]
            ).to_pandas()
            bars = rows.loc[rows["source_bars"].isna(), ["open_time", *BAR_FIELDS]].reset_index(drop=True)
            bars[_PRICES] *= factor
            bars["volume"] *= volume_factor
            if len(bars):
                grid = np.ones(len(bars), dtype=np.bool_)  # they are stored: they have passed
                verdict = check_bars(
                    bars, symbol=symbol, timeframe=series.timeframe, now=now, on_grid=grid, max_bad_share=0.0
                )
                if not verdict.passed:
                    rules = ", ".join(f"{rule} ({rows:,} bars)" for rule, rows in verdict.by_rule.items())
                    raise RebaseError(f"{series} times {factor:g} is not a price of {symbol.name}: {rules}")
                fresh[series] = bars
        if not fresh:
            raise RebaseError(
                f"{symbol.name} has no ingested bars before {before:%Y-%m-%d %H:%M} UTC"
                + (f" at {', '.join(timeframes)}" if timeframes else "")
            )
        for series, bars in fresh.items():
            changes = store_bars(run.holding(lease), series, bars).changes
            rebased.append(
                Rebased(
                    symbol=symbol.name,
                    timeframe=series.timeframe.name,
                    revised=changes.revised,
                    first_open=bars["open_time"].iloc[0].to_pydatetime(),
                    last_open=bars["open_time"].iloc[-1].to_pydatetime(),
                )
            )
        run.counts.update(read=sum(map(len, fresh.values())), revised=sum(r.revised for r in rebased))
    return rebased
