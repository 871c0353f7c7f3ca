"""Leases: one run at a time does a symbol's work.

A lease is rows of the database, one per symbol, each with the moment until which it holds and a fencing token
(Kleppmann, "How to do distributed locking", 2016). A run that was stopped for longer than its lease finds another's
token in its rows, and ``Lease.check`` and ``Ledger.advance`` refuse it, however late it wakes.

Expiry is judged by the caller's clock, against a moment by the holder's clock. Hosts' clocks must agree to within half
a lease's time; when they do not, a lease may be taken from a run that lives. That run is refused as
above: skewed clocks cost work, never truth.
"""

from __future__ import annotations

import logging
import threading
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from types import MappingProxyType, TracebackType
from typing import Any, Self

from sqlalchemy import Connection, Row, select, update

from feature_repo.moments import to_datetime, to_us
from flows.ledger.database import Database, insert
from flows.ledger.errors import LeaseLost, LedgerError
from flows.ledger.schema import FENCE, LEASES

_RELEASED = 0

_log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True, kw_only=True)
class Holder:
    """The holder of a symbol, and when its lease ends (UTC) unless it renews it."""

    owner: str
    until: datetime


class Lease:
    """Symbols that this run alone may work on. Inside ``with`` a thread renews it; leaving releases them.

    Attributes:
        token: the fencing token, as microseconds since 1970: above every earlier one of this ledger, above every stamp
            of these symbols, and not before the clock, so that it also goes on above those of a ledger that was lost.
        symbols: those that were free, in the order asked for.
        refused: the others, each with its holder.
    """

    def __init__(
        self,
        book: Leases,
        *,
        token: int,
        symbols: tuple[str, ...],
        refused: Mapping[str, Holder],
        last_us: int,
        until_us: int,
        ttl_s: float,
    ) -> None:
        self.token = token
        self.symbols = symbols
        self.refused = MappingProxyType(dict(refused))
        self._book = book
        self._last_us = last_us  # the latest stamp of any of the symbols, by this lease or an earlier one
        self._until_us = until_us  # never above what the database holds
        self._ttl_s = ttl_s
        self._stamping = threading.Lock()
        self._ended = threading.Event()
        self._renewing: threading.Thread | None = None

    def __repr__(self) -> str:
        return f"Lease(token={self.token}, symbols={self.symbols!r})"

    def __enter__(self) -> Self:
        if self.symbols and self._renewing is None:
            self._renewing = threading.Thread(target=self._renew_until_ended, name="fstore-lease", daemon=True)
            self._renewing.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        try:
            self.release()
        except LedgerError as failed:  # what was done inside counts, and the lease runs out by itself
            _log.warning("lease %d was not released and runs out by itself: %s", self.token, failed)

    def check(self) -> None:
        """Asks the database whether all symbols are still ours, even past their time if nobody else took them.

        Raises:
            LeaseLost: some are not; it names them.
        """
        with self._book._reading() as connection:
            lost = without(self.symbols, leased_symbols(connection, self))
        if lost:
            raise LeaseLost(lost)

    def stamp(self, now: datetime) -> datetime:
        """A moment (UTC) to write revisions with: not before ``now`` or the token, and after every earlier stamp.

        Later than every stamp of this lease and of any lease that held one of these symbols before. A stamp ahead of
        the ledger's clock is written down before it is returned. Any other needs no writing: it lies before the end of
        this lease, and the next lease's token does not. So it holds after a crash too, and whatever the clocks do.

        Raises:
            LeaseLost: the lease ran out, and another run holds a symbol.
            ValueError: ``now`` is naive.
        """
        with self._stamping:
            stamp_us = max(to_us(now), self.token, self._last_us + 1)
            clock_us = self._book._now_us()
            if stamp_us > clock_us or clock_us >= self._until_us:
                lost = self._book._renew(self, last_us=stamp_us)
                if lost:
                    raise LeaseLost(lost)
            self._last_us = stamp_us
            return to_datetime(stamp_us)

    def release(self) -> None:
        """Gives back what is still ours; a second call does nothing."""
        self._ended.set()
        if self._renewing is not None:
            self._renewing.join()
        with self._stamping:
            self._until_us = _RELEASED  # a stamp asked for from now on is refused
        self._book._release(self)

    @property
    def _stamped_us(self) -> int | None:
        """The latest stamp of this lease; None when it has made none."""
        return self._last_us if self._last_us >= self.token else None

    def _renew_until_ended(self) -> None:
        is_reported = False
        while not self._ended.wait(self._ttl_s / 3):
            try:
                lost = self._book._renew(self)
            except LedgerError as error:
                _log.warning("lease %d could not be renewed, trying again: %s", self.token, error)
                continue
            if lost and not is_reported:
                _log.warning("lease %d lost %s to another run", self.token, ", ".join(lost))
                is_reported = True


class Leases(Database):
    """The ledger's chapter of leases."""

    def lease(self, symbols: Sequence[str], *, owner: str, ttl_s: float = 60.0, takes_over: str = "") -> Lease:
        """Takes every symbol that is free (never leased, released, or past its time), in one transaction.

        ``takes_over`` is for work that is done again because the process that did it is believed dead: it need not wait
        for its own earlier lease to run out. Should the other live after all, it is refused as any late holder is.

        Args:
            symbols: what to take; a repeated one counts once.
            owner: who takes them, for others to read: host, process, flow run.
            ttl_s: how long the lease holds unless renewed. Enter it (``with``) to have it renewed every third of that.
            takes_over: how the names of owners begin whose leases are taken although they hold; empty for none.

        Returns:
            A lease of the symbols that were free, perhaps none; ``refused`` has the holders of the others.

        Raises:
            LedgerUnavailable: the database does not answer.
            ValueError: ``ttl_s`` is not above 0.
        """
        if not ttl_s > 0:
            raise ValueError(f"ttl_s must be above 0, not {ttl_s}")
        wanted = tuple(dict.fromkeys(symbols))
        with self._writing() as connection:
            fence = connection.execute(select(FENCE.c.token).with_for_update()).scalar_one()  # one taker at a time
            rows = _lock_rows(connection, wanted)
            now_us = self._now_us()  # read when all locks are ours: waiting for them takes time
            refused = {
                name: Holder(owner=row.owner, until=to_datetime(row.until_us))
                for name in wanted
                if (row := rows.get(name)) and row.until_us > now_us
                if not (takes_over and row.owner.startswith(takes_over))
            }
            taken = without(wanted, set(refused))
            last_us = max((rows[name].last_us for name in taken if name in rows), default=0)
            # Up to its end a lease makes stamps that it does not write down; one that is taken over has not ended yet.
            ends_us = max((rows[name].until_us for name in taken if name in rows), default=0)
            token = max(fence + 1, now_us, last_us + 1, ends_us)
            until_us = now_us + round(ttl_s * 1e6)
            connection.execute(update(FENCE).values(token=token))
            if taken:
                take = insert(connection, LEASES)
                new = {name: getattr(take.excluded, name) for name in ("token", "owner", "until_us")}
                connection.execute(
                    take.on_conflict_do_update(index_elements=[LEASES.c.symbol], set_=new),
                    [
                        {"symbol": name, "token": token, "owner": owner, "until_us": until_us, "last_us": 0}
                        for name in taken
                    ],
                )
        return Lease(self, token=token, symbols=taken, refused=refused, last_us=last_us, until_us=until_us, ttl_s=ttl_s)

    def _renew(self, lease: Lease, last_us: int | None = None) -> tuple[str, ...]:
        """Renews what is still ours, remembering a stamp if there is one. Returns what is no longer ours."""
        with self._writing() as connection:
            kept = leased_symbols(connection, lease)
            # Not even a clock that is set back shortens a lease: stamps may have been made up to its end.
            until_us = max(lease._until_us, self._now_us() + round(lease._ttl_s * 1e6))
            _write(connection, kept, until_us=until_us, last_us=last_us)
        lease._until_us = until_us
        return without(lease.symbols, kept)

    def _release(self, lease: Lease) -> None:
        with self._writing() as connection:
            _write(connection, leased_symbols(connection, lease), until_us=_RELEASED, last_us=lease._stamped_us)


def leased_symbols(connection: Connection, lease: Lease) -> set[str]:
    """The symbols that are still the lease's; their rows are locked until the transaction ends (PostgreSQL)."""
    rows = _lock_rows(connection, lease.symbols)
    return {name for name, row in rows.items() if row.token == lease.token and row.until_us != _RELEASED}


def remember_stamp(connection: Connection, lease: Lease) -> None:
    """Writes the lease's latest stamp to its symbols' rows, once this transaction has seen that all are its own."""
    if lease._stamped_us is not None:
        _write(connection, lease.symbols, last_us=lease._stamped_us)


def without(symbols: Sequence[str], others: set[str]) -> tuple[str, ...]:
    """Those of ``symbols`` that are not among ``others``, in their order."""
    return tuple(name for name in symbols if name not in others)


def _lock_rows(connection: Connection, symbols: Sequence[str]) -> dict[str, Row[Any]]:
    # Always in the same order, so that two transactions that lock several rows never wait for each other.
    query = select(LEASES).where(LEASES.c.symbol.in_(symbols)).order_by(LEASES.c.symbol).with_for_update()
    return {row.symbol: row for row in connection.execute(query)}


def _write(connection: Connection, symbols: Collection[str], **values: int | None) -> None:
    columns = {name: value for name, value in values.items() if value is not None}
    connection.execute(update(LEASES).where(LEASES.c.symbol.in_(symbols)).values(columns))
