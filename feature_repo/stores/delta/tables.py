"""The offline store's tables as Delta Lake tables: appending to them, and reading the newest revisions.

One run appends to a table in one commit, so a reader sees all of it or nothing.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import replace
from datetime import datetime, timedelta

import pyarrow as pa
import pyarrow.compute as pc
from deltalake import DeltaTable
from deltalake.exceptions import DeltaError, TableNotFoundError

from feature_repo.stores.delta import commits, upkeep
from feature_repo.stores.delta.files import Files
from feature_repo.stores.delta.root import TableRoot
from feature_repo.stores.delta.selection import in_order, not_withdrawn, of_span, where
from feature_repo.stores.delta.snapshots import Snapshots
from feature_repo.stores.schemas import SCHEMAS, TIME, WITHDRAWN, TableName, empty, null_as_unknown
from feature_repo.stores.tables import OfflineTablesError, Upkeep, check_retention

_KEYS = ("symbol", "timeframe", "open_time", "event_timestamp", "created")


class DeltaTables:
    """``OfflineTables`` below one root: a local folder or an object-store URL. Methods as the protocol says."""

    def __init__(self, root: str, storage_options: Mapping[str, str] | None = None) -> None:
        self.root = root
        self._root = TableRoot(root=root, options=dict(storage_options or {}))
        self._snapshots = Snapshots(self._root)
        self._files = Files(self._root)

    def append(
        self,
        table: TableName,
        rows: pa.Table,
        *,
        fences: Mapping[str, int] | None = None,
        since: int | None = None,
    ) -> None:
        with _translated():
            commits.append(self._root, table, rows, fences=fences, since=since)

    def delta(self, table: TableName) -> DeltaTable | None:
        """A handle of the table at its newest version, the caller's own; None when the table does not exist."""
        try:
            return self._root.open(table)
        except TableNotFoundError:
            return None

    def version(self, table: TableName) -> int | None:
        with _translated():
            snapshot = self._snapshots.newest(table)
        return None if snapshot is None else snapshot.version

    def symbols(self) -> tuple[str, ...]:
        with _translated():
            snapshot = self._snapshots.newest("bars")
            if snapshot is None:
                return ()
            files = self._files.all_of("bars", snapshot)
            names = {f.only_symbol for f in files if f.only_symbol is not None}
            mixed = [f for f in files if f.only_symbol is None]
            if mixed:
                rows = self._files.dataset("bars", mixed).to_table(columns=["symbol"])
                names |= set(rows["symbol"].unique().to_pylist())
        return tuple(sorted(names))

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
        columns = SCHEMAS[table].names if columns is None else columns
        names = [*_KEYS, *(c for c in columns if c not in (*_KEYS, "month"))]
        with _translated():
            snapshot = self._snapshots.newest(table)
            dataset = None if snapshot is None else self._files.of_span(table, snapshot, timeframe, start, end)
            if dataset is None:
                return empty(table, names)
            condition = where(timeframe, symbols, start, end, as_known_at, written_after)
            if all_revisions or table == "quarantine":
                rows = null_as_unknown(dataset.to_table(columns=names, filter=condition))
                return in_order(rows, all_revisions=True)
            rows = dataset.to_table(columns=list(dict.fromkeys([*names, WITHDRAWN])), filter=condition)
        return null_as_unknown(not_withdrawn(in_order(rows, all_revisions=False)).select(names))

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
        with _translated():
            snapshot = self._snapshots.newest(table)
            if snapshot is None:
                return empty(table, ["open_time", *columns])
            dataset, only_this = self._files.of_symbol(table, snapshot, timeframe, symbol, start, end)
            condition = None if only_this else pc.field("symbol") == symbol
            if as_known_at is not None:
                known = pc.field("created") <= pa.scalar(as_known_at, TIME)
                condition = known if condition is None else condition & known
            names = list(dict.fromkeys(["open_time", "created", *columns, WITHDRAWN]))
            rows = dataset.to_table(columns=names, filter=condition)
        return null_as_unknown(not_withdrawn(of_span(rows, start, end)).select(["open_time", *columns]))

    def maintain(self, table: TableName, *, retention: timedelta, quarantined_before: datetime | None = None) -> Upkeep:
        check_retention(retention)
        with _translated():
            handle = self.delta(table)
            if handle is None:
                return Upkeep()
            deleted_rows = 0
            if table == "quarantine" and quarantined_before is not None:
                deleted_rows = upkeep.forget_quarantined(handle, quarantined_before)
            rewritten_rows = upkeep.store_unknown_as_null(self._root.open(table))
            compacted = upkeep.compact(self._root.open(table))
            deleted_files = upkeep.vacuum(self._root.open(table), retention)
            version = upkeep.checkpoint(self._root.open(table))
        return replace(
            compacted,
            rewritten_rows=rewritten_rows,
            deleted_rows=deleted_rows,
            deleted_files=deleted_files,
            version=version,
        )


@contextmanager
def _translated() -> Iterator[None]:
    try:
        yield
    except DeltaError as error:
        raise OfflineTablesError(str(error)) from error
