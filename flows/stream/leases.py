"""The leases under which a stream writes, and whether what it has in memory is still what is stored.

Leases are held while bars arrive and released when none have for a while, so that batch runs and backfills get their
turn between two closes. When they are taken again, ``changed`` returns the symbols that another run wrote meanwhile.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from datetime import datetime, timedelta

from feature_repo.moments import to_us
from feature_repo.stores.schemas import REVISED, TableName
from feature_repo.stores.window import microseconds
from flows.ledger import Holder, Lease, Run

_SKEW = timedelta(seconds=60)  # how far another host's clock may be behind


class StreamLeases:
    """Leases of symbols, in as few leases and threads as possible.

    Attributes:
        leases: the leases held, by symbol.
        versions: the tables' versions when everything held was last known to be written by no one else.
    """

    def __init__(self, run: Run, *, owner: str, ttl_s: float) -> None:
        self._ledger, self._tables, self._owner, self._ttl_s = run.ledger, run.tables, owner, ttl_s
        self.leases: dict[str, Lease] = {}
        self.versions: dict[TableName, int | None] = dict.fromkeys(REVISED)
        self._active: dict[str, None] = {}  # every symbol ever held: all are leased together when bars arrive again
        self._stamped_us: dict[str, int] = {}
        self._since: datetime | None = None

    def take(self, names: Collection[str], now: datetime) -> Mapping[str, Holder]:
        """Leases ``names`` and whatever was held before. Returns those of ``names`` that another run holds."""
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
        """The symbols that another run has written since the last call. To be called when all of them are held."""
        written: set[str] = set()
        for table in REVISED:
            version = self._tables.version(table)
            if version != self.versions[table] and loaded and self._since is not None:
                after = self._since - _SKEW
                rows = self._tables.read(table, symbols=[*loaded], columns=[], written_after=after, all_revisions=True)
                created = zip(rows["symbol"].to_pylist(), microseconds(rows, "created").tolist(), strict=True)
                written |= {name for name, created_us in created if created_us > self._stamped_us.get(name, 0)}
            self.versions[table] = version
        self._since = now
        return written

    def stamp(self, symbol: str, now: datetime) -> int:
        """The revision to write a symbol's rows with, microseconds since 1970-01-01 UTC."""
        stamp_us = to_us(self.leases[symbol].stamp(now))
        self._stamped_us[symbol] = stamp_us
        return stamp_us

    def release(self) -> None:
        """Releases every lease."""
        for lease in set(self.leases.values()):
            lease.__exit__(None, None, None)
        self.leases = {}
