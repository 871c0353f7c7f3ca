"""Events that a dashboard draws: the gate's verdicts, and what each run wrote. Never one row per bar."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, fields
from typing import Any, Literal

from sqlalchemy import Select, Table, insert, select

from flows.ledger.database import Database
from flows.ledger.schema import REVISIONS, VERDICTS


@dataclass(frozen=True, slots=True, kw_only=True)
class Verdict:
    """What a check said of one symbol and timeframe in one run.

    Attributes:
        reason: why it did not pass, in words; empty when it did.
        rows, bad_rows: how many were judged, and how many of those are bad.
        by_rule: bad rows by the rule that they break.
        at_us: when, microseconds since 1970.
    """

    run: str
    symbol: str
    timeframe: str
    kind: Literal["bars", "indicators", "parity"]
    passed: bool
    reason: str = ""
    rows: int = 0
    bad_rows: int = 0
    by_rule: Mapping[str, int] = field(default_factory=dict)
    at_us: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Revision:
    """What one run wrote to one table of one symbol and timeframe; moments are microseconds since 1970.

    Attributes:
        first_open_us, last_open_us: the earliest and the latest bar that it wrote.
        stored, revised: how many rows were new, and how many replaced an earlier value.
        at_us: when.
    """

    run: str
    symbol: str
    timeframe: str
    table: Literal["bars", "indicators"]
    first_open_us: int
    last_open_us: int
    stored: int
    revised: int
    at_us: int


class Events(Database):
    """The ledger's chapter of events."""

    def record(self, *, verdicts: Sequence[Verdict] = (), revisions: Sequence[Revision] = ()) -> None:
        """Writes events, all in one transaction.

        Raises:
            LedgerError: a run that the ledger does not hold.
        """
        with self._writing() as connection:
            if verdicts:
                rows = [_row(verdict) for verdict in verdicts]
                for row in rows:
                    row |= {
                        "passed": bool(row["passed"]),
                        "by_rule": {rule: int(count) for rule, count in row["by_rule"].items()},
                    }
                connection.execute(insert(VERDICTS), rows)
            if revisions:
                connection.execute(insert(REVISIONS), [_row(revision) for revision in revisions])

    def verdicts(self, *, symbol: str | None = None, since_us: int | None = None, limit: int = 1000) -> list[Verdict]:
        """Verdicts, newest first; ``since_us`` is inclusive."""
        return [Verdict(**row) for row in self._events(VERDICTS, symbol, since_us, limit)]

    def revisions(self, *, symbol: str | None = None, since_us: int | None = None, limit: int = 1000) -> list[Revision]:
        """Revisions, newest first; ``since_us`` is inclusive."""
        return [Revision(**row) for row in self._events(REVISIONS, symbol, since_us, limit)]

    def _events(self, table: Table, symbol: str | None, since_us: int | None, limit: int) -> list[dict[str, Any]]:
        columns = [column for column in table.c if column.name != "id"]
        query: Select[Any] = select(*columns).order_by(table.c.at_us.desc(), table.c.id.desc()).limit(limit)
        if symbol is not None:
            query = query.where(table.c.symbol == symbol)
        if since_us is not None:
            query = query.where(table.c.at_us >= since_us)
        with self._reading() as connection:
            return [dict(row._mapping) for row in connection.execute(query)]


def _row(event: Verdict | Revision) -> dict[str, Any]:
    return {item.name: getattr(event, item.name) for item in fields(event)}
