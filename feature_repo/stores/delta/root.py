"""Where the offline tables lie, in a local folder or below an object store's URL, and how they are partitioned."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pyarrow.compute as pc
from deltalake import DeltaTable

from feature_repo.stores.schemas import TableName

PARTITIONS = ("timeframe", "month")


def month_of(moment: Any) -> Any:
    """The partition of a moment (an Arrow scalar) or of many (an array), such as ``2018-01``."""
    return pc.strftime(moment, "%Y-%m")


@dataclass(frozen=True, slots=True, kw_only=True)
class TableRoot:
    """The root folder or URL; each of its folders is a table.

    Attributes:
        options: how to reach an object store; may hold secrets, so they are never shown.
    """

    root: str
    options: Mapping[str, str] = field(repr=False)

    @property
    def is_local(self) -> bool:
        """Whether the tables are files on this machine."""
        return "://" not in self.root

    def path(self, table: TableName) -> str:
        """The folder or URL of a table."""
        return f"{self.root.rstrip('/')}/{table}"

    def open(self, table: TableName, version: int | None = None) -> DeltaTable:
        """The table as of a version, or its newest.

        Raises:
            TableNotFoundError: the table does not exist.
        """
        return DeltaTable(self.path(table), version=version, storage_options=dict(self.options))

    def committed_ns(self, table: TableName, version: int) -> int | None:
        """When a version was committed, nanoseconds; None: it does not exist, or the root is an object store."""
        if not self.is_local:
            return None
        try:
            return (Path(self.path(table)) / "_delta_log" / f"{version:020d}.json").stat().st_mtime_ns
        except FileNotFoundError:
            return None
