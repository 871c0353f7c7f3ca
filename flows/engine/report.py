"""What a run tells when it ends: to the log, to the ledger and to Prefect."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from dataclasses import asdict
from datetime import datetime

from prefect.artifacts import create_table_artifact

from flows.ledger import Ledger
from flows.runs.outcome import Outcome, problems_of

log = logging.getLogger("fstore")


def report(kind: str, outcomes: Sequence[Outcome], ledger: Ledger, run: str) -> None:
    """Tells the log, the ledger and Prefect (a table named ``kind``) what a run did."""
    problems = problems_of(outcomes)
    for problem in problems:
        log.error("stopped %s", problem)
    counts = {
        name: sum(getattr(o, name) for o in outcomes)
        for name in ("bars", "stored", "revised", "quarantined", "published")
    }
    ledger.end(run, state="stopped" if problems else "completed", counts=counts, problems=problems)
    if outcomes:
        create_table_artifact(
            key=kind,
            table=[{k: str(v) if isinstance(v, datetime) else v for k, v in asdict(o).items()} for o in outcomes],
            description="Bars made anew, rows stored, quarantined and published, and each symbol's freshness in bars",
        )
