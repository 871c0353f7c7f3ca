"""The leases under which a stream writes, and whether its memory of a symbol still is what is stored.

Leases are held while bars come and given back when none have for a while, so that batch runs and backfills get their
turn between two closes. When they are taken again, symbols that somebody wrote meanwhile are told.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from datetime import datetime, timedelta

from feature_repo.moments import to_us
from feature_repo.stores.delta.schemas import REVISED, TableName
from feature_repo.stores.delta.window import microseconds
from feature_repo.stores.tables import OfflineTables
from flows.ledger import Holder, Lease, Ledger

_SKEW = timedelta(seconds=60)  # by how much another host's clock may be behind


class StreamLeases:
    """Leases of symbols, in as few rows and threads as can be.

    Attributes:
        leases: by symbol, what is held.
        versions: the tables as of when all that is held was last known to be nobody else's.
    """

    def __init__(self, ledger: Ledger, tables: OfflineTables, *, owner: str, ttl_s: float) -> None:
        self._ledger, self._tables, self._owner, self._ttl_s = ledger, tables, owner, ttl_s
        self.leases: dict[str, Lease] = {}
        self.versions: dict[TableName, int | None] = dict.fromkeys(REVISED)
        self._active: dict[str, None] = {}  # every symbol ever held: they are leased together when bars come again
        self._stamped_us: dict[str, int] = {}
        self._since: datetime | None = None

    def take(self, names: Collection[str], now: datetime) -> Mapping[str, Holder]:
        """Leases ``names`` and whatever else was held before; those of ``names`` that another run holds are told."""
        wanted = [name for name in dict.fromkeys([*names, *self._active]) if name not in self.leases]
        lease = self._ledger.lease(wanted, owner=self._owner, ttl_s=self._ttl_s)
        if lease.symbols:
            lease.__enter__()
            self.leases |= dict.fromkeys(lease.symbols, lease)
        self._active |= dict.fromkeys(names)
        if self._since is None:
            self._since = now
        return {name: holder for name, holder in lease.refused.items() if name in names}

    def changed(self, loaded: Collection[str], now: datetime) -> set[str]:
        """Which of these symbols another run has written since they were last looked at; asked when all are held."""
        found: set[str] = set()
        for table in REVISED:
            version = self._tables.version(table)
            if version != self.versions[table] and loaded and self._since is not None:
                after = self._since - _SKEW
                rows = self._tables.read(table, symbols=[*loaded], columns=[], written_after=after, all_revisions=True)
                written = zip(rows["symbol"].to_pylist(), microseconds(rows, "created").tolist(), strict=True)
                found |= {name for name, created_us in written if created_us > self._stamped_us.get(name, 0)}
            self.versions[table] = version
        self._since = now
        return found

    def stamp(self, symbol: str, now: datetime) -> int:
        """The moment to write a symbol's rows with, microseconds since 1970-01-01 UTC."""
        stamp_us = to_us(self.leases[symbol].stamp(now))
        self._stamped_us[symbol] = stamp_us
        return stamp_us

    def release(self) -> None:
        """Gives everything back."""
        for lease in set(self.leases.values()):
            lease.__exit__(None, None, None)
        self.leases = {}
