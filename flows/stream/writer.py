"""What is online and not yet offline, and how it gets there: in batches, one commit per table, then the ledger.

One ``Batch`` is filled while the one before is stored in a thread of its own, so publishing goes on meanwhile.
"""

from __future__ import annotations

import itertools
import logging
import threading
from collections import defaultdict
from collections.abc import Callable, Iterable, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field, replace
from datetime import datetime

import numpy as np
import pandas as pd
import pyarrow as pa

from feature_repo.catalog import BAR_FIELDS, INDICATOR_FIELDS, Symbol, Timeframe
from feature_repo.catalog import timeframe as known_timeframe
from feature_repo.series import Series
from feature_repo.series import series as series_of
from feature_repo.sessions import on_grid
from feature_repo.stores.fence import FencedOutError
from feature_repo.stores.schemas import REVISED, SCHEMAS, TIME, TableName
from flows.compute.changes import as_table
from flows.compute.derive import opens_us
from flows.compute.rejected import quarantine_rows
from flows.ledger import Lease, LeaseLost, Revision, Run, Watermark
from flows.quality import check_bars
from flows.runs.plan import DEFINITIONS_DIGEST
from flows.runs.record import at_stage, verdict_record
from flows.runs.store import store_quarantine
from flows.stream.arrivals import Item
from flows.stream.bar import LiveBar, frame_of
from flows.stream.config import StreamConfig, retry_after_s
from flows.stream.fast_path import Fresh
from flows.stream.leases import StreamLeases
from flows.stream.reader import Entry, Reader

Key = tuple[str, str]
UNKNOWN = "unknown"
"""The quarantine's symbol and timeframe for an entry that names none of the catalog's."""
_ALL_BAD, _CONTEXT = 0.5, 10**9  # each bar is judged on its own; none stops the others
_POLL_S = 0.02
_log = logging.getLogger("fstore")


@dataclass(slots=True, kw_only=True)
class Batch:
    """Work between two commits.

    Attributes:
        entries: what may be acknowledged once all of this is stored.
        fresh: new bars, published already.
        bad: bars that the gate rejects.
        short: derived bars that lack source bars, by series.
        unreadable: entries that are not bars: rule, reason, and their text.
        touched: series that are up to date with these bars, whether they got new ones or not: key -> (close of their
            newest bar or 0, the newest source revision they include); microseconds since 1970-01-01 UTC.
        done: the steps of storing it that are complete.
    """

    entries: list[Entry] = field(default_factory=list)
    fresh: list[Fresh] = field(default_factory=list)
    bad: list[LiveBar] = field(default_factory=list)
    short: list[tuple[Key, pd.DataFrame]] = field(default_factory=list)
    unreadable: list[tuple[str, str, str]] = field(default_factory=list)
    touched: dict[Key, tuple[int, int]] = field(default_factory=dict)
    done: list[str] = field(default_factory=list)

    @property
    def bars(self) -> int:
        """How many rows wait."""
        return sum(len(part.opens_us) for part in self.fresh)


class Writer:
    """Stores batch after batch, and acknowledges what is stored.

    Args:
        stop: once it is set, an unavailable store is no longer waited for.
        stored: called when a batch is stored and acknowledged.

    Attributes:
        batch: the one being filled.
    """

    def __init__(
        self,
        run: Run,
        leases: StreamLeases,
        reader: Reader,
        *,
        config: StreamConfig,
        stop: threading.Event,
        now: Callable[[], datetime],
        monotonic: Callable[[], float],
        stored: Callable[[], None],
    ) -> None:
        self._run, self._leases, self._reader = run, leases, reader
        self._config, self._stop, self._now, self._monotonic = config, stop, now, monotonic
        self._stored = stored
        self.batch, self._storing = Batch(), Batch()
        self._future: Future[None] | None = None
        self._thread = ThreadPoolExecutor(1, "fstore-stream-store")
        self._closing = threading.Event()
        self._since_s = monotonic()

    @property
    def is_full(self) -> bool:
        """Whether so much is unstored that new bars have to wait."""
        return self.batch.bars >= 4 * self._config.flush_bars

    @property
    def is_idle(self) -> bool:
        """Whether nothing waits to be stored, and nothing is being stored."""
        return not (self.batch.entries or self._future)

    def due_s(self) -> list[float]:
        """In how many seconds there is something to do: a store to look after, or a batch to store."""
        if self._future is not None:
            return [_POLL_S]
        return [self._since_s + self._config.flush_s - self._monotonic()] if self.batch.entries else []

    def keep(self, items: Sequence[Item]) -> None:
        """Has entries acknowledged once the batch is stored; starts the clock of an empty batch."""
        if not self.batch.entries:
            self._since_s = self._monotonic()
        self.batch.entries += [entry for entry, _ in items]

    def store_if_due(self) -> None:
        """Starts to store the batch if it has waited long enough or is large enough, and none is being stored."""
        if not self.batch.entries or self._future is not None:
            return
        waited_s = self._monotonic() - self._since_s
        if waited_s >= self._config.flush_s or self.batch.bars >= self._config.flush_bars:
            self._start()

    def store_all(self) -> None:
        """Stores and acknowledges everything."""
        self.settle(wait=True)
        if self.batch.entries:
            self._start()
            self.settle(wait=True)

    def settle(self, *, wait: bool) -> None:
        """Acknowledges what is stored; with ``wait``, after waiting for what is being stored.

        Raises:
            FencedOutError: another run has written one of the symbols since.
            LeaseLost: another run holds one.
        """
        if self._future is None or not (wait or self._future.done()):
            return
        self._future.result()
        self._future = None
        self._reader.acknowledge(self._storing.entries)
        at_stage("stream acknowledged")
        self._stored()

    def close(self) -> None:
        """Ends the thread, whatever it is doing."""
        self._closing.set()
        self._thread.shutdown(wait=True, cancel_futures=True)

    def _start(self) -> None:
        self._storing, self.batch = self.batch, Batch()
        self._future = self._thread.submit(self._store, self._storing, dict(self._leases.leases))

    def _store(self, batch: Batch, leases: Mapping[str, Lease]) -> None:
        """In the thread: retries until the stores are available."""
        for failures in itertools.count():
            try:
                store(replace(self._run, now=self._now()), batch, leases, self._leases.versions)
                return
            except (FencedOutError, LeaseLost):
                raise
            except Exception as error:
                if self._stop.is_set() or self._closing.is_set():
                    raise
                _log.warning("bars could not be stored, trying again: %s: %s", type(error).__name__, error)
                self._closing.wait(retry_after_s(failures))


# ---------------------------------------------------------------------------------------------- storing a batch


def store(run: Run, batch: Batch, leases: Mapping[str, Lease], versions: dict[TableName, int | None]) -> None:
    """Makes a batch durable. Called again after a failure, it goes on with the steps that are not done yet.

    Args:
        versions: the tables' versions at which the symbols were known to be ours; moved along.

    Raises:
        FencedOutError: another run has written one of the symbols since.
        LeaseLost: another run holds one.
    """
    steps: dict[str, Callable[[], None]] = {
        "quarantine": lambda: _quarantine(run, batch),
        "bars": lambda: _append(run, batch, "bars", leases, versions),
        "indicators": lambda: _append(run, batch, "indicators", leases, versions),
        "note": lambda: _note(run, batch, leases),
    }
    for name, step in steps.items():
        if name not in batch.done:
            at_stage(f"stream {name}")
            step()
            batch.done.append(name)
    at_stage("stream stored")


def _append(
    run: Run,
    batch: Batch,
    table: TableName,
    leases: Mapping[str, Lease],
    versions: dict[TableName, int | None],
) -> None:
    if not batch.fresh:
        return
    fences = {part.symbol.name: leases[part.symbol.name].token for part in batch.fresh}
    run.tables.append(table, rows_of(batch.fresh, table), fences=fences, since=versions[table])
    versions[table] = run.tables.version(table)


def rows_of(fresh: Sequence[Fresh], table: TableName) -> pa.Table:
    """New bars as rows of a table, without ``month``."""
    sizes = [len(part.opens_us) for part in fresh]

    def per_row(values: Iterable[object]) -> pa.Array:
        return pa.array(list(values)).take(pa.array(np.repeat(np.arange(len(fresh)), sizes)))

    opens = np.concatenate([part.opens_us for part in fresh])
    lengths = np.repeat([part.timeframe.microseconds for part in fresh], sizes)
    columns = {
        "symbol": per_row(part.symbol.name for part in fresh),
        "timeframe": per_row(part.timeframe.name for part in fresh),
        "open_time": pa.array(opens).cast(TIME),
        "event_timestamp": pa.array(opens + lengths).cast(TIME),
        "created": per_row(part.created_us for part in fresh).cast(TIME),
    }
    names, values = (
        (BAR_FIELDS, np.concatenate([part.bars for part in fresh], axis=1))
        if table == "bars"
        else (INDICATOR_FIELDS, np.concatenate([part.features for part in fresh], axis=1))
    )
    columns |= {name: pa.array(row) for name, row in zip(names, values, strict=True)}
    if table == "bars":
        none = np.zeros((2, max(sizes)), np.int64)
        made = [none[:, :n] if part.made_of is None else part.made_of for part, n in zip(fresh, sizes, strict=True)]
        ingested = np.repeat([part.made_of is None for part in fresh], sizes)
        for name, row in zip(("source_bars", "expected_bars"), np.concatenate(made, axis=1), strict=True):
            columns[name] = pa.array(row, pa.int32(), mask=ingested)
    return pa.table(columns)


def _quarantine(run: Run, batch: Batch) -> None:
    verdicts = []
    rejected: dict[Key, list[LiveBar]] = defaultdict(list)
    for bar in batch.bad:
        rejected[bar.symbol, bar.timeframe].append(bar)
    for key, bars in rejected.items():
        series, frame = series_of(*key), frame_of(bars)
        # Great-expectations judges them too, so the reasons read as they do for a file.
        verdict = check_bars(
            frame,
            symbol=series.symbol,
            timeframe=series.timeframe,
            now=run.now,
            on_grid=on_grid(series.session, series.timeframe, opens_us(frame)),
            max_bad_share=_ALL_BAD,
            good_before=_CONTEXT,
        )
        _keep(run, series, verdict.bad)
        verdicts.append(verdict_record(run, series, "bars", verdict))
    for key, short in batch.short:
        _keep(run, series_of(*key), short)
    if batch.unreadable:
        rules, details, texts = zip(*batch.unreadable, strict=True)
        rows = pd.DataFrame({"rule": rules, "rules": rules, "detail": details, "row": texts})
        rows = rows.assign(kind="bars", created=pd.Timestamp(run.now), file="stream")
        run.tables.append("quarantine", as_table(rows, SCHEMAS["quarantine"], symbol=UNKNOWN, timeframe=UNKNOWN))
    run.record(verdicts=verdicts)


def _keep(run: Run, series: Series, bad: pd.DataFrame) -> None:
    rows = quarantine_rows(bad, kind="bars", timeframe=series.timeframe, now=run.now)
    store_quarantine(run.tables, rows, series)


def _note(run: Run, batch: Batch, leases: Mapping[str, Lease]) -> None:
    ledger = run.ledger
    listed = ledger.series(sorted({name for name, _ in batch.touched}))
    grown = []
    marks: dict[int, list[tuple[Lease, Watermark]]] = defaultdict(list)
    for (name, tf), (event_us, seen_us) in batch.touched.items():
        if was := listed.get((name, tf)):
            last_us = max(was.last_us, event_us - known_timeframe(tf).microseconds)
            grown.append(replace(was, last_us=last_us, listed_us=max(was.listed_us, seen_us)))
        lease = leases[name]
        marks[lease.token].append(
            (lease, Watermark(symbol=name, timeframe=tf, event_us=event_us, seen_us=seen_us, recipe=DEFINITIONS_DIGEST))
        )
    for rows in marks.values():
        ledger.advance(rows[0][0], [mark for _, mark in rows])
    ledger.list_series(grown)
    if batch.fresh:
        run.record(revisions=[r for table in REVISED for r in _revisions(run, batch.fresh, table)])


def _revisions(run: Run, fresh: Sequence[Fresh], table: TableName) -> Iterable[Revision]:
    """What was written, one event per series."""
    series: dict[tuple[Symbol, Timeframe], list[Fresh]] = defaultdict(list)
    for part in fresh:
        series[part.symbol, part.timeframe].append(part)
    for (symbol, timeframe), parts in series.items():
        yield Revision(
            run=run.id,
            symbol=symbol.name,
            timeframe=timeframe.name,
            table=table,  # type: ignore[arg-type]
            first_open_us=int(parts[0].opens_us[0]),
            last_open_us=int(parts[-1].opens_us[-1]),
            stored=sum(len(part.opens_us) for part in parts),
            revised=0,
            at_us=parts[-1].created_us,
        )
