"""Everything that the pages read, created once and shared by all of them."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import TypeVar

from feature_repo.repo import Repo
from fsclient.dashboard.access import Access
from fsclient.dashboard.market import Market
from fsclient.dashboard.online import OnlineStore
from fsclient.dashboard.operations import Operations, OperationsError
from fsclient.dashboard.quarantine import Quarantine
from fsclient.dashboard.traffic.reader import Traffic

T = TypeVar("T")
D = TypeVar("D")

NO_LEDGER = "no ledger"
"""Why the ledger gives no answer on a machine without one."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Sources:
    """What the pages read.

    Attributes:
        operations: runs, verdicts, alerts; None on a machine that has no ledger.
        now_s: returns the current time, seconds since 1970.
    """

    repo: Repo
    access: Access
    traffic: Traffic
    online: OnlineStore
    market: Market
    quarantine: Quarantine
    operations: Operations | None
    now_s: Callable[[], float]

    @classmethod
    def of(
        cls,
        repo: Repo,
        *,
        access: Access,
        operations: Operations | None = None,
        now: Callable[[], float] = time.time,
    ) -> Sources:
        """The sources of a feature repository."""
        online = OnlineStore(repo, now=now)
        tables = repo.tables()
        return cls(
            repo=repo,
            access=access,
            traffic=Traffic(online.client, repo.project, now=now),
            online=online,
            market=Market(tables),
            quarantine=Quarantine(tables),
            operations=operations,
            now_s=now,
        )

    @property
    def now(self) -> datetime:
        """The current time, UTC."""
        return datetime.fromtimestamp(self.now_s(), UTC)

    def ask(self, question: Callable[[Operations], T], default: D) -> tuple[T | D, str]:
        """The ledger's answer and "", or ``default`` and the reason why there is no answer."""
        if self.operations is None:
            return default, NO_LEDGER
        try:
            return question(self.operations), ""
        except OperationsError as error:
            return default, str(error)
