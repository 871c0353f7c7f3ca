"""Doubts: symbols and timeframes whose values failed a comparison, and are not trusted until one succeeds."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime

from sqlalchemy import delete, select

from feature_repo.moments import to_datetime
from flows.ledger.database import Database, insert
from flows.ledger.schema import DOUBTS


@dataclass(frozen=True, slots=True, kw_only=True)
class Doubt:
    """Why, and since when (UTC)."""

    reason: str
    since: datetime


class Doubts(Database):
    """The ledger's chapter of doubts."""

    def doubt(self, symbol: str, timeframe: str, reason: str) -> None:
        """Casts doubt on a symbol and timeframe. One that is in doubt already keeps its ``since``."""
        row = {"symbol": symbol, "timeframe": timeframe, "reason": reason, "since_us": self._now_us()}
        with self._writing() as connection:
            put = insert(connection, DOUBTS)
            keys = [DOUBTS.c.symbol, DOUBTS.c.timeframe]
            connection.execute(
                put.on_conflict_do_update(index_elements=keys, set_={"reason": put.excluded.reason}), row
            )

    def clear_doubt(self, symbol: str, timeframe: str) -> None:
        """Ends the doubt, if there is one."""
        with self._writing() as connection:
            connection.execute(delete(DOUBTS).filter_by(symbol=symbol, timeframe=timeframe))

    def doubts(self) -> dict[tuple[str, str], Doubt]:
        """All that is in doubt, by symbol and timeframe."""
        with self._reading() as connection:
            rows = connection.execute(select(DOUBTS)).all()
        return {(row.symbol, row.timeframe): Doubt(reason=row.reason, since=to_datetime(row.since_us)) for row in rows}
