"""The seam of the offline store: what the platform asks of the tables of bars, indicators and quarantined rows.

A row is never changed: a bar or an indicator row that comes out differently is appended with a later ``created``.
The newest revision is the truth, an older one answers what was known at a moment. Everything outside of
``feature_repo.stores.delta`` speaks to this protocol; ``feature_repo.repo.Repo.tables`` opens its implementation.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Protocol

import pyarrow as pa

from feature_repo.stores.schemas import TableName

SHORTEST_RETENTION = timedelta(hours=1)
"""Files that a running read may have open are never deleted."""


def check_retention(retention: timedelta) -> None:
    """Refuses a retention that deletes what may be in use.

    Raises:
        ValueError: it is below ``SHORTEST_RETENTION``.
    """
    if retention < SHORTEST_RETENTION:
        raise ValueError(f"a retention below {SHORTEST_RETENTION} deletes files that are being read, not {retention}")


class OfflineTablesError(OSError):
    """The offline tables cannot be read or written: the storage does not answer, or a table is damaged."""


OFFLINE_OUTAGE: tuple[type[Exception], ...] = (OSError, pa.ArrowException)
"""The errors that mean the offline store cannot answer now."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Upkeep:
    """What maintaining one table did.

    Attributes:
        partitions: partitions that were rewritten; ``removed`` files became ``added`` ones.
        rewritten_rows: rows of version 0.1 that held NaN for unknown values, and now hold null.
        deleted_files: files that no version of the retention needs.
        deleted_rows: quarantined rows that were past their retention.
        version: the table's version at the end, written down as a checkpoint; None when there is no table.
    """

    partitions: int = 0
    removed: int = 0
    added: int = 0
    rewritten_rows: int = 0
    deleted_files: int = 0
    deleted_rows: int = 0
    version: int | None = None


class OfflineTables(Protocol):
    """Bars, indicators and quarantined rows.

    Safe to share between threads; several processes may append at the same time.
    """

    def append(
        self,
        table: TableName,
        rows: pa.Table,
        *,
        fences: Mapping[str, int] | None = None,
        since: int | None = None,
    ) -> None:
        """Adds ``rows`` (the table's schema without ``month``; an absent column is null) in one commit; no rows, no
        commit.

        Args:
            fences: symbol -> fencing token of the lease under which the caller works. They are written with the rows
                and hold in the table itself: a run is refused once a later token has written one of the symbols, and
                of two runs that read the same version the second to commit is refused, whatever its token.
            since: the version that the caller has read, as ``version`` returns it (None: there was no table); with
                ``fences``.

        Raises:
            FencedOutError: another run has written one of these symbols since; nothing was added.
            OfflineTablesError: the tables cannot be written; nothing was added.
        """

    def version(self, table: TableName) -> int | None:
        """The number of the table's last commit, from 0; None when the table does not exist."""

    def symbols(self) -> tuple[str, ...]:
        """Names of the symbols that have bars, sorted."""

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

        A bar whose newest revision withdraws it is not among them, nor are its indicators; ``all_revisions`` has
        both.
        A number that is unknown is null in the tables, for every engine that reads them, and reads as NaN here.

        Args:
            timeframe, symbols: only these.
            start, end: only bars with ``start <= open_time <= end``; aware datetimes.
            columns: only these, besides the keys ``symbol, timeframe, open_time, event_timestamp, created``; only the
                keys when empty.
            as_known_at: what was known at that moment: only revisions written by then.
            written_after: only revisions written later than that.
            all_revisions: every revision, oldest first within a bar.

        Raises:
            OfflineTablesError: the tables cannot be read.
        """

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
        """One symbol's rows as ``read`` returns them, but ``open_time`` and ``columns`` only: what lookups wait for.

        Raises:
            OfflineTablesError: the tables cannot be read.
        """

    def maintain(self, table: TableName, *, retention: timedelta, quarantined_before: datetime | None = None) -> Upkeep:
        """Makes a table smaller and faster to read; nothing that a reader can see changes.

        Args:
            retention: how long files are kept that no current version of the table needs.
            quarantined_before: quarantined rows written before this moment are deleted; of the quarantine only.

        Raises:
            ValueError: a retention below ``SHORTEST_RETENTION``.
        """
