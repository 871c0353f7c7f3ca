"""Totals: runs, verdicts, revisions and alerts as the database adds them up, so that no count depends on a limit."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import date, datetime, timedelta
from typing import Any

from sqlalchemy import Select, Text, case, cast, func, or_, select

from feature_repo.moments import to_datetime, to_us
from flows.ledger.database import Database
from flows.ledger.events import Verdict
from flows.ledger.runs import LOST_AFTER_US, RunState
from flows.ledger.schema import ALERTS, REVISIONS, RUNS, VERDICTS

_DAY_US = 86_400_000_000
_EPOCH = date(1970, 1, 1)


@dataclass(frozen=True, slots=True, kw_only=True)
class VerdictTotal:
    """The verdicts of one UTC day, kind and result.

    Attributes:
        verdicts: how many there are.
        rows, bad_rows: how many rows they judged, and how many of those are bad.
    """

    day: date
    kind: str
    passed: bool
    verdicts: int
    rows: int
    bad_rows: int


@dataclass(frozen=True, slots=True, kw_only=True)
class RunTotal:
    """How many runs of one kind are in one state."""

    kind: str
    state: RunState
    runs: int


@dataclass(frozen=True, slots=True, kw_only=True)
class LastEnd:
    """When the last run with some parameters ended (UTC)."""

    parameters: Mapping[str, Any]
    ended: datetime


class Totals(Database):
    """The ledger's chapter of totals."""

    def verdict_totals(self, since: datetime) -> list[VerdictTotal]:
        """Verdicts since a moment by UTC day, kind and result; days ascending."""
        day = VERDICTS.c.at_us - VERDICTS.c.at_us % _DAY_US
        columns = (day.label("day_us"), VERDICTS.c.kind, VERDICTS.c.passed)
        sums = (
            func.count().label("verdicts"),
            func.sum(VERDICTS.c.rows).label("rows"),
            func.sum(VERDICTS.c.bad_rows).label("bad_rows"),
        )
        query = select(*columns, *sums).where(VERDICTS.c.at_us >= to_us(since)).group_by(*columns).order_by(*columns)
        return [
            VerdictTotal(
                day=_EPOCH + timedelta(days=row.day_us // _DAY_US),
                kind=row.kind,
                passed=bool(row.passed),
                verdicts=row.verdicts,
                rows=int(row.rows),
                bad_rows=int(row.bad_rows),
            )
            for row in self._all(query)
        ]

    def failing(self, since: datetime) -> list[Verdict]:
        """The newest verdict of each symbol, timeframe and kind since a moment, where it did not pass; newest first."""
        columns = [column for column in VERDICTS.c if column.name != "id"]
        newest_first = (VERDICTS.c.at_us.desc(), VERDICTS.c.id.desc())
        gate = (VERDICTS.c.symbol, VERDICTS.c.timeframe, VERDICTS.c.kind)
        rank = func.row_number().over(partition_by=gate, order_by=newest_first).label("rank")
        ranked = select(*columns, VERDICTS.c.id, rank).where(VERDICTS.c.at_us >= to_us(since)).subquery()
        query = (
            select(*(ranked.c[column.name] for column in columns))
            .where(ranked.c.rank == 1, ranked.c.passed.is_(False))
            .order_by(ranked.c.at_us.desc(), ranked.c.id.desc())
        )
        return [Verdict(**row._mapping) for row in self._all(query)]

    def run_totals(self, since: datetime) -> list[RunTotal]:
        """Runs that started since a moment or are still running, by kind and state."""
        is_lost = RUNS.c.ended_us.is_(None) & (RUNS.c.seen_us + LOST_AFTER_US < self._now_us())
        state = case((is_lost, "lost"), else_=RUNS.c.state)
        is_running = RUNS.c.ended_us.is_(None) & ~is_lost
        query = (
            select(RUNS.c.kind, state.label("state"), func.count().label("runs"))
            .where(or_(RUNS.c.started_us >= to_us(since), is_running))
            .group_by(RUNS.c.kind, state)
            .order_by(RUNS.c.kind, state)
        )
        return [RunTotal(kind=row.kind, state=row.state, runs=row.runs) for row in self._all(query)]

    def last_ends(self, kind: str) -> list[LastEnd]:
        """When runs of a kind last completed or stopped some symbols, by their parameters."""
        parameters = cast(RUNS.c.parameters, Text).label("parameters")  # PostgreSQL cannot compare JSON
        query = (
            select(parameters, func.max(RUNS.c.ended_us).label("ended_us"))
            .where(RUNS.c.kind == kind, RUNS.c.state.in_(("completed", "stopped")))
            .group_by(parameters)
        )
        return [
            LastEnd(parameters=json.loads(row.parameters), ended=to_datetime(row.ended_us)) for row in self._all(query)
        ]

    def rows_stored(self, since: datetime) -> int:
        """New rows in all tables since a moment, revisions of earlier values not counted."""
        query = select(func.coalesce(func.sum(REVISIONS.c.stored), 0)).where(REVISIONS.c.at_us >= to_us(since))
        with self._reading() as connection:
            return int(connection.execute(query).scalar_one())

    def open_alerts(self) -> Mapping[str, int]:
        """Rule -> incidents that are open now."""
        query = select(ALERTS.c.rule, func.count().label("alerts")).where(ALERTS.c.closed_us.is_(None))
        return {row.rule: row.alerts for row in self._all(query.group_by(ALERTS.c.rule).order_by(ALERTS.c.rule))}

    def _all(self, query: Select[Any]) -> list[Any]:
        with self._reading() as connection:
            return list(connection.execute(query))
