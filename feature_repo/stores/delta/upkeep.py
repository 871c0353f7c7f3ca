"""Upkeep of the offline tables: fewer, ordered files; nothing that a reader can see changes.

A run adds one file per month and timeframe, so files become many and small, and each holds a few bars of every symbol.
Compacted, a month is one file (or a few) ordered by symbol in small row groups, of which a read of one symbol opens one
or two. Delta Lake does that in one commit, which removes the files that were read and adds the new ones: rows that are
appended meanwhile stay, a reader that has the table open goes on reading the old files until ``vacuum`` deletes them,
and the fencing tokens in the log stay as they are.
"""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

from deltalake import DeltaTable, WriterProperties
from deltalake.exceptions import CommitFailedError
from deltalake.schema import PrimitiveType

from feature_repo.stores.delta.files import list_files
from feature_repo.stores.tables import Upkeep, check_retention

_NULLS = "fstore.unknown"
"""The property of a table that says how its rows store what is unknown; without it there may be NaN among them."""
_FILE_BYTES = 100 * 1024 * 1024
_GROUP_ROWS = 16_384


def compact(table: DeltaTable) -> Upkeep:
    """Rewrites the partitions that have more files than their size requires, ordered by symbol; one commit each.

    A partition that another writer rewrote at the same time is left for the next time.
    """
    partitions = removed = added = 0
    for timeframe, month in _scattered(table):
        table.update_incremental()  # to build on the last commit
        try:
            counts = table.optimize.z_order(
                ["symbol"],  # one column: z-order is then just order
                partition_filters=[("timeframe", "=", timeframe), ("month", "=", month)],
                target_size=_FILE_BYTES,
                max_concurrent_tasks=1,
                writer_properties=WriterProperties(compression="SNAPPY", max_row_group_size=_GROUP_ROWS),
            )
        except CommitFailedError:
            continue
        partitions += 1
        removed += int(counts["numFilesRemoved"])
        added += int(counts["numFilesAdded"])
    return Upkeep(partitions=partitions, removed=removed, added=added)


def store_unknown_as_null(table: DeltaTable) -> int:
    """Rewrites the files of version 0.1, which stored an unknown number as NaN. Returns how many rows had one.

    One commit per partition, then a property that says it is done: later calls read nothing. A partition that
    another writer appended to at the same time is left for the next time, and so is the property.
    """
    columns = [field.name for field in table.schema().fields if field.type == PrimitiveType("double")]
    if not columns or table.metadata().configuration.get(_NULLS) == "null":
        return 0
    nulls = {name: f'CASE WHEN isnan("{name}") THEN NULL ELSE "{name}" END' for name in columns}
    any_unknown = " OR ".join(f'isnan("{name}")' for name in columns)
    rows = 0
    try:
        for timeframe, month in sorted({(file.timeframe, file.month) for file in list_files(table)}):
            table.update_incremental()
            partition = f"timeframe = '{timeframe}' AND month = '{month}'"
            rows += int(table.update(nulls, predicate=f"{partition} AND ({any_unknown})")["num_updated_rows"])
        table.alter.set_table_properties({_NULLS: "null"}, raise_if_not_exists=False)
    except CommitFailedError:
        pass
    return rows


def vacuum(table: DeltaTable, retention: timedelta) -> int:
    """Deletes files that no version of the last ``retention`` needs. Returns how many.

    Raises:
        ValueError: a retention below ``SHORTEST_RETENTION``.
    """
    check_retention(retention)
    hours = -(-retention // timedelta(hours=1))
    return len(table.vacuum(retention_hours=hours, dry_run=False, enforce_retention_duration=False, full=True))


def checkpoint(table: DeltaTable) -> int:
    """Writes the table's state, so that opening it reads one file of the log and not all. Returns its version."""
    table.create_checkpoint()
    return int(table.version())


def forget_quarantined(quarantine: DeltaTable, before: datetime) -> int:
    """Deletes the quarantined rows that were written before a moment. Returns how many."""
    text = before.astimezone(UTC).strftime("%Y-%m-%d %H:%M:%S.%f")
    old = f"created < arrow_cast('{text}', 'Timestamp(Microsecond, Some(\"UTC\"))')"
    try:
        return int(quarantine.delete(old)["num_deleted_rows"])
    except CommitFailedError:  # rows came in meanwhile that it could be about: the next time
        return 0


def _scattered(table: DeltaTable) -> list[tuple[str, str]]:
    """The partitions with more files than their size requires: (timeframe, month)."""
    sizes_of: dict[tuple[str, str], list[int]] = {}
    for file in list_files(table):
        sizes_of.setdefault((file.timeframe, file.month), []).append(file.size)
    return sorted(key for key, sizes in sizes_of.items() if len(sizes) > 1 + 2 * sum(sizes) // _FILE_BYTES)
