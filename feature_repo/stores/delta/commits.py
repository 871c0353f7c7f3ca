"""Appends rows to a table in one commit, fenced by the versions and the tokens in the table's own log."""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path

import pyarrow as pa
import pyarrow.compute as pc
from deltalake import CommitProperties, DeltaTable, Transaction, write_deltalake
from deltalake.exceptions import CommitFailedError

from feature_repo.stores.delta.root import PARTITIONS, TableRoot, month_of
from feature_repo.stores.fence import FencedOutError
from feature_repo.stores.schemas import SCHEMAS, TableName, unknown_as_null

_TRIES = 10


def append(
    root: TableRoot,
    table: TableName,
    rows: pa.Table,
    *,
    fences: Mapping[str, int] | None,
    since: int | None,
) -> None:
    """Appends rows; arguments and errors as in ``OfflineTables.append``."""
    if rows.num_rows == 0:
        return
    if root.is_local:
        Path(root.path(table)).mkdir(parents=True, exist_ok=True)
    moment = rows["open_time"] if table != "quarantine" else pc.coalesce(rows["open_time"], rows["created"])
    schema = SCHEMAS[table]
    rows = rows.append_column("month", month_of(moment))
    for field in schema:
        if field.name not in rows.column_names:
            rows = rows.append_column(field, pa.nulls(rows.num_rows, field.type))
    rows = unknown_as_null(rows.select(schema.names).cast(schema))
    properties, upon, seen = None, None, dict[str, int | None]()
    if fences:
        properties = CommitProperties(app_transactions=[Transaction(s, token) for s, token in fences.items()])
        upon = _created(root, table) if since is None else root.open(table, since)
        seen = dict.fromkeys(fences) if since is None else _tokens(upon, fences)
    for tries_left in reversed(range(_TRIES)):
        if fences and upon is not None:
            tokens = _tokens(upon, fences)
            if tokens != seen or any((tokens[symbol] or 0) > token for symbol, token in fences.items()):
                raise FencedOutError(f"another run has written {table} of {_some(fences)} meanwhile")
        try:
            write_deltalake(
                upon or root.path(table),
                rows,
                mode="append",
                partition_by=list(PARTITIONS),
                schema_mode="merge",  # a new indicator adds a column; old rows read as null, never as a value
                storage_options=dict(root.options),
                commit_properties=properties,
            )
            return
        except CommitFailedError:  # another process created the table, or added a column, at the same time
            if not tries_left:
                raise
            if fences:
                upon = root.open(table)


def _created(root: TableRoot, table: TableName) -> DeltaTable:
    """The table at its newest version, created without rows when it does not exist.

    Of two writers that create the table at the same time neither is refused, and both add their rows; of two that
    have read the same empty table, the second is refused.
    """
    with suppress(CommitFailedError):  # another process made it at the same time
        DeltaTable.create(
            root.path(table),
            SCHEMAS[table],
            mode="ignore",
            partition_by=list(PARTITIONS),
            storage_options=dict(root.options),
        )
    return root.open(table)


def _tokens(table: DeltaTable, fences: Mapping[str, int]) -> dict[str, int | None]:
    """The token that last wrote each symbol into a table, as of its version."""
    return {symbol: table.transaction_version(symbol) for symbol in fences}


def _some(fences: Mapping[str, int]) -> str:
    first, *others = fences
    return first if not others else f"{first} or one of {len(others)} more symbols"
