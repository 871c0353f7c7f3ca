"""Runs: what was started, and how it ended."""

from __future__ import annotations

import uuid
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any, Literal

from sqlalchemy import Connection, Row, select, update

from feature_repo.moments import to_datetime
from flows.ledger.database import Database
from flows.ledger.errors import LedgerError, UnknownRun
from flows.ledger.schema import RUNS

EndState = Literal["completed", "failed", "stopped"]
RunState = Literal["running", "completed", "failed", "stopped", "lost"]

LOST_AFTER = timedelta(minutes=10)
"""A run that has neither ended nor been seen for so long has died."""

LOST_AFTER_US = LOST_AFTER // timedelta(microseconds=1)

_END_STATES = ("completed", "failed", "stopped")


@dataclass(frozen=True, slots=True, kw_only=True)
class RunRecord:
    """What the ledger knows of a run, moments in UTC.

    Attributes:
        flow_run: the engine's own id of it, empty outside the engine.
        parameters: what it was called with, as JSON keeps it.
        seen: when it last gave a sign of life.
        ended: None while it runs, and for one that is lost.
        counts: what it did, as rows by word.
        problems: what it met, in words.
    """

    id: str
    kind: str
    flow_run: str
    state: RunState
    parameters: Mapping[str, Any]
    started: datetime
    seen: datetime
    ended: datetime | None
    counts: Mapping[str, int]
    problems: tuple[str, ...]


class Runs(Database):
    """The ledger's chapter of runs."""

    def begin(self, kind: str, *, parameters: Mapping[str, Any], flow_run: str = "") -> str:
        """Notes that a run starts. Returns its id. Parameters that JSON has no word for are kept as their text."""
        run, now_us = uuid.uuid4().hex, self._now_us()
        row = {
            "id": run,
            "kind": kind,
            "flow_run": flow_run,
            "state": "running",
            "parameters": dict(parameters),
            "counts": {},
            "problems": [],
            "started_us": now_us,
            "seen_us": now_us,
        }
        with self._writing() as connection:
            connection.execute(RUNS.insert(), row)
        return run

    def touch(self, run: str) -> None:
        """A sign of life, due at least every few minutes: a run unseen for ten counts as lost.

        Raises:
            UnknownRun: there is no such run.
        """
        with self._writing() as connection:
            _change(connection, run, seen_us=self._now_us())

    def end(self, run: str, *, state: EndState, counts: Mapping[str, int], problems: Sequence[str] = ()) -> None:
        """Notes how a run ended, even one that was thought lost. The first end stands, a later one changes nothing.

        Raises:
            UnknownRun: there is no such run.
            LedgerError: a state that is no end.
        """
        if state not in _END_STATES:
            raise LedgerError(f"a run ends {', '.join(_END_STATES)}; not {state!r}")
        now_us = self._now_us()
        counted = {word: int(count) for word, count in counts.items()}
        with self._writing() as connection:
            _change(connection, run, state=state, counts=counted, problems=[*problems], seen_us=now_us, ended_us=now_us)

    def runs(self, *, kind: str | None = None, limit: int = 100) -> list[RunRecord]:
        """The newest runs, newest first."""
        query = select(RUNS).order_by(RUNS.c.started_us.desc(), RUNS.c.id.desc()).limit(limit)
        if kind is not None:
            query = query.where(RUNS.c.kind == kind)
        with self._reading() as connection:
            rows = connection.execute(query).all()
        now_us = self._now_us()
        return [_run(row, now_us) for row in rows]


def _change(connection: Connection, run: str, **values: object) -> None:
    changed = connection.execute(update(RUNS).where(RUNS.c.id == run, RUNS.c.ended_us.is_(None)).values(values))
    if not changed.rowcount and not connection.execute(select(RUNS.c.id).where(RUNS.c.id == run)).first():
        raise UnknownRun(run)


def _run(row: Row[Any], now_us: int) -> RunRecord:
    lost = row.ended_us is None and row.seen_us + LOST_AFTER_US < now_us
    return RunRecord(
        id=row.id,
        kind=row.kind,
        flow_run=row.flow_run,
        state="lost" if lost else row.state,
        parameters=row.parameters,
        started=to_datetime(row.started_us),
        seen=to_datetime(row.seen_us),
        ended=None if row.ended_us is None else to_datetime(row.ended_us),
        counts=row.counts,
        problems=tuple(row.problems),
    )
