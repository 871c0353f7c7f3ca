"""The files of a table that can hold the requested rows, by the statistics in the table's log; no file is opened.

delta-rs makes datasets too, but passes every statistic of every column to Arrow: 1 to 2 ms per file.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any
from urllib.parse import unquote

import pyarrow as pa
import pyarrow.compute as pc
from cachetools import LRUCache
from deltalake import DeltaTable
from deltalake.exceptions import DeltaProtocolError
from deltalake.fs import DeltaStorageHandler
from pyarrow.dataset import FileSystemDataset, ParquetFileFormat
from pyarrow.fs import FileSystem, LocalFileSystem, PyFileSystem, SubTreeFileSystem

from feature_repo.stores.delta.root import TableRoot, month_of
from feature_repo.stores.delta.snapshots import Snapshot
from feature_repo.stores.schemas import SCHEMAS, TIME, TableName

_LOG_UNIT = pa.scalar(timedelta(milliseconds=1))  # the log's statistics are cut to milliseconds
_FEATURES = frozenset(
    {"timestampNtz", "v2Checkpoint", "vacuumProtocolCheck"}
)  # the features that change no row of a file


@dataclass(frozen=True, slots=True, kw_only=True)
class File:
    """A file of a table, as the log describes it.

    Attributes:
        path: below the table's root.
        symbols, created: the least and the greatest value among its rows; None where unknown.
    """

    path: str
    size: int
    timeframe: str
    month: str
    symbols: tuple[str, str] | None
    created: tuple[pa.TimestampScalar, pa.TimestampScalar] | None

    def can_hold(self, symbol: str) -> bool:
        """Whether the file can hold rows of the symbol."""
        return self.symbols is None or self.symbols[0] <= symbol <= self.symbols[1]

    @property
    def only_symbol(self) -> str | None:
        """The symbol of all its rows; None when there are several, or it is unknown."""
        return self.symbols[0] if self.symbols is not None and self.symbols[0] == self.symbols[1] else None

    def promise(self) -> pc.Expression:
        """A condition that every row meets, so that Arrow skips the file when a filter contradicts it."""
        promise = (pc.field("timeframe") == self.timeframe) & (pc.field("month") == self.month)
        for column, bounds in (("symbol", self.symbols), ("created", self.created)):
            if bounds is not None:
                promise = promise & (pc.field(column) >= bounds[0]) & (pc.field(column) <= bounds[1])
        return promise


class Files:
    """The files for a read, as Arrow datasets. Safe to share between threads."""

    def __init__(self, root: TableRoot) -> None:
        self._root = root
        self._cache: LRUCache[Any, Any] = LRUCache(64)
        self._lock = threading.Lock()

    def all_of(self, name: TableName, snapshot: Snapshot) -> tuple[File, ...]:
        """Every file of a table, as ``list_files`` yields them."""
        files: tuple[File, ...] = self._once(snapshot, (name,), lambda: tuple(list_files(snapshot.table)))
        return files

    def of_span(
        self, name: TableName, snapshot: Snapshot, timeframe: str | None, start: datetime | None, end: datetime | None
    ) -> Any:
        """The files that can hold bars of a timeframe and a span; None when there is no such month."""
        low, high = _month(start), _month(end)

        def choose() -> Any:
            files = [f for f in self.all_of(name, snapshot) if _is_within(f, timeframe, low, high)]
            return self.dataset(name, files) if files else None

        return self._once(snapshot, (name, timeframe, low, high), choose)

    def of_symbol(
        self,
        name: TableName,
        snapshot: Snapshot,
        timeframe: str,
        symbol: str,
        start: datetime | None,
        end: datetime | None,
    ) -> tuple[Any, bool]:
        """The files that can hold a symbol's bars of a span, and whether they hold no other symbol's."""
        low, high = _month(start), _month(end)

        def choose() -> tuple[Any, bool]:
            months = [f for f in self.all_of(name, snapshot) if _is_within(f, timeframe, low, high)]
            files = [f for f in months if f.can_hold(symbol)]
            return self.dataset(name, files), all(f.only_symbol == symbol for f in files)

        files: tuple[Any, bool] = self._once(snapshot, (name, timeframe, symbol, low, high), choose)
        return files

    def dataset(self, name: TableName, files: Sequence[File]) -> Any:
        """The files' rows, with every column of the table's schema: null where a file is older than a column."""
        return FileSystemDataset.from_paths(
            [f.path for f in files],
            schema=SCHEMAS[name],
            format=ParquetFileFormat(),
            filesystem=self._filesystem(name, files),
            partitions=[f.promise() for f in files],
        )

    def _filesystem(self, name: TableName, files: Sequence[File]) -> FileSystem:
        root = self._root.path(name)
        if self._root.is_local:  # Arrow reads them itself; delta-rs would pass them through Python
            return SubTreeFileSystem(root, LocalFileSystem())
        sizes = {f.path: f.size for f in files}  # otherwise each size would be requested first
        return PyFileSystem(DeltaStorageHandler(root, dict(self._root.options), sizes))

    def _once(self, snapshot: Snapshot, request: tuple[Any, ...], make: Callable[[], Any]) -> Any:
        if snapshot.committed_ns is None:  # the same version could be another table's
            return make()
        key = (snapshot.version, snapshot.committed_ns, *request)
        with self._lock:
            if key in self._cache:
                return self._cache[key]
        made = make()
        with self._lock:
            self._cache[key] = made
        return made


def list_files(table: DeltaTable) -> Iterator[File]:
    """Yields the files of a table, as its log describes them.

    Raises:
        DeltaProtocolError: another tool has changed the table in a way that its files alone do not show.
    """
    features = table.protocol().reader_features or []
    foreign = [name for name in features if name not in _FEATURES]
    if foreign:
        raise DeltaProtocolError(
            f"the table {table.table_uri} uses {', '.join(foreign)}, by which its files alone do not show its rows; "
            "turn it off with the tool that turned it on, and rewrite the table"
        )
    log = pa.table(table.get_add_actions(flatten=True))
    about = (log[name].to_pylist() for name in ("path", "size_bytes", "partition.timeframe", "partition.month"))
    symbols, created = _bounds(log, "symbol"), _bounds(log, "created", spare=_LOG_UNIT)
    for path, size, timeframe, month, of_symbol, of_created in zip(*about, symbols, created, strict=True):
        yield File(
            path=unquote(path),
            size=size,
            timeframe=timeframe,
            month=month,
            symbols=of_symbol and (of_symbol[0].as_py(), of_symbol[1].as_py()),
            created=of_created,
        )


def _bounds(log: pa.Table, column: str, spare: pa.Scalar | None = None) -> list[tuple[Any, Any] | None]:
    """A column's least and greatest value in each file; None where they are unknown or the column has nulls."""
    if f"min.{column}" not in log.column_names:
        return [None] * log.num_rows
    low, high = log[f"min.{column}"], log[f"max.{column}"]
    high = high if spare is None else pc.add(high, spare)
    return [
        (least, most) if least.is_valid and most.is_valid and nulls == 0 else None
        for least, most, nulls in zip(low, high, log[f"null_count.{column}"].to_pylist(), strict=True)
    ]


def _is_within(file: File, timeframe: str | None, low: str | None, high: str | None) -> bool:
    in_time = (low is None or file.month >= low) and (high is None or file.month <= high)
    return in_time and timeframe in (None, file.timeframe)


def _month(moment: datetime | None) -> Any:
    return None if moment is None else month_of(pa.scalar(moment, TIME)).as_py()
