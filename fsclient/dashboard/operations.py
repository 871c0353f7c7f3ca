"""What the dashboard asks of the machinery that moves data, as plain records.

A bare client machine has no such machinery: the dashboard then has no ``Operations``, and its pages say so. Moments
are aware datetimes in UTC.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Protocol

from feature_repo.stores.delta.quarantine import QuarantinedRow
from fsclient.dashboard.explanation import Explanation


class OperationsError(RuntimeError):
    """The machinery does not answer or refuses; the message names the remedy and holds no secret."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Run:
    """One run of a pipeline.

    Attributes:
        state: ``running``, ``completed``, ``failed``, ``stopped`` or ``lost`` (it died without saying so).
        counts: what it did, as rows by word.
        problems: what it met, in words.
        url: its page in the engine's own UI; empty when there is none.
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
    """What a gate said of one symbol and timeframe.

    Attributes:
        kind: ``bars``, ``indicators`` or ``parity`` (online, offline and recomputed hold the same).
        by_rule: bad rows by the rule that they break.
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
class Revision:
    """How many rows one run wrote to a table: new ones, and ones that replace an earlier value."""

    symbol: str
    timeframe: str
    table: str
    stored: int
    revised: int
    at: datetime


@dataclass(frozen=True, slots=True, kw_only=True)
class Alert:
    """An incident; ``closed`` is None while it lasts."""

    rule: str
    subject: str
    detail: str
    opened: datetime
    closed: datetime | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Doubt:
    """A symbol and timeframe whose values did not prove right."""

    symbol: str
    timeframe: str
    reason: str
    since: datetime


@dataclass(frozen=True, slots=True, kw_only=True)
class Definition:
    """What the registry holds of a view: which version, since when."""

    view: str
    version: str
    created: datetime | None
    updated: datetime | None


class Operations(Protocol):
    """The machinery. Every method may raise ``OperationsError``; all are called from several threads."""

    def runs(self, *, limit: int = 100) -> Sequence[Run]:
        """The newest runs, newest first."""

    def verdicts(
        self, *, symbol: str | None = None, since: datetime | None = None, limit: int = 1000
    ) -> Sequence[Verdict]:
        """Verdicts, newest first."""

    def revisions(
        self, *, symbol: str | None = None, since: datetime | None = None, limit: int = 1000
    ) -> Sequence[Revision]:
        """Revisions, newest first."""

    def alerts(self, *, open_only: bool = False, limit: int = 200) -> Sequence[Alert]:
        """Incidents, newest first."""

    def doubts(self) -> Sequence[Doubt]:
        """All that is in doubt."""

    def definitions(self) -> Sequence[Definition] | None:
        """What is registered; None while that is being read, which may take seconds."""

    def explain(self, symbol: str, timeframe: str, field: str, open_time: datetime) -> Explanation:
        """Where a field's value at the bar that opened at ``open_time`` comes from."""

    def release_quarantined(self, rows: Sequence[QuarantinedRow], *, by: str) -> int:
        """Stores rows of kind ``bars`` after all, as revisions. Returns how many; all of them are marked."""

    def discard_quarantined(self, rows: Sequence[QuarantinedRow], *, by: str) -> int:
        """Marks rows as rightly rejected. Returns how many."""
