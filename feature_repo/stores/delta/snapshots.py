"""The newest version of each table, kept open for as long as it is that."""

from __future__ import annotations

import threading
from dataclasses import dataclass

from deltalake import DeltaTable
from deltalake.exceptions import TableNotFoundError

from feature_repo.stores.delta.root import TableRoot
from feature_repo.stores.schemas import TableName


@dataclass(frozen=True, slots=True, kw_only=True)
class Snapshot:
    """A table at a version, and when that was committed (ns; None: the store would have to be asked)."""

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
        self._held: dict[TableName, Snapshot] = {}
        self._lock = threading.Lock()

    def newest(self, table: TableName) -> Snapshot | None:
        """The table at its newest version; None when it does not exist."""
        with self._lock:
            held = self._held.get(table)
            if held is not None and self._is_newest(table, held):
                return held
            try:
                opened = self._root.open(table)
            except TableNotFoundError:
                return None
            version = int(opened.version())
            held = Snapshot(table=opened, version=version, committed_ns=self._root.committed_ns(table, version))
            self._held[table] = held
            return held

    def _is_newest(self, table: TableName, held: Snapshot) -> bool:
        if held.committed_ns is None:
            return False  # opening the table asks an object store no more than asking for its version would
        is_same = self._root.committed_ns(table, held.version) == held.committed_ns
        return is_same and self._root.committed_ns(table, held.version + 1) is None
