"""Backfills: how much of a long one is done, so that it can be continued."""

from __future__ import annotations

from sqlalchemy import delete, select

from flows.ledger.database import Database, insert
from flows.ledger.schema import BACKFILLS


class Backfills(Database):
    """The ledger's chapter of backfills. A ``key`` identifies a backfill: its range and the definitions."""

    def backfill_done(self, key: str) -> set[tuple[str, str]]:
        """The symbols and timeframes that are done."""
        query = select(BACKFILLS.c.symbol, BACKFILLS.c.timeframe).where(BACKFILLS.c.key == key)
        with self._reading() as connection:
            return {(row.symbol, row.timeframe) for row in connection.execute(query)}

    def mark_backfilled(self, key: str, symbol: str, timeframe: str) -> None:
        """Notes that one is done; a second time changes nothing."""
        row = {"key": key, "symbol": symbol, "timeframe": timeframe, "at_us": self._now_us()}
        with self._writing() as connection:
            connection.execute(insert(connection, BACKFILLS).on_conflict_do_nothing(), row)

    def forget_backfill(self, key: str) -> None:
        """Makes the backfill start again."""
        with self._writing() as connection:
            connection.execute(delete(BACKFILLS).where(BACKFILLS.c.key == key))
