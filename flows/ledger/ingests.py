"""Ingests: which downloads were taken, so that an old one ingested again does not undo a newer one."""

from __future__ import annotations

from datetime import datetime

from sqlalchemy import select

from feature_repo.moments import to_datetime, to_us
from flows.ledger.database import Database, insert
from flows.ledger.schema import INGESTS


class Ingests(Database):
    """The ledger's chapter of ingests."""

    def ingested_at(self, symbol: str, timeframe: str, digest: str) -> datetime | None:
        """When a download with this digest was first taken (UTC), or None."""
        query = select(INGESTS.c.at_us).filter_by(symbol=symbol, timeframe=timeframe, digest=digest)
        with self._reading() as connection:
            at_us = connection.execute(query).scalar()
        return None if at_us is None else to_datetime(at_us)

    def ingest_names(self, symbol: str) -> dict[str, str]:
        """What a symbol's downloads were called, by digest."""
        query = select(INGESTS.c.digest, INGESTS.c.source).filter_by(symbol=symbol)
        with self._reading() as connection:
            return {row.digest: row.source for row in connection.execute(query)}

    def record_ingest(
        self, run: str, symbol: str, timeframe: str, digest: str, source: str, rows: int, at: datetime
    ) -> None:
        """Notes a download that was taken. The first time stands: taken again, it is no newer than it was."""
        row = {
            "run": run,
            "symbol": symbol,
            "timeframe": timeframe,
            "digest": digest,
            "source": source,
            "rows": rows,
            "at_us": to_us(at),
        }
        with self._writing() as connection:
            connection.execute(insert(connection, INGESTS).on_conflict_do_nothing(), row)
