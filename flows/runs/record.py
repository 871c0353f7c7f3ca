"""What the stages tell: to the ledger who works, what a gate said and what was written; to the log where a run is."""

from __future__ import annotations

import logging
import os
import socket
from datetime import datetime
from typing import Literal

from feature_repo.catalog import Symbol, Timeframe
from flows.compute.changes import Changes
from flows.compute.derive import opens_us
from flows.ledger import Revision
from flows.ledger import Verdict as NotedVerdict
from flows.quality import Verdict

Kind = Literal["bars", "indicators"]
_log = logging.getLogger("fstore")


def at_stage(stage: str) -> None:
    """Tells who listens where the run is; the tests of crashes do."""
    _log.debug("stage %s", stage, extra={"stage": stage})


def owner(run: str) -> str:
    """How a run calls itself to others, as the holder of a lease: the run, its host and its process."""
    return f"{_run(run)}{socket.gethostname()} (process {os.getpid()})"


def attempts(run: str) -> str:
    """How the owners begin that a run's attempts at its work call themselves; empty for a run without a name."""
    return _run(run) if run else ""


def _run(run: str) -> str:
    return f"run {run or 'without a name'} on "


def noted_verdict(
    verdict: Verdict, kind: Kind, run: str, symbol: Symbol, timeframe: Timeframe, now: datetime
) -> NotedVerdict:
    """A gate's verdict, as the ledger keeps it."""
    return NotedVerdict(
        run=run,
        symbol=symbol.name,
        timeframe=timeframe.name,
        kind=kind,
        passed=verdict.passed,
        reason=verdict.reason,
        rows=verdict.rows,
        bad_rows=verdict.bad_rows,
        by_rule=dict(verdict.by_rule),
        at_us=int(now.timestamp() * 1e6),
    )


def noted_revision(
    changes: Changes, table: Kind, run: str, symbol: Symbol, timeframe: Timeframe, created: datetime
) -> Revision:
    """What was written to a table, as the ledger keeps it."""
    opens = opens_us(changes.rows)
    return Revision(
        run=run,
        symbol=symbol.name,
        timeframe=timeframe.name,
        table=table,
        first_open_us=int(opens[0]),
        last_open_us=int(opens[-1]),
        stored=changes.stored,
        revised=changes.revised,
        at_us=int(created.timestamp() * 1e6),
    )
