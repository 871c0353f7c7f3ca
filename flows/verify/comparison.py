"""The comparison of one symbol and timeframe: online with offline, offline with recomputed."""

from __future__ import annotations

import math
from datetime import datetime
from typing import Any

import numpy as np

from feature_repo.stores.tables import OfflineTables
from feature_repo.stores.window import microseconds
from flows.compute import step
from flows.compute.job import Job
from flows.runs.history import whole_history
from flows.verify.findings import Comparison
from flows.verify.online import behind, online_findings, read_online
from flows.verify.recomputed import bar_findings, feature_findings

_ANY_SHARE = math.nextafter(1.0, 0.0)
"""A gate's verdict on a whole history is no finding: of its bad rows each is judged by itself."""


def compare_stores(
    job: Job,
    *,
    due_us: int | None,
    tables: OfflineTables,
    client: Any,
    project: str,
    now: datetime,
    min_completeness: float,
) -> Comparison:
    """Compares the three for one symbol and timeframe.

    Args:
        job: all of its history, ``since_us`` None.
        due_us: open of the first bar that a run would compute again, because something was written since the last one
            (0: all of them), microseconds since 1970-01-01 UTC; None: no run is due.
        min_completeness: as in ``flows.compute.step.Limits``.

    Raises:
        Stopped: the gate finds every row bad, so there is nothing to compare with.
    """
    online = read_online(client, project, job)
    findings = online_findings(online, job, tables)
    if due_us is None:
        findings += behind(online, job, tables, now)
    rows = 0
    if due_us is None or due_us > job.first_us:
        history = whole_history(job, tables)
        limits = step.Limits(max_bad_share=_ANY_SHARE, min_completeness=min_completeness)
        computed = step.compute(job, history, now=now, limits=limits)
        until_us = int(now.timestamp() * 1e6) - job.timeframe.microseconds + 1
        until_us = until_us if due_us is None else min(until_us, due_us)
        findings += bar_findings(job, history, computed, tables, until_us)
        findings += feature_findings(job, history, computed, until_us)
        rows = int(np.searchsorted(microseconds(history.features, "open_time"), until_us))
    return Comparison(rows=rows, online=bool(online), due=due_us is not None, findings=tuple(findings))
