"""The files of a table that can hold what is asked for. Listing them takes longer than reading some: lists are kept."""

from __future__ import annotations

import threading
from collections.abc import Callable
from datetime import datetime
from typing import Any
from urllib.parse import unquote

import pyarrow as pa
from cachetools import LRUCache
from pyarrow.dataset import FileSystemDataset, ParquetFileFormat
from pyarrow.fs import LocalFileSystem, SubTreeFileSystem

from feature_repo.stores.place import Place
from feature_repo.stores.schemas import SCHEMAS, TIME, TableName, month_of
from feature_repo.stores.snapshots import Snapshot

_FACTS = ("path", "partition.timeframe", "partition.month", "min.symbol", "max.symbol")


class Files:
    """Files by what is asked for, as Arrow datasets. Safe to share between threads."""

    def __init__(self, place: Place) -> None:
        self._place = place
        self._held: LRUCache[Any, Any] = LRUCache(64)
        self._lock = threading.Lock()

    def of_span(
        self, name: TableName, found: Snapshot, timeframe: str | None, start: datetime | None, end: datetime | None
    ) -> Any:
        """The files that can hold bars of a timeframe and a span; None when there is no such month."""
        pruning: list[tuple[str, str, Any]] = []
        if timeframe is not None:
            pruning.append(("timeframe", "=", timeframe))
        months = _months(found, timeframe, start, end)
        if months is not None:
            if not months:
                return None
            pruning.append(("month", "in", tuple(months)))

        def list_files() -> Any:
            predicate = [(column, sign, list(v) if sign == "in" else v) for column, sign, v in pruning]
            # Local files are read by Arrow itself; delta-rs would hand them on through Python.
            files = self._folder(name) if self._place.is_local else None
            return found.table.to_pyarrow_dataset(file_pruning_predicate=predicate or None, filesystem=files)

        return self._once((name, found.version, found.committed_ns, tuple(pruning)), list_files)

    def of_symbol(
        self,
        name: TableName,
        found: Snapshot,
        timeframe: str,
        symbol: str,
        start: datetime | None,
        end: datetime | None,
    ) -> tuple[Any, bool]:
        """The local files that can hold a symbol's bars of a span, and whether they hold no other symbol's."""
        low, high = _month(start), _month(end)

        def list_files() -> tuple[Any, bool]:
            files = pa.table(found.table.get_add_actions(flatten=True))
            about = [files[c].to_pylist() for c in _FACTS]
            chosen = [
                (path, first, last)
                for path, tf, month, first, last in zip(*about, strict=True)
                if tf == timeframe
                and (low is None or month >= low)
                and (high is None or month <= high)
                and (first is None or last is None or first <= symbol <= last)
            ]
            dataset = FileSystemDataset.from_paths(
                [unquote(path) for path, _, _ in chosen],
                schema=SCHEMAS[name],
                format=ParquetFileFormat(),
                filesystem=self._folder(name),
            )
            return dataset, all(first == last == symbol for _, first, last in chosen)

        key = (name, found.version, found.committed_ns, timeframe, symbol, low, high)
        held: tuple[Any, bool] = self._once(key, list_files)
        return held

    def _folder(self, name: TableName) -> SubTreeFileSystem:
        return SubTreeFileSystem(self._place.path(name), LocalFileSystem())

    def _once(self, key: tuple[Any, ...], list_files: Callable[[], Any]) -> Any:
        with self._lock:
            held = self._held.get(key)
        if held is None:
            held = list_files()
            with self._lock:
                self._held[key] = held
        return held


def _months(found: Snapshot, timeframe: str | None, start: datetime | None, end: datetime | None) -> list[str] | None:
    """The table's months within a span; None: all of them."""
    if start is None and end is None:
        return None
    low, high = _month(start), _month(end)
    months = {p["month"] for p in found.table.partitions() if timeframe is None or p["timeframe"] == timeframe}
    return sorted(m for m in months if (low is None or m >= low) and (high is None or m <= high))


def _month(moment: datetime | None) -> Any:
    return None if moment is None else month_of(pa.scalar(moment, TIME)).as_py()
