"""Retention: old history is deleted, what work depends on stays."""

from __future__ import annotations

from datetime import datetime

from sqlalchemy import delete, func, or_, select

from feature_repo.moments import to_us
from flows.ledger.database import Database
from flows.ledger.runs import LOST_AFTER_US
from flows.ledger.schema import ALERTS, BACKFILLS, REVISIONS, RUNS, VERDICTS


class Retention(Database):
    """The ledger's chapter of retention."""

    def prune(self, before: datetime) -> int:
        """Deletes what is older: ended and lost runs, verdicts, revisions, closed alerts, backfills unmarked since.

        Watermarks, leases, ingests, doubts, open alerts and running runs stay, whatever their age.

        Returns:
            How many rows.
        """
        before_us, now_us = to_us(before), self._now_us()
        over = or_(
            RUNS.c.ended_us < before_us,
            RUNS.c.ended_us.is_(None) & (RUNS.c.seen_us < min(before_us, now_us - LOST_AFTER_US)),
        )
        runs = select(RUNS.c.id).where(over)
        unmarked = select(BACKFILLS.c.key).group_by(BACKFILLS.c.key).having(func.max(BACKFILLS.c.at_us) < before_us)
        orders = (
            delete(VERDICTS).where(or_(VERDICTS.c.at_us < before_us, VERDICTS.c.run.in_(runs))),
            delete(REVISIONS).where(or_(REVISIONS.c.at_us < before_us, REVISIONS.c.run.in_(runs))),
            delete(RUNS).where(over),
            delete(ALERTS).where(ALERTS.c.closed_us < before_us),
            delete(BACKFILLS).where(BACKFILLS.c.key.in_(unmarked)),
        )
        with self._writing() as connection:
            return sum(connection.execute(order).rowcount for order in orders)
