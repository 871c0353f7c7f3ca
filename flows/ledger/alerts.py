"""Alerts: an incident begins once and ends once, however many notice it."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime

from sqlalchemy import Update, select, update

from feature_repo.moments import to_datetime
from flows.ledger.database import Database, insert
from flows.ledger.schema import ALERTS, IS_OPEN


@dataclass(frozen=True, slots=True, kw_only=True)
class Alert:
    """An incident, moments in UTC.

    Attributes:
        rule: what is watched.
        subject: of what, as a symbol and timeframe.
        detail: what was seen when it began, or noted of it later.
        closed: None while it lasts.
    """

    rule: str
    subject: str
    detail: str
    opened: datetime
    closed: datetime | None


class Alerts(Database):
    """The ledger's chapter of alerts."""

    def open_alert(self, rule: str, subject: str, detail: str) -> bool:
        """Begins an incident. Returns whether it is new; False: it lasts already."""
        row = {"rule": rule, "subject": subject, "detail": detail, "opened_us": self._now_us()}
        with self._writing() as connection:
            once = insert(connection, ALERTS).on_conflict_do_nothing(
                index_elements=[ALERTS.c.rule, ALERTS.c.subject], index_where=IS_OPEN
            )
            return connection.execute(once.returning(ALERTS.c.id), row).first() is not None

    def describe_alert(self, rule: str, subject: str, detail: str) -> None:
        """Replaces the detail of an open incident, if there is one."""
        with self._writing() as connection:
            connection.execute(_open(rule, subject).values(detail=detail))

    def close_alert(self, rule: str, subject: str) -> bool:
        """Ends an incident. Returns whether there was one."""
        with self._writing() as connection:
            return connection.execute(_open(rule, subject).values(closed_us=self._now_us())).rowcount == 1

    def alerts(self, *, open_only: bool = False, limit: int = 200) -> list[Alert]:
        """Incidents, the newest first."""
        query = select(ALERTS).order_by(ALERTS.c.opened_us.desc(), ALERTS.c.id.desc()).limit(limit)
        if open_only:
            query = query.where(ALERTS.c.closed_us.is_(None))
        with self._reading() as connection:
            rows = connection.execute(query).all()
        return [
            Alert(
                rule=row.rule,
                subject=row.subject,
                detail=row.detail,
                opened=to_datetime(row.opened_us),
                closed=None if row.closed_us is None else to_datetime(row.closed_us),
            )
            for row in rows
        ]


def _open(rule: str, subject: str) -> Update:
    return update(ALERTS).filter_by(rule=rule, subject=subject).where(ALERTS.c.closed_us.is_(None))
