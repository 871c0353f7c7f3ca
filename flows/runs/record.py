"""What a run records: its gates' verdicts and its writes in the ledger, its stages in the log."""

from __future__ import annotations

import logging
from datetime import datetime

from feature_repo.moments import to_us
from feature_repo.series import Series
from feature_repo.stores.schemas import Revised
from flows.compute.changes import Changes
from flows.compute.derive import opens_us
from flows.ledger import Revision, Run
from flows.ledger import Verdict as RecordedVerdict
from flows.quality import Verdict

_log = logging.getLogger("fstore")


def at_stage(stage: str) -> None:
    """Logs the stage that the run has reached; crash tests listen to it."""
    _log.debug("stage %s", stage, extra={"stage": stage})


def verdict_record(run: Run, series: Series, table: Revised, verdict: Verdict) -> RecordedVerdict:
    """A gate's verdict, as the ledger keeps it."""
    symbol, timeframe = series.key
    return RecordedVerdict(
        run=run.id,
        symbol=symbol,
        timeframe=timeframe,
        kind=table,
        passed=verdict.passed,
        reason=verdict.reason,
        rows=verdict.rows,
        bad_rows=verdict.bad_rows,
        by_rule=dict(verdict.by_rule),
        at_us=run.now_us,
    )


def revision_record(run: Run, series: Series, table: Revised, changes: Changes, created: datetime) -> Revision:
    """What was written to a table, as the ledger keeps it."""
    opens = opens_us(changes.rows)
    symbol, timeframe = series.key
    return Revision(
        run=run.id,
        symbol=symbol,
        timeframe=timeframe,
        table=table,
        first_open_us=int(opens[0]),
        last_open_us=int(opens[-1]),
        stored=changes.stored,
        revised=changes.revised,
        at_us=to_us(created),
    )
