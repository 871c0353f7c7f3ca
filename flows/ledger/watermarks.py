"""Watermarks: how far each symbol and timeframe has come."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace

from sqlalchemy import select

from flows.ledger.database import Database, insert
from flows.ledger.errors import LeaseLost, LedgerError
from flows.ledger.leases import Lease, leased_symbols, remember_stamp, without
from flows.ledger.schema import WATERMARKS

_MEASURES = ("event_us", "seen_us", "recipe")


@dataclass(frozen=True, slots=True, kw_only=True)
class Watermark:
    """How far a symbol and timeframe has come; moments are microseconds since 1970.

    Attributes:
        event_us: close of the newest bar that is stored and published.
        seen_us: every source revision written up to this moment has been taken into account.
        recipe: digest of the definitions that it was done with.
    """

    symbol: str
    timeframe: str
    event_us: int
    seen_us: int
    recipe: str


class Watermarks(Database):
    """The ledger's chapter of watermarks."""

    def watermarks(self, symbols: Sequence[str] | None = None) -> dict[tuple[str, str], Watermark]:
        """The watermarks by symbol and timeframe, of these symbols or of all; what was never done has none."""
        query = select(WATERMARKS)
        if symbols is not None:
            query = query.where(WATERMARKS.c.symbol.in_(symbols))
        with self._reading() as connection:
            rows = [Watermark(**row._mapping) for row in connection.execute(query)]
        return {(row.symbol, row.timeframe): row for row in rows}

    def advance(self, lease: Lease, rows: Sequence[Watermark]) -> None:
        """Moves watermarks forward, if the lease still holds: all of them in one transaction, or none.

        A bar that closes in the future (a source's wrong clock) counts up to the ledger's clock only, because it would
        hide all the bars before it. Neither moment ever goes back, unless the recipe changed: then both are set.

        Raises:
            LeaseLost: any of the lease's symbols is no longer its own; nothing was written.
            LedgerError: a row of a symbol that the lease never held.
        """
        foreign = without(list(dict.fromkeys(row.symbol for row in rows)), set(lease.symbols))
        if foreign:
            raise LedgerError(f"{foreign[0]} is not of this lease, which holds {', '.join(lease.symbols) or 'nothing'}")
        with self._writing() as connection:
            lost = without(lease.symbols, leased_symbols(connection, lease))
            if lost:
                raise LeaseLost(lost)
            remember_stamp(connection, lease)
            if not rows:
                return
            now_us = self._now_us()
            query = select(WATERMARKS).where(WATERMARKS.c.symbol.in_({row.symbol for row in rows}))
            marks = {(row.symbol, row.timeframe): Watermark(**row._mapping) for row in connection.execute(query)}
            for row in rows:
                key = row.symbol, row.timeframe
                marks[key] = _later(marks.get(key), replace(row, event_us=min(row.event_us, now_us)))
            put = insert(connection, WATERMARKS)
            connection.execute(
                put.on_conflict_do_update(
                    index_elements=[WATERMARKS.c.symbol, WATERMARKS.c.timeframe],
                    set_={name: getattr(put.excluded, name) for name in _MEASURES},
                ),
                [asdict(marks[key]) for key in dict.fromkeys((row.symbol, row.timeframe) for row in rows)],
            )


def _later(was: Watermark | None, new: Watermark) -> Watermark:
    if was is None or was.recipe != new.recipe:
        return new
    return replace(new, event_us=max(was.event_us, new.event_us), seen_us=max(was.seen_us, new.seen_us))
