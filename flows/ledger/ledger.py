"""The ledger: all its chapters over one database, and a run at work with it."""

from __future__ import annotations

import os
import socket
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from datetime import datetime
from types import TracebackType
from typing import TYPE_CHECKING, Any, Self

from feature_repo.moments import to_us
from flows.ledger.alerts import Alerts
from flows.ledger.backfills import Backfills
from flows.ledger.doubts import Doubts
from flows.ledger.errors import LedgerError
from flows.ledger.events import Events
from flows.ledger.ingests import Ingests
from flows.ledger.leases import Leases
from flows.ledger.retention import Retention
from flows.ledger.runs import Runs
from flows.ledger.series import SeriesList
from flows.ledger.totals import Totals
from flows.ledger.watermarks import Watermarks

if TYPE_CHECKING:
    from feature_repo.stores.tables import OfflineTables
    from flows.ledger.events import Revision, Verdict
    from flows.ledger.leases import Lease

_PAUSE_S = 0.5


@dataclass(frozen=True, slots=True, kw_only=True)
class Run:
    """Everything that a run works with; it travels in place of its parts.

    Attributes:
        id: the ledger's name of it; empty for work that no run of the ledger is about, of which nothing is noted.
        tables: the offline tables.
        now: the moment (UTC) that it judges by: what has closed, what is fresh.
        current_lease: the lease of the symbols that it works on; None before it has one.
        counts, problems: what it did, as rows by word, and what it met; noted when it ends. A run with problems ends as
            stopped.
    """

    id: str = ""
    ledger: Ledger
    tables: OfflineTables
    now: datetime
    current_lease: Lease | None = None
    counts: dict[str, int] = field(default_factory=dict)
    problems: list[str] = field(default_factory=list)

    @property
    def now_us(self) -> int:
        """``now`` as microseconds since 1970-01-01 UTC."""
        return to_us(self.now)

    @property
    def owner(self) -> str:
        """How it calls itself to others, as the holder of a lease: the run, its host and its process."""
        return f"{self._name}{socket.gethostname()} (process {os.getpid()})"

    @property
    def lease(self) -> Lease:
        """The lease that it holds.

        Raises:
            LedgerError: it holds none.
        """
        if self.current_lease is None:
            raise LedgerError("this run holds no lease: take one with `leases` before anything is written")
        return self.current_lease

    def holding(self, lease: Lease) -> Self:
        """The same run with a lease."""
        return replace(self, current_lease=lease)

    def leases(
        self, symbols: Sequence[str], *, wait_s: float = 0.0, sleep: Callable[[float], None] = time.sleep
    ) -> Iterator[Lease]:
        """Leases of the symbols as they get free, to be entered one after the other.

        Each lease holds some of the symbols. Only the last one may hold none, and its ``refused`` are those that other
        runs still worked on after ``wait_s``. What an earlier attempt of this same run holds is taken over.
        """
        waiting, pauses = list(symbols), int(wait_s / _PAUSE_S)
        while True:
            lease = self.ledger.lease(waiting, owner=self.owner, takes_over=self._name if self.id else "")
            waiting = list(lease.refused)
            if lease.symbols or not waiting or not pauses:
                yield lease
            if not waiting or not pauses:
                return
            pauses -= 1
            sleep(_PAUSE_S)

    def lease_of(self, symbol: str, *, wait_s: float = 0.0, sleep: Callable[[float], None] = time.sleep) -> Lease:
        """A lease of one symbol, not yet entered; of nothing when another run holds it for longer than ``wait_s``."""
        return next(self.leases([symbol], wait_s=wait_s, sleep=sleep))

    def touch(self) -> None:
        """A sign of life, due every few minutes."""
        if self.id:
            self.ledger.touch(self.id)

    def record(self, *, verdicts: Sequence[Verdict] = (), revisions: Sequence[Revision] = ()) -> None:
        """Notes what the gate said and what was written."""
        if self.id and (verdicts or revisions):
            self.ledger.record(verdicts=verdicts, revisions=revisions)

    @property
    def _name(self) -> str:
        return f"run {self.id or 'without a name'} on "


class Ledger(Leases, Watermarks, SeriesList, Runs, Events, Ingests, Doubts, Backfills, Alerts, Totals, Retention):
    """The platform's memory of its work; ``with`` closes it. See the package for its conventions.

    ::

        with Ledger("sqlite:////var/lib/fstore/ledger.db") as ledger:
            with ledger.run("materialize", tables=tables, now=now, parameters={}) as run:
                with run.lease_of("EUR/USD") as lease:
                    created = lease.stamp(run.now)  # ... compute, store and publish with it ...
                    ledger.advance(lease, [Watermark(symbol="EUR/USD", timeframe="1h", ...)])
    """

    @contextmanager
    def run(
        self,
        kind: str,
        *,
        tables: OfflineTables,
        now: datetime,
        parameters: Mapping[str, Any],
        flow_run: str = "",
    ) -> Iterator[Run]:
        """A run of this ledger for as long as the ``with`` lasts: completed, stopped when it has problems, or failed.

        Args:
            parameters: what it was called with, as ``begin`` takes it.
            flow_run: the engine's own id of it.
        """
        run = Run(
            id=self.begin(kind, parameters=parameters, flow_run=flow_run),
            ledger=self,
            tables=tables,
            now=now,
        )
        try:
            yield run
        except BaseException as error:
            self.end(run.id, state="failed", counts={}, problems=[f"{type(error).__name__}: {error}"])
            raise
        self.end(run.id, state="stopped" if run.problems else "completed", counts=run.counts, problems=run.problems)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()
