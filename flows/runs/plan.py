"""What a run has to do: which timeframes of which symbols, and from which bar on.

A source bar that was written (new, late or corrected) after the last run touches every timeframe that is made of it,
from the bar that it lies in. Only files with rows written since are opened, so that asking costs what has changed and
not what is stored.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from typing import Any

import numpy as np
import pandas as pd

from feature_repo import catalog
from feature_repo.catalog import TIMEFRAMES, Symbol, Timeframe
from feature_repo.meaning import definitions_digest
from feature_repo.moments import to_datetime
from feature_repo.series import Series
from feature_repo.sessions import expected_opens, grid_open
from feature_repo.stores.tables import OfflineTables
from feature_repo.stores.window import microseconds
from flows.compute.derive import complete_until
from flows.compute.job import Job
from flows.ledger import IngestedSeries, Ledger, Watermark

DEFINITIONS_DIGEST = definitions_digest()
"""What was computed under definitions of another meaning is computed again from all of history."""
WITHDRAWN = "withdrawn"
"""The recipe of a watermark whose series has lost bars to a withdrawal: it is computed again from all of history."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Pending:
    """What is to do, and the watermarks of what is up to date. Symbols without stored bars are in neither."""

    jobs: tuple[Job, ...]
    done: tuple[Watermark, ...]


def plan(ingested: Iterable[str]) -> dict[str, str | None]:
    """Which timeframes a symbol can have: timeframe -> the ingested one it is derived from, None when ingested.

    A derived timeframe is made of the longest ingested one whose bars fill it; what was ingested is never derived.
    """
    ingested_timeframes = set(ingested)
    targets: dict[str, str | None] = {}
    for name, target in TIMEFRAMES.items():
        shorter = [tf for tf in ingested_timeframes if target.seconds % TIMEFRAMES[tf].seconds == 0]
        if name in ingested_timeframes:
            targets[name] = None
        elif shorter:
            targets[name] = max(shorter, key=lambda tf: TIMEFRAMES[tf].seconds)
    return targets


def ingested_series(tables: OfflineTables, ledger: Ledger) -> dict[tuple[str, str], IngestedSeries]:
    """Every ingested series by symbol and timeframe; found again from the bars, all of them, when the ledger is new."""
    listed = ledger.series()
    after = to_datetime(max(series.listed_us for series in listed.values())) if listed else None
    return _grown(_keys(tables, written_after=after), listed, tables)


def note_series(tables: OfflineTables, ledger: Ledger) -> dict[tuple[str, str], IngestedSeries]:
    """Every ingested series, and the ledger's list of them brought up to date."""
    return _note(ingested_series(tables, ledger), ledger.series(), ledger)


def list_symbol(name: str, tables: OfflineTables, ledger: Ledger) -> None:
    """Notes what has been ingested of a symbol; of all symbols when the ledger is new."""
    if not ledger.series():
        note_series(tables, ledger)
    listed = ledger.series([name])
    _note(_grown(_written([name], (), tables, listed, {}), listed, tables), listed, ledger)


def known_symbols(tables: OfflineTables, ledger: Ledger) -> tuple[str, ...]:
    """Names of the symbols that have bars, sorted."""
    return tuple(sorted({symbol for symbol, _ in note_series(tables, ledger)}))


def pending(
    symbols: Sequence[Symbol],
    timeframes: Sequence[str],
    tables: OfflineTables,
    ledger: Ledger,
    *,
    now: datetime,
) -> Pending:
    """What is to do for these symbols and timeframes, timeframes from the shortest.

    A stored bar that has not closed by ``now`` (its clock ran ahead) waits, unseen, until it has.
    """
    names = [symbol.name for symbol in symbols]
    listed, marks = ledger.series(names), ledger.watermarks(names)
    written = _written(names, timeframes, tables, listed, marks)
    listed = _note(_grown(written, listed, tables), listed, ledger)
    jobs: list[Job] = []
    done: list[Watermark] = []
    for symbol in symbols:
        rows = written[written["symbol"] == symbol.name]
        targets = plan(tf for name, tf in listed if name == symbol.name)
        for tf in (tf for tf in timeframes if tf in targets):
            work = _job(symbol, tf, targets[tf], rows, listed, marks.get((symbol.name, tf)), now)
            if isinstance(work, Job):
                jobs.append(work)
            else:
                done.append(work)
    return Pending(jobs=tuple(jobs), done=tuple(done))


def every_job(symbol: Symbol, timeframes: Sequence[str], ledger: Ledger) -> Iterator[Job]:
    """A job over all of history for each timeframe that the symbol can have, whether something is to do or not."""
    listed = ledger.series([symbol.name])
    targets = plan(tf for _, tf in listed)
    for tf in (tf for tf in timeframes if tf in targets):
        source = targets[tf]
        series = listed[symbol.name, source or tf]
        yield Job(
            series=Series(symbol=symbol, timeframe=catalog.timeframe(tf)),
            source=catalog.timeframe(source) if source else None,
            since_us=None,
            first_us=series.first_us,
            seen_us=series.listed_us,
        )


def _written(
    names: Sequence[str],
    timeframes: Sequence[str],
    tables: OfflineTables,
    listed: Mapping[tuple[str, str], IngestedSeries],
    marks: Mapping[tuple[str, str], Watermark],
) -> pd.DataFrame:
    """Keys of the bars that were written since these symbols were last looked at; all of a symbol's the first time."""
    known = {name for name, _ in listed}
    positions = [series.listed_us for series in listed.values()]
    positions += [mark.seen_us for (_, tf), mark in marks.items() if tf in timeframes]
    parts = [_keys(tables, symbols=[name]) for name in names if name not in known]
    if known:
        parts.append(_keys(tables, symbols=sorted(known), written_after=to_datetime(min(positions))))
    return pd.concat(parts)


def _keys(tables: OfflineTables, **which: Any) -> pd.DataFrame:
    """Keys of stored bars, every revision: symbol, timeframe, open_us, created_us, whether it was ingested, and whether
    it was withdrawn.
    """
    rows = tables.read("bars", columns=["source_bars", "withdrawn"], all_revisions=True, **which)
    return pd.DataFrame(
        {
            "symbol": rows["symbol"].to_pandas(),
            "timeframe": rows["timeframe"].to_pandas(),
            "open_us": rows["open_time"].cast("int64").to_numpy(),
            "created_us": rows["created"].cast("int64").to_numpy(),
            "ingested": rows["source_bars"].is_null().to_numpy(),
            "withdrawn": rows["withdrawn"].is_valid().to_numpy(),
        }
    )


def _grown(
    written: pd.DataFrame, listed: Mapping[tuple[str, str], IngestedSeries], tables: OfflineTables
) -> dict[tuple[str, str], IngestedSeries]:
    """The list of ingested series, with what was written since."""
    grown = dict(listed)
    for (symbol, tf), rows in written[written["ingested"]].groupby(["symbol", "timeframe"]):
        fresh = IngestedSeries(
            symbol=symbol,
            timeframe=tf,
            first_us=int(rows["open_us"].min()),
            last_us=int(rows["open_us"].max()),
            listed_us=int(rows["created_us"].max()),
        )
        before = grown.get((symbol, tf))
        grown[symbol, tf] = fresh if before is None else before.joined(fresh)
        withdrawn = rows["withdrawn"] & (rows["created_us"] > (before.listed_us if before else 0))
        if withdrawn.any():  # the list's first or last bar may be among them
            bars = tables.read("bars", timeframe=tf, symbols=[symbol], columns=["source_bars"])
            opens = microseconds(bars.filter(bars["source_bars"].is_null()), "open_time")
            if opens.size:
                grown[symbol, tf] = replace(grown[symbol, tf], first_us=int(opens[0]), last_us=int(opens[-1]))
    return grown


def _note(
    grown: dict[tuple[str, str], IngestedSeries], listed: Mapping[tuple[str, str], IngestedSeries], ledger: Ledger
) -> dict[tuple[str, str], IngestedSeries]:
    """Notes in the ledger what ``listed`` lacks of ``grown``, and returns ``grown``."""
    changed = [series for key, series in grown.items() if listed.get(key) != series]
    if changed:
        ledger.list_series(changed)
    return grown


def _job(
    symbol: Symbol,
    timeframe: str,
    source: str | None,
    written: pd.DataFrame,
    listed: Mapping[tuple[str, str], IngestedSeries],
    mark: Watermark | None,
    now: datetime,
) -> Job | Watermark:
    target, origin = catalog.timeframe(timeframe), catalog.timeframe(source or timeframe)
    series = listed[symbol.name, origin.name]
    rows = written[written["timeframe"] == origin.name]
    if mark is not None:
        rows = rows[rows["created_us"] > mark.seen_us]
    now_us = int(now.timestamp() * 1e6)
    closed = rows["open_us"] + origin.microseconds <= now_us
    waiting = rows["created_us"][~closed]
    since_us: int | None = None
    if mark is not None and mark.recipe == DEFINITIONS_DIGEST:
        if not closed.any() and not (source and _has_closed(symbol, target, origin, series.last_us, mark, now_us)):
            return mark
        changed_us = min([mark.event_us, *rows["open_us"][closed].tolist()])
        since_us = int(grid_open(symbol.session, target, np.array([changed_us]))[0])
    return Job(
        series=Series(symbol=symbol, timeframe=target),
        source=catalog.timeframe(source) if source else None,
        since_us=since_us,
        first_us=series.first_us,
        seen_us=min(series.listed_us, int(waiting.min()) - 1) if len(waiting) else series.listed_us,
        withdraws=mark is not None and mark.recipe == WITHDRAWN,
    )


def _has_closed(
    symbol: Symbol, target: Timeframe, source: Timeframe, newest_us: int, mark: Watermark, now_us: int
) -> bool:
    """Whether the last derived bar has closed without a further source bar: the market rests, and the clock went on."""
    open_us = int(grid_open(symbol.session, target, np.array([newest_us]))[0])
    close_us = open_us + target.microseconds
    if not mark.event_us < close_us <= complete_until(symbol.session, source, newest_us, now_us):
        return False
    return expected_opens(symbol.session, source, open_us, close_us).size > 0  # or it is made of nothing
