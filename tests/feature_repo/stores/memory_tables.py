"""The offline tables in memory: the second implementation that the contract is held against."""

from __future__ import annotations

import threading
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime, timedelta
from typing import Any

import pyarrow as pa

from feature_repo.stores.fence import FencedOutError
from feature_repo.stores.schemas import SCHEMAS, WITHDRAWN, TableName, null_as_unknown, unknown_as_null
from feature_repo.stores.tables import Upkeep, check_retention

KEYS = ("symbol", "timeframe", "open_time", "event_timestamp", "created")
Row = dict[str, Any]
_LAST = datetime.max.replace(tzinfo=UTC)


class MemoryTables:
    """``OfflineTables`` in lists of rows."""

    def __init__(self) -> None:
        self._rows: dict[TableName, list[Row]] = {}
        self._versions: dict[TableName, int] = {}
        self._fences: dict[tuple[TableName, str], list[tuple[int, int]]] = {}  # -> (version, token), oldest first
        self._lock = threading.Lock()

    def append(
        self,
        table: TableName,
        rows: pa.Table,
        *,
        fences: Mapping[str, int] | None = None,
        since: int | None = None,
    ) -> None:
        if rows.num_rows == 0:
            return
        with self._lock:
            for symbol, token in (fences or {}).items():
                for version, written in self._fences.get((table, symbol), []):
                    if written > token or version > (-1 if since is None else since):
                        first, *others = fences or {}
                        symbols = first if not others else f"{first} or one of {len(others)} more symbols"
                        raise FencedOutError(f"another run has written {table} of {symbols} meanwhile")
            version = self._versions[table] = self._versions.get(table, -1) + 1
            self._rows.setdefault(table, []).extend(unknown_as_null(rows).to_pylist())
            for symbol, token in (fences or {}).items():
                self._fences.setdefault((table, symbol), []).append((version, token))

    def version(self, table: TableName) -> int | None:
        return self._versions.get(table)

    def symbols(self) -> tuple[str, ...]:
        return tuple(sorted({row["symbol"] for row in self._rows.get("bars", [])}))

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
        rows = [
            row
            for row in self._rows.get(table, [])
            if (timeframe is None or row["timeframe"] == timeframe)
            and (symbols is None or row["symbol"] in symbols)
            and (start is None or (row["open_time"] is not None and row["open_time"] >= start))
            and (end is None or (row["open_time"] is not None and row["open_time"] <= end))
            and (as_known_at is None or row["created"] <= as_known_at)
            and (written_after is None or row["created"] > written_after)
        ]
        rows.sort(key=lambda row: (row["symbol"], row["timeframe"], row["open_time"] or _LAST, row["created"]))
        if table != "quarantine" and not all_revisions:
            rows = [row for row in {_bar(row): row for row in rows}.values() if row.get(WITHDRAWN) is None]
        names = SCHEMAS[table].names if columns is None else columns
        selected = [*KEYS, *(name for name in names if name not in (*KEYS, "month"))]
        return _as_table(table, selected, rows)

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
        rows = self.read(
            table,
            timeframe=timeframe,
            symbols=[symbol],
            start=start,
            end=end,
            columns=columns,
            as_known_at=as_known_at,
        )
        return rows.select(["open_time", *columns])

    def maintain(self, table: TableName, *, retention: timedelta, quarantined_before: datetime | None = None) -> Upkeep:
        check_retention(retention)
        deleted = 0
        with self._lock:
            if table == "quarantine" and quarantined_before is not None and table in self._rows:
                remaining = [row for row in self._rows[table] if row["created"] >= quarantined_before]
                deleted = len(self._rows[table]) - len(remaining)
                self._rows[table] = remaining
            return Upkeep(deleted_rows=deleted, version=self._versions.get(table))


def _bar(row: Row) -> tuple[Any, ...]:
    return row["symbol"], row["timeframe"], row["open_time"]


def _as_table(table: TableName, names: Sequence[str], rows: Sequence[Row]) -> pa.Table:
    fields = [SCHEMAS[table].field(name) for name in names]
    return null_as_unknown(pa.table({f.name: pa.array([row.get(f.name) for row in rows], f.type) for f in fields}))
