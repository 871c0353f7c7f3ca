"""The offline store: appending to its Delta tables, and reading the newest revisions.

A row is never changed: a bar or an indicator row that comes out differently is appended with a later ``created``.
The newest revision is the truth, an older one answers what was known at a moment. One run appends to a table in one
commit, so a reader sees all of it or nothing.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import datetime

import pyarrow as pa
import pyarrow.compute as pc
from deltalake import DeltaTable
from deltalake.exceptions import TableNotFoundError

from feature_repo.stores.delta import commits
from feature_repo.stores.delta.files import Files
from feature_repo.stores.delta.root import TableRoot
from feature_repo.stores.delta.schemas import SCHEMAS, TIME, TableName, empty
from feature_repo.stores.delta.selection import in_order, of_span, where
from feature_repo.stores.delta.snapshots import Snapshots

_KEYS = ("symbol", "timeframe", "open_time", "event_timestamp", "created")


class OfflineTables:
    """Bars, indicators and quarantine below one root: a local folder or an object-store URL.

    Safe to share between threads; several processes may append at the same time.
    """

    def __init__(self, root: str, storage_options: Mapping[str, str] | None = None) -> None:
        self.root = root
        self._place = TableRoot(root=root, options=dict(storage_options or {}))
        self._snapshots = Snapshots(self._place)
        self._files = Files(self._place)

    def append(
        self,
        table: TableName,
        rows: pa.Table,
        *,
        fences: Mapping[str, int] | None = None,
        since: int | None = None,
    ) -> None:
        """Adds ``rows`` (the table's schema without ``month``) in one commit; no rows, no commit.

        Args:
            fences: symbol -> fencing token of the lease under which the caller works. They are written with the rows,
                and hold in the table itself: a run is refused once a later token has written one of the symbols, and of
                two that read the same version the second to commit is, whatever its token.
            since: the version that the caller has read, as ``version`` tells it (None: there was no table); with
                ``fences``.

        Raises:
            FencedOutError: another run has written one of these symbols since; nothing was added.
            CommitFailedError: other writers changed the table's schema again and again; nothing was added.
        """
        commits.append(self._place, table, rows, fences=fences, since=since)

    def delta(self, table: TableName) -> DeltaTable | None:
        """A handle of the table at its newest version, the caller's own; None when the table does not exist."""
        try:
            return self._place.open(table)
        except TableNotFoundError:
            return None

    def version(self, table: TableName) -> int | None:
        """The number of the table's last commit, from 0; None when the table does not exist."""
        found = self._snapshots.newest(table)
        return None if found is None else found.version

    def symbols(self) -> tuple[str, ...]:
        """Names of the symbols that have bars, sorted."""
        found = self._snapshots.newest("bars")
        if found is None:
            return ()
        files = self._files.all_of("bars", found)
        names = {f.only_symbol for f in files if f.only_symbol is not None}
        mixed = [f for f in files if f.only_symbol is None]
        if mixed:
            names |= set(self._files.dataset("bars", mixed).to_table(columns=["symbol"])["symbol"].unique().to_pylist())
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
        """Rows of a table, ascending by symbol and open time, the newest revision of each (of quarantine, all rows).

        Args:
            timeframe, symbols: only these.
            start, end: only bars with ``start <= open_time <= end``; aware datetimes.
            columns: only these, besides the keys ``symbol, timeframe, open_time, event_timestamp, created``; none of
                them when empty.
            as_known_at: what was known at that moment: only revisions written by then.
            written_after: only revisions written later than that; files without any are not opened.
            all_revisions: every revision, oldest first within a bar.
        """
        columns = SCHEMAS[table].names if columns is None else columns
        wanted = [*_KEYS, *(c for c in columns if c not in (*_KEYS, "month"))]
        found = self._snapshots.newest(table)
        dataset = None if found is None else self._files.of_span(table, found, timeframe, start, end)
        if dataset is None:
            return empty(table, wanted)
        wish = where(timeframe, symbols, start, end, as_known_at, written_after)
        rows = dataset.to_table(columns=wanted, filter=wish)
        return in_order(rows, all_revisions=all_revisions or table == "quarantine")

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
        """One symbol's rows as ``read`` gives them, but ``open_time`` and ``columns`` alone: what lookups wait for."""
        found = self._snapshots.newest(table)
        if found is None:
            return empty(table, ["open_time", *columns])
        dataset, alone = self._files.of_symbol(table, found, timeframe, symbol, start, end)
        kept = None if alone else pc.field("symbol") == symbol
        if as_known_at is not None:
            known = pc.field("created") <= pa.scalar(as_known_at, TIME)
            kept = known if kept is None else kept & known
        rows = dataset.to_table(columns=["open_time", "created", *columns], filter=kept)
        return of_span(rows, start, end).select(["open_time", *columns])
