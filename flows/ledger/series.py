"""Series: which timeframes of which symbols have been ingested, so that nobody has to read all bars to know."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace

from sqlalchemy import select

from flows.ledger.database import Database, insert
from flows.ledger.schema import SERIES


@dataclass(frozen=True, slots=True, kw_only=True)
class IngestedSeries:
    """A symbol's ingested bars of one timeframe; moments are microseconds since 1970.

    Attributes:
        first_us, last_us: open of the earliest and of the newest bar.
        listed_us: when the newest revision that has been looked at was written.
    """

    symbol: str
    timeframe: str
    first_us: int
    last_us: int
    listed_us: int

    def joined(self, other: IngestedSeries) -> IngestedSeries:
        """The series with what was written to it since."""
        return replace(
            self,
            first_us=min(self.first_us, other.first_us),
            last_us=max(self.last_us, other.last_us),
            listed_us=max(self.listed_us, other.listed_us),
        )


class SeriesList(Database):
    """The ledger's chapter of series. The tables hold the truth; this is found again from them when it is lost."""

    def series(self, symbols: Sequence[str] | None = None) -> dict[tuple[str, str], IngestedSeries]:
        """The ingested series by symbol and timeframe, of these symbols or of all."""
        query = select(SERIES)
        if symbols is not None:
            query = query.where(SERIES.c.symbol.in_(symbols))
        with self._reading() as connection:
            rows = [IngestedSeries(**row._mapping) for row in connection.execute(query)]
        return {(row.symbol, row.timeframe): row for row in rows}

    def list_series(self, rows: Sequence[IngestedSeries]) -> None:
        """Notes series, new ones and those that have grown."""
        if not rows:
            return
        with self._writing() as connection:
            put = insert(connection, SERIES)
            connection.execute(
                put.on_conflict_do_update(
                    index_elements=[SERIES.c.symbol, SERIES.c.timeframe],
                    set_={name: getattr(put.excluded, name) for name in ("first_us", "last_us", "listed_us")},
                ),
                [asdict(row) for row in sorted(rows, key=lambda row: (row.symbol, row.timeframe))],
            )
