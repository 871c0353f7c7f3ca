"""Open handles of the tables, kept while no newer version exists."""

from __future__ import annotations

import threading
from dataclasses import dataclass

from deltalake import DeltaTable
from deltalake.exceptions import TableNotFoundError

from feature_repo.stores.delta.root import TableRoot
from feature_repo.stores.schemas import TableName


@dataclass(frozen=True, slots=True, kw_only=True)
class Snapshot:
    """A table at a version, and when that was committed (ns; None: unknown without a request to the object store)."""

    table: DeltaTable
    version: int
    committed_ns: int | None


class Snapshots:
    """Handles of the tables. Safe to share between threads.

    What a table looked like at a version never changes, so a handle is kept until there is a newer version (or the
    table is another one: a folder may be removed and filled again).
    """

    def __init__(self, root: TableRoot) -> None:
        self._root = root
        self._snapshots: dict[TableName, Snapshot] = {}
        self._lock = threading.Lock()

    def newest(self, table: TableName) -> Snapshot | None:
        """The table at its newest version; None when it does not exist."""
        with self._lock:
            snapshot = self._snapshots.get(table)
            if snapshot is not None and self._is_newest(table, snapshot):
                return snapshot
            try:
                opened = self._root.open(table)
            except TableNotFoundError:
                return None
            version = int(opened.version())
            snapshot = Snapshot(table=opened, version=version, committed_ns=self._root.committed_ns(table, version))
            self._snapshots[table] = snapshot
            return snapshot

    def _is_newest(self, table: TableName, snapshot: Snapshot) -> bool:
        if snapshot.committed_ns is None:
            return False  # opening the table costs an object store no more than a request for its version
        is_same = self._root.committed_ns(table, snapshot.version) == snapshot.committed_ns
        return is_same and self._root.committed_ns(table, snapshot.version + 1) is None
