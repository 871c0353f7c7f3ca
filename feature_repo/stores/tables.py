"""The offline store's Delta tables: their schemas, appending to them, and reading the newest revisions.

A row is never changed: a bar or an indicator row that comes out differently is appended with a later ``created``.
The newest revision is the truth, an older one answers what was known at a moment. One run appends to a table in one
commit, so a reader sees all of it or nothing.
"""

from __future__ import annotations

import threading
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any, Literal
from urllib.parse import unquote

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from cachetools import LRUCache
from deltalake import CommitProperties, DeltaTable, Transaction, write_deltalake
from deltalake.exceptions import CommitFailedError, TableNotFoundError
from pyarrow.dataset import FileSystemDataset, ParquetFileFormat
from pyarrow.fs import LocalFileSystem, SubTreeFileSystem

from feature_repo.catalog import BAR_FIELDS, INDICATOR_FIELDS
from feature_repo.stores.fence import FencedOutError

TIME = pa.timestamp("us", tz="UTC")
TableName = Literal["bars", "indicators", "quarantine"]
_COMMIT_TRIES = 10
_PARTITIONS = ["timeframe", "month"]

_KEYS = [
    ("symbol", pa.string()),
    ("timeframe", pa.string()),
    ("month", pa.string()),  # of open_time, UTC, "2018-01"; the tables are partitioned by timeframe and month
    ("open_time", TIME),
    ("event_timestamp", TIME),  # when the bar closed
    ("created", TIME),  # when this revision was written
]
SCHEMAS: Mapping[TableName, pa.Schema] = {
    "bars": pa.schema(
        [
            *_KEYS,
            *((name, pa.float64()) for name in BAR_FIELDS),
            ("source_bars", pa.int32()),  # a derived bar: source bars it was made of; null: ingested as it is
            ("expected_bars", pa.int32()),
        ]
    ),
    "indicators": pa.schema([*_KEYS, *((name, pa.float64()) for name in INDICATOR_FIELDS)]),
    "quarantine": pa.schema(
        [
            *_KEYS,  # open_time and event_timestamp are null where the row had no readable time
            ("kind", pa.string()),  # "bars" or "indicators": what the row would have been
            ("rule", pa.string()),  # the first rule that it broke
            ("rules", pa.string()),  # all of them
            ("detail", pa.string()),
            ("row", pa.string()),  # the row as JSON
            ("file", pa.string()),
            ("line", pa.int64()),
        ]
    ),
}


@dataclass(frozen=True, slots=True, kw_only=True)
class _Snapshot:
    """A table at a version, and when that was committed (ns; None: the store would have to be asked)."""

    table: DeltaTable
    version: int
    committed_ns: int | None


class OfflineTables:
    """Bars, indicators and quarantine below one root: a local folder or an object-store URL.

    Safe to share between threads; several processes may append at the same time.
    """

    def __init__(self, root: str, storage_options: Mapping[str, str] | None = None) -> None:
        self.root = root
        self._options = dict(storage_options or {})
        # What a table looked like at a version never changes, so handles and file lists are kept until it has a newer
        # (or is another table: a folder may be removed and filled again).
        self._snapshots: dict[TableName, _Snapshot] = {}
        self._datasets: LRUCache[Any, Any] = LRUCache(64)
        self._lock = threading.Lock()

    def _path(self, table: TableName) -> str:
        return f"{self.root.rstrip('/')}/{table}"

    def _open(self, table: TableName) -> _Snapshot | None:
        """The table at its newest version."""
        with self._lock:
            held = self._snapshots.get(table)
            if held is not None and self._is_newest(table, held):
                return held
            try:
                opened = DeltaTable(self._path(table), storage_options=self._options)
            except TableNotFoundError:
                return None
            version = int(opened.version())
            held = _Snapshot(table=opened, version=version, committed_ns=self._committed_ns(table, version))
            self._snapshots[table] = held
            return held

    def _is_newest(self, table: TableName, held: _Snapshot) -> bool:
        if held.committed_ns is None:
            return False  # opening the table asks an object store no more than asking for its version would
        is_same = self._committed_ns(table, held.version) == held.committed_ns
        return is_same and self._committed_ns(table, held.version + 1) is None

    def _committed_ns(self, table: TableName, version: int) -> int | None:
        path = self._path(table)
        if "://" in path:
            return None
        try:
            return (Path(path) / "_delta_log" / f"{version:020d}.json").stat().st_mtime_ns
        except FileNotFoundError:
            return None

    def _dataset(self, name: TableName, found: _Snapshot, pruning: tuple[tuple[str, str, Any], ...]) -> Any:
        """The files of a table that can hold what is asked for; listing them takes longer than reading some."""
        key = (name, found.version, found.committed_ns, pruning)
        with self._lock:
            dataset = self._datasets.get(key)
        if dataset is None:
            predicate = [(column, sign, list(v) if sign == "in" else v) for column, sign, v in pruning]
            path = self._path(name)
            # Local files are read by Arrow itself; delta-rs would hand them on through Python.
            files = None if "://" in path else SubTreeFileSystem(path, LocalFileSystem())
            dataset = found.table.to_pyarrow_dataset(file_pruning_predicate=predicate or None, filesystem=files)
            with self._lock:
                self._datasets[key] = dataset
        return dataset

    def append(
        self,
        table: TableName,
        rows: pa.Table,
        *,
        fences: Mapping[str, int] | None = None,
        since: int | None = None,
    ) -> None:
        """Adds ``rows`` (the table's schema without ``month``) in one commit; no rows, no commit.

        Args:
            fences: symbol -> fencing token of the lease under which the caller works. They are written with the rows,
                and hold in the table itself: a run is refused once a later token has written one of the symbols, and of
                two that read the same version the second to commit is, whatever its token.
            since: the version that the caller has read, as ``version`` tells it (None: there was no table); with
                ``fences``.

        Raises:
            FencedOutError: another run has written one of these symbols since; nothing was added.
            CommitFailedError: other writers changed the table's schema again and again; nothing was added.
        """
        if rows.num_rows == 0:
            return
        path = self._path(table)
        if "://" not in path:
            Path(path).mkdir(parents=True, exist_ok=True)
        moment = rows["open_time"] if table != "quarantine" else pc.coalesce(rows["open_time"], rows["created"])
        schema = SCHEMAS[table]
        rows = rows.append_column("month", _month(moment)).select(schema.names).cast(schema)
        properties, upon, seen = None, None, dict[str, int | None]()
        if fences:
            properties = CommitProperties(app_transactions=[Transaction(s, token) for s, token in fences.items()])
            upon = self._made(table) if since is None else self._at(table, since)
            seen = dict.fromkeys(fences) if since is None else _tokens(upon, fences)
        for tries_left in reversed(range(_COMMIT_TRIES)):
            if fences and upon is not None:
                found = _tokens(upon, fences)
                if found != seen or any((found[symbol] or 0) > token for symbol, token in fences.items()):
                    raise FencedOutError(f"another run has written {table} of {_some(fences)} meanwhile")
            try:
                write_deltalake(
                    upon or path,
                    rows,
                    mode="append",
                    partition_by=_PARTITIONS,
                    schema_mode="merge",  # a new indicator adds a column; old rows read as null, never as a value
                    storage_options=self._options,
                    commit_properties=properties,
                )
                return
            except CommitFailedError:  # another process created the table, or added a column, at the same time
                if not tries_left:
                    raise
                if fences:
                    upon = self._at(table, None)

    def _at(self, table: TableName, version: int | None) -> DeltaTable:
        """The table as of a version, or its newest, to write upon."""
        return DeltaTable(self._path(table), version=version, storage_options=self._options)

    def _made(self, table: TableName) -> DeltaTable:
        """The table at its newest version, made without rows when there is none.

        Of two writers that each make the table with their first rows, neither is refused and both have their rows in
        it; of two that write upon an empty one, the second is.
        """
        with suppress(CommitFailedError):  # another process made it at the same time
            DeltaTable.create(
                self._path(table),
                SCHEMAS[table],
                mode="ignore",
                partition_by=_PARTITIONS,
                storage_options=self._options,
            )
        return self._at(table, None)

    def delta(self, table: TableName) -> DeltaTable | None:
        """A handle of the table at its newest version, the caller's own; None when the table does not exist."""
        try:
            return self._at(table, None)
        except TableNotFoundError:
            return None

    def version(self, table: TableName) -> int | None:
        """The number of the table's last commit, from 0; None when the table does not exist."""
        found = self._open(table)
        return None if found is None else found.version

    def symbols(self) -> tuple[str, ...]:
        """Names of the symbols that have bars, sorted."""
        found = self._open("bars")
        if found is None:
            return ()
        names = found.table.to_pyarrow_dataset().to_table(columns=["symbol"])["symbol"].unique()
        return tuple(sorted(names.to_pylist()))

    def read(
        self,
        table: TableName,
        *,
        timeframe: str | None = None,
        symbols: Sequence[str] | None = None,
        start: datetime | None = None,
        end: datetime | None = None,
        columns: Sequence[str] | None = None,
        as_known_at: datetime | None = None,
        written_after: datetime | None = None,
        all_revisions: bool = False,
    ) -> pa.Table:
        """Rows of a table, ascending by symbol and open time, the newest revision of each (of quarantine, all rows).

        Args:
            timeframe, symbols: only these.
            start, end: only bars with ``start <= open_time <= end``; aware datetimes.
            columns: only these, besides the keys ``symbol, timeframe, open_time, event_timestamp, created``; none of
                them when empty.
            as_known_at: what was known at that moment: only revisions written by then.
            written_after: only revisions written later than that; files without any are not opened.
            all_revisions: every revision, oldest first within a bar.
        """
        keys = ["symbol", "timeframe", "open_time", "event_timestamp", "created"]
        columns = SCHEMAS[table].names if columns is None else columns
        wanted = [*keys, *(c for c in columns if c not in (*keys, "month"))]
        found = self._open(table)
        if found is None:
            return _empty(table, wanted)
        pruning: list[tuple[str, str, Any]] = []
        if timeframe is not None:
            pruning.append(("timeframe", "=", timeframe))
        months = _months(found.table, timeframe, start, end)
        if months is not None:
            if not months:
                return _empty(table, wanted)
            pruning.append(("month", "in", tuple(months)))
        dataset = self._dataset(table, found, tuple(pruning))
        present = [c for c in wanted if c in dataset.schema.names]
        wish = _filter(timeframe, symbols, start, end, as_known_at, written_after)
        rows = dataset.to_table(columns=present, filter=wish)
        for name in wanted:  # a column that the catalog has gained since the table was written
            if name not in present:
                rows = rows.append_column(name, pa.nulls(rows.num_rows, SCHEMAS[table].field(name).type))
        return _sorted(rows.select(wanted), all_revisions=all_revisions or table == "quarantine")

    def read_range(
        self,
        table: TableName,
        *,
        timeframe: str,
        symbol: str,
        start: datetime | None,
        end: datetime | None,
        columns: Sequence[str],
        as_known_at: datetime | None = None,
    ) -> pa.Table:
        """One symbol's rows as ``read`` gives them, but ``open_time`` and ``columns`` alone: what lookups wait for."""
        found = self._open(table)
        if found is None or found.committed_ns is None:
            span = {"start": start, "end": end, "columns": columns, "as_known_at": as_known_at}
            return self.read(table, timeframe=timeframe, symbols=[symbol], **span).select(["open_time", *columns])  # type: ignore[arg-type]
        dataset, alone = self._files(table, found, timeframe, symbol, start, end)
        kept = None if alone else pc.field("symbol") == symbol
        if as_known_at is not None:
            known = pc.field("created") <= pa.scalar(as_known_at, TIME)
            kept = known if kept is None else kept & known
        wanted = ["open_time", "created", *columns]
        rows = dataset.to_table(columns=wanted, filter=kept)
        opens, created = (rows[name].combine_chunks().cast(pa.int64()).to_numpy() for name in ("open_time", "created"))
        if not (opens[1:] > opens[:-1]).all():
            order = np.lexsort((created, opens))
            order = order[np.append(opens[order][1:] != opens[order][:-1], True)[: len(order)]]
            rows, opens = rows.take(pa.array(order)), opens[order]
        first = 0 if start is None else int(np.searchsorted(opens, pa.scalar(start, TIME).value, side="left"))
        last = len(opens) if end is None else int(np.searchsorted(opens, pa.scalar(end, TIME).value, side="right"))
        return rows.slice(first, max(last - first, 0)).select(["open_time", *columns])

    def _files(
        self,
        name: TableName,
        found: _Snapshot,
        timeframe: str,
        symbol: str,
        start: datetime | None,
        end: datetime | None,
    ) -> tuple[Any, bool]:
        """The local files that can hold a symbol's bars of a range, and whether they hold no other symbol's."""
        low, high = (None if moment is None else _month(pa.scalar(moment, TIME)).as_py() for moment in (start, end))
        key = (name, found.version, found.committed_ns, timeframe, symbol, low, high)
        with self._lock:
            held = self._datasets.get(key)
        if held is None:
            files = pa.table(found.table.get_add_actions(flatten=True))
            about = [files[c].to_pylist() for c in _FILE_FACTS]
            chosen = [
                (path, first, last)
                for path, tf, month, first, last in zip(*about, strict=True)
                if tf == timeframe
                and (low is None or month >= low)
                and (high is None or month <= high)
                and (first is None or last is None or first <= symbol <= last)
            ]
            root = SubTreeFileSystem(self._path(name), LocalFileSystem())
            paths = [unquote(path) for path, _, _ in chosen]
            dataset = FileSystemDataset.from_paths(
                paths, schema=SCHEMAS[name], format=ParquetFileFormat(), filesystem=root
            )
            held = dataset, all(first == last == symbol for _, first, last in chosen)
            with self._lock:
                self._datasets[key] = held
        return held


_FILE_FACTS = ("path", "partition.timeframe", "partition.month", "min.symbol", "max.symbol")


def _tokens(table: DeltaTable, fences: Mapping[str, int]) -> dict[str, int | None]:
    """The token that last wrote each symbol into a table, as of its version."""
    return {symbol: table.transaction_version(symbol) for symbol in fences}


def _some(fences: Mapping[str, int]) -> str:
    first, *others = fences
    return first if not others else f"{first} or one of {len(others)} more symbols"


def _month(moment: Any) -> Any:
    """The partition of a moment or of many."""
    return pc.strftime(moment, "%Y-%m")


def _months(table: DeltaTable, timeframe: str | None, start: datetime | None, end: datetime | None) -> list[str] | None:
    if start is None and end is None:
        return None
    low, high = (_month(pa.scalar(moment, TIME)).as_py() if moment else None for moment in (start, end))
    months = {p["month"] for p in table.partitions() if timeframe is None or p["timeframe"] == timeframe}
    return sorted(m for m in months if (low is None or m >= low) and (high is None or m <= high))


def _filter(
    timeframe: str | None,
    symbols: Sequence[str] | None,
    start: datetime | None,
    end: datetime | None,
    as_known_at: datetime | None,
    written_after: datetime | None,
) -> pc.Expression | None:
    parts: list[pc.Expression] = []
    if timeframe is not None:
        parts.append(pc.field("timeframe") == timeframe)
    if symbols is not None:
        parts.append(pc.field("symbol").isin(pa.array(symbols, pa.string())))
    if start is not None:
        parts.append(pc.field("open_time") >= pa.scalar(start, TIME))
    if end is not None:
        parts.append(pc.field("open_time") <= pa.scalar(end, TIME))
    if as_known_at is not None:
        parts.append(pc.field("created") <= pa.scalar(as_known_at, TIME))
    if written_after is not None:
        parts.append(pc.field("created") > pa.scalar(written_after, TIME))
    whole = None
    for part in parts:
        whole = part if whole is None else whole & part
    return whole


def _sorted(rows: pa.Table, *, all_revisions: bool) -> pa.Table:
    """Ascending by symbol, timeframe, open time and created; the last of each bar unless all are asked for."""
    if rows.num_rows < 2 or _is_ascending(rows):
        return rows
    order = pc.sort_indices(rows, sort_keys=[(k, "ascending") for k in ("symbol", "timeframe", "open_time", "created")])
    rows = rows.take(order).combine_chunks()
    if all_revisions:
        return rows
    newest = np.ones(rows.num_rows, dtype=bool)
    same = np.ones(rows.num_rows - 1, dtype=bool)
    for key in ("symbol", "timeframe", "open_time"):
        column = rows[key].combine_chunks()
        if pa.types.is_string(column.type):
            column = column.dictionary_encode().indices
        codes = column.cast(pa.int64()).to_numpy(zero_copy_only=False)
        same &= codes[1:] == codes[:-1]
    newest[:-1] = ~same
    return rows if newest.all() else rows.filter(pa.array(newest))


def _is_ascending(rows: pa.Table) -> bool:
    """Whether rows of one symbol and timeframe are in order already, each bar once: the usual case, told cheaply."""
    for key in ("symbol", "timeframe"):
        if pc.count_distinct(rows[key]).as_py() > 1:
            return False
    opens = rows["open_time"].combine_chunks().cast(pa.int64()).to_numpy(zero_copy_only=False)
    return bool((opens[1:] > opens[:-1]).all())


def _empty(table: TableName, columns: Sequence[str]) -> pa.Table:
    return pa.schema([SCHEMAS[table].field(name) for name in columns]).empty_table()
