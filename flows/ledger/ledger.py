"""The ledger: all its chapters over one database."""

from __future__ import annotations

from types import TracebackType
from typing import Self

from flows.ledger.alerts import Alerts
from flows.ledger.backfills import Backfills
from flows.ledger.doubts import Doubts
from flows.ledger.events import Events
from flows.ledger.ingests import Ingests
from flows.ledger.leases import Leases
from flows.ledger.retention import Retention
from flows.ledger.run import OpenRuns
from flows.ledger.series import SeriesList
from flows.ledger.totals import Totals
from flows.ledger.watermarks import Watermarks


class Ledger(Leases, Watermarks, SeriesList, OpenRuns, Events, Ingests, Doubts, Backfills, Alerts, Totals, Retention):
    """The platform's memory of its work; ``with`` closes it. See the package for its conventions.

    ::

        with Ledger("sqlite:////var/lib/fstore/ledger.db") as ledger:
            with ledger.run("materialize", tables=tables, now=now, parameters={}) as run:
                with run.lease_of("EUR/USD") as lease:
                    created = lease.stamp(run.now)  # ... compute, store and publish with it ...
                    ledger.advance(lease, [Watermark(symbol="EUR/USD", timeframe="1h", ...)])
    """

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()
