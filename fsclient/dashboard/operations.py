"""What the dashboard needs to know of the pipelines, as plain records.

A machine that only runs clients has no pipelines and no ledger: the dashboard then has no ``Operations``, and its pages
say so. Moments are aware datetimes in UTC.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import date, datetime
from typing import Protocol

from feature_repo.stores.quarantine import QuarantinedRow
from fsclient.dashboard.explanation import Explanation


class OperationsError(RuntimeError):
    """The ledger does not answer, or a request is refused; the message names the remedy and holds no secret."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Run:
    """One run of a pipeline.

    Attributes:
        state: ``running``, ``completed``, ``failed``, ``stopped`` or ``lost`` (it died without reporting its end).
        counts: rows by what was done with them, such as ``stored``.
        problems: what went wrong, in words.
        url: the run's page in the engine's UI; empty when there is none.
    """

    id: str
    kind: str
    state: str
    started: datetime
    ended: datetime | None
    counts: Mapping[str, int]
    problems: tuple[str, ...]
    url: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Verdict:
    """A gate's verdict on one symbol and timeframe.

    Attributes:
        kind: ``bars``, ``indicators`` or ``parity`` (online, offline and recomputed values are the same).
        by_rule: rule -> rows that break it.
    """

    symbol: str
    timeframe: str
    kind: str
    passed: bool
    reason: str
    rows: int
    bad_rows: int
    by_rule: Mapping[str, int]
    at: datetime


@dataclass(frozen=True, slots=True, kw_only=True)
class VerdictTotal:
    """All verdicts of one UTC day, kind and result, added up by the ledger.

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
    """How many runs of one kind are in one state, counted by the ledger."""

    kind: str
    state: str
    runs: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Revision:
    """How many rows one run wrote to a table: ``stored`` are new, ``revised`` replace an earlier value."""

    symbol: str
    timeframe: str
    table: str
    stored: int
    revised: int
    at: datetime


@dataclass(frozen=True, slots=True, kw_only=True)
class Alert:
    """An incident; ``closed`` is None while it is open."""

    rule: str
    subject: str
    detail: str
    opened: datetime
    closed: datetime | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Doubt:
    """A symbol and timeframe whose values failed a comparison and are not to be trusted until one succeeds."""

    symbol: str
    timeframe: str
    reason: str
    since: datetime


@dataclass(frozen=True, slots=True, kw_only=True)
class Definition:
    """A registered view: its version, and when it was created and last updated."""

    view: str
    version: str
    created: datetime | None
    updated: datetime | None


class Operations(Protocol):
    """The pipelines, seen through their ledger. Methods may raise ``OperationsError``; several threads call them."""

    def runs(self, *, limit: int = 100) -> Sequence[Run]:
        """The newest runs, newest first."""

    def run_totals(self, since: datetime) -> Sequence[RunTotal]:
        """Runs that started since a moment or are still running, by kind and state."""

    def rows_stored(self, since: datetime) -> int:
        """New rows in all tables since a moment."""

    def verdicts(
        self, *, symbol: str | None = None, since: datetime | None = None, limit: int = 1000
    ) -> Sequence[Verdict]:
        """Verdicts, newest first."""

    def verdict_totals(self, since: datetime) -> Sequence[VerdictTotal]:
        """All verdicts since a moment by day, kind and result; days ascending."""

    def failing(self, since: datetime) -> Sequence[Verdict]:
        """The newest verdict of each symbol, timeframe and kind since a moment, where it did not pass."""

    def revisions(
        self, *, symbol: str | None = None, since: datetime | None = None, limit: int = 1000
    ) -> Sequence[Revision]:
        """Revisions, newest first."""

    def alerts(self, *, open_only: bool = False, limit: int = 200) -> Sequence[Alert]:
        """Incidents, newest first."""

    def open_alerts(self) -> Mapping[str, int]:
        """Rule -> incidents that are open now."""

    def doubts(self) -> Sequence[Doubt]:
        """Every symbol and timeframe in doubt."""

    def definitions(self) -> Sequence[Definition] | None:
        """Registered views; None while the registry is still being read, which may take seconds."""

    def explain(self, symbol: str, timeframe: str, field: str, open_time: datetime) -> Explanation:
        """Explains a field's value at the bar that opened at ``open_time``."""

    def release_quarantined(self, rows: Sequence[QuarantinedRow], *, by: str) -> int:
        """Stores rows of kind ``bars`` after all, as revisions, and marks them all. Returns how many were stored."""

    def discard_quarantined(self, rows: Sequence[QuarantinedRow], *, by: str) -> int:
        """Marks rows as rightly rejected. Returns how many."""
