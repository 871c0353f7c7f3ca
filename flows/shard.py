"""One symbol's way from stored bars to published features: derive, compute, check, store, publish."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd
import pyarrow as pa
import pyarrow.compute as pc

from feature_repo.catalog import BAR_FIELDS, INDICATOR_FIELDS, TIMEFRAMES, WINDOW_BARS, WINDOW_TIME, Symbol, Timeframe
from feature_repo.freshness import bars_behind
from feature_repo.sessions import on_grid
from feature_repo.stores.tables import SCHEMAS, OfflineTables, TableName
from feature_repo.stores.window import Window
from flows.bars import closes, derive_bars, opens_us
from flows.features import compute_features, input_columns
from flows.ingest import quarantine_rows, store_quarantine
from flows.publication import publish_window
from flows.quality import Verdict, check_bars, check_indicators, nan_allowed
from flows.revisions import Changes, as_table, compare


@dataclass(frozen=True, slots=True, kw_only=True)
class Outcome:
    """What a run did for one symbol and timeframe.

    Attributes:
        bars: bars that the run took in (ingested or derived).
        stored, revised, unchanged: indicator rows, as in ``flows.revisions``.
        quarantined: rows that a gate rejected.
        published: whether the online store took the symbol's views.
        as_of: close of the newest bar.
        age_bars: closed bars that an open market has made since.
        problem: why the symbol was stopped; empty when all went well.
    """

    symbol: str
    timeframe: str
    bars: int = 0
    stored: int = 0
    revised: int = 0
    unchanged: int = 0
    quarantined: int = 0
    published: bool = False
    as_of: datetime | None = None
    age_bars: int | None = None
    problem: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Computed:
    """A symbol and timeframe that passed both gates and waits to be stored and published.

    It holds what has changed and the window, not the history: a shard's symbols wait together.

    Attributes:
        bars: how many bars the indicators were computed of.
        window: the online window, as it will stand after this run.
    """

    symbol: Symbol
    timeframe: Timeframe
    bars: int
    window: Window
    bar_changes: Changes
    feature_changes: Changes
    quarantine: Sequence[pd.DataFrame]


class Stopped(Exception):  # noqa: N818  # a verdict about data, not an error of the program
    """A gate stopped this symbol; the message says why."""


def bars_of(symbol: Symbol, tables: OfflineTables) -> dict[str, pa.Table]:
    """The newest revision of a symbol's stored bars, by timeframe."""
    rows = tables.read("bars", symbols=[symbol.name])
    present = set(rows["timeframe"].unique().to_pylist())
    return {tf: rows.filter(pc.field("timeframe") == tf) for tf in TIMEFRAMES if tf in present}


def plan(stored: Mapping[str, pa.Table]) -> dict[str, str | None]:
    """Which timeframes a symbol can have: timeframe -> the ingested one it is derived from, None when ingested.

    A derived timeframe is made of the longest ingested one that is shorter; what was ingested is never derived.
    """
    ingested = [tf for tf, rows in stored.items() if rows["source_bars"].null_count]
    targets: dict[str, str | None] = {}
    for name, target in TIMEFRAMES.items():
        shorter = [tf for tf in ingested if TIMEFRAMES[tf].seconds < target.seconds]
        if name in ingested:
            targets[name] = None
        elif shorter:
            targets[name] = max(shorter, key=lambda tf: TIMEFRAMES[tf].seconds)
    return targets


def compute(
    symbol: Symbol,
    timeframe: Timeframe,
    source: Timeframe | None,
    stored: Mapping[str, pa.Table],
    tables: OfflineTables,
    *,
    now: datetime,
    max_bad_share: float,
) -> Computed | None:
    """Derives the bars (when ``source`` is given), computes the indicators and puts both before the gate.

    Returns:
        None when no bar of the timeframe has closed yet.

    Raises:
        Stopped: a gate stopped the symbol at this timeframe.
    """
    bar_values: tuple[str, ...] = BAR_FIELDS
    quarantine: list[pd.DataFrame] = []
    bars = _closed_bars(stored[(source or timeframe).name], source or timeframe, now)
    if source is not None:
        bars = derive_bars(bars, session=symbol.session, source=source, target=timeframe)
        bar_values = (*BAR_FIELDS, "source_bars")
    if bars.empty:
        return None
    if source is not None:
        gate = _bar_verdict(bars, symbol, timeframe, now=now, max_bad_share=max_bad_share)
        quarantine.append(quarantine_rows(gate, kind="bars", timeframe=timeframe, now=now))
        bars = gate.good.reset_index(drop=True)
    features = compute_features(bars, symbol=symbol, timeframe=timeframe)
    may_be_nan = nan_allowed(input_columns(bars, symbol))
    verdict = check_indicators(features, may_be_nan=may_be_nan, max_bad_share=max_bad_share)
    if not verdict.passed:
        raise Stopped(f"indicators: {verdict.reason}")
    # A bar whose indicators are bad is not published either: a view shows all of a bar or nothing of it.
    kept = bars["open_time"].isin(verdict.good["open_time"]).to_numpy()
    bars, features = bars[kept].reset_index(drop=True), verdict.good.reset_index(drop=True)
    bars = bars.assign(event_timestamp=features["event_timestamp"])
    quarantine.append(quarantine_rows(verdict, kind="indicators", timeframe=timeframe, now=now))
    known_bars = stored.get(timeframe.name, SCHEMAS["bars"].empty_table())
    known_features = tables.read(
        "indicators", timeframe=timeframe.name, symbols=[symbol.name], columns=INDICATOR_FIELDS
    )
    bar_changes = compare(bars, known_bars, values=bar_values, now=now)
    feature_changes = compare(features, known_features, values=INDICATOR_FIELDS, now=now)
    return Computed(
        symbol=symbol,
        timeframe=timeframe,
        bars=len(bars),
        window=_window(bars, features, np.maximum(bar_changes.created_us, feature_changes.created_us)),
        bar_changes=bar_changes,
        feature_changes=feature_changes,
        quarantine=quarantine,
    )


def _window(bars: pd.DataFrame, features: pd.DataFrame, created_us: npt.NDArray[np.int64]) -> Window:
    bars, features = bars.tail(WINDOW_BARS), features.tail(WINDOW_BARS)
    columns = {WINDOW_TIME: opens_us(bars) / 1e6}
    columns |= {name: bars[name].to_numpy(dtype=np.float64, copy=True) for name in BAR_FIELDS}
    columns |= {name: features[name].to_numpy(dtype=np.float64, copy=True) for name in INDICATOR_FIELDS}
    return Window(
        event_us=int(bars["event_timestamp"].iloc[-1].value // 1000),
        created_us=int(created_us[-WINDOW_BARS:].max()),
        columns=columns,
    )


def store(computed: Sequence[Computed], tables: OfflineTables) -> None:
    """Appends what is new or changed: bars first, so that no indicator row is ever without its bar."""
    for one in computed:
        for rows in one.quarantine:
            store_quarantine(tables, rows, symbol=one.symbol, timeframe=one.timeframe)
    tables.append("bars", pa.concat_tables(_changed(one, one.bar_changes, "bars") for one in computed))
    tables.append("indicators", pa.concat_tables(_changed(one, one.feature_changes, "indicators") for one in computed))


def _changed(one: Computed, changes: Changes, table: TableName) -> pa.Table:
    return as_table(changes.rows, SCHEMAS[table], symbol=one.symbol.name, timeframe=one.timeframe.name)


def publish(one: Computed, client: Any, project: str, *, now: datetime) -> Outcome:
    """Publishes a computed symbol and timeframe, and says what the run did for it."""
    published = publish_window(client, project, one.symbol.name, one.timeframe, one.window)
    changes = one.feature_changes
    return Outcome(
        symbol=one.symbol.name,
        timeframe=one.timeframe.name,
        bars=one.bars,
        stored=changes.stored,
        revised=changes.revised,
        unchanged=changes.unchanged,
        quarantined=sum(len(rows) for rows in one.quarantine),
        published=published,
        as_of=datetime.fromtimestamp(one.window.event_us / 1e6, UTC),
        age_bars=bars_behind(one.symbol.session, one.timeframe, one.window.event_us, int(now.timestamp() * 1e6)),
    )


def _bar_verdict(
    bars: pd.DataFrame, symbol: Symbol, timeframe: Timeframe, *, now: datetime, max_bad_share: float
) -> Verdict:
    grid = on_grid(symbol.session, timeframe, opens_us(bars))
    verdict = check_bars(bars, symbol=symbol, timeframe=timeframe, now=now, on_grid=grid, max_bad_share=max_bad_share)
    if not verdict.passed:
        raise Stopped(f"derived bars: {verdict.reason}")
    return verdict


def _closed_bars(rows: pa.Table, timeframe: Timeframe, now: datetime) -> pd.DataFrame:
    """The bars table of stored bars that have closed. One stored under a clock that ran ahead has to wait for its
    close: published, it would stand in the way of every bar before it.
    """
    bars: pd.DataFrame = rows.select(["open_time", *BAR_FIELDS]).to_pandas()
    return bars[closes(bars, timeframe) <= now].reset_index(drop=True)
