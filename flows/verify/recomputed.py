"""Offline against recomputed: whether a run over all of history would store anything else."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Literal

import numpy as np
import numpy.typing as npt
import pandas as pd
import pyarrow as pa

from feature_repo.agreement import BoolArray, FloatArray, agree, same_number
from feature_repo.catalog import BAR_FIELDS, INDICATOR_FIELDS
from feature_repo.stores.tables import OfflineTables
from feature_repo.stores.window import column, microseconds
from flows.compute.changes import compare
from flows.compute.derive import derive_bars, opens_us
from flows.compute.job import BAR_COLUMNS, History, Job
from flows.compute.step import Computed
from flows.verify.findings import Finding, bar_time


def bar_findings(job: Job, history: History, computed: Computed, tables: OfflineTables, until_us: int) -> list[Finding]:
    """Where the stored derived bars are not what is derived from their source, completeness included."""
    if job.source is None or history.source is None:
        return []
    source: pd.DataFrame = history.source.select(["open_time", *BAR_FIELDS]).to_pandas()
    fresh = derive_bars(source, session=job.symbol.session, source=job.source, target=job.timeframe)
    stored = tables.read("bars", timeframe=job.timeframe.name, symbols=[job.symbol.name], columns=BAR_COLUMNS)
    changes = compare(fresh, stored, values=BAR_COLUMNS, same=same_number)
    return _findings("bars", changes.rows, stored, opens_us(fresh), computed, until_us, BAR_COLUMNS, same_number)


def feature_findings(job: Job, history: History, computed: Computed, until_us: int) -> list[Finding]:
    """Where the stored indicators are not those computed from the bars."""
    known = microseconds(history.bars, "open_time")
    fresh = computed.feature_changes.rows
    if job.source is not None:
        known = np.union1d(known, opens_us(fresh)) if len(fresh) else known
    return _findings("indicators", fresh, history.features, known, computed, until_us, INDICATOR_FIELDS, agree)


def _findings(
    rule: Literal["bars", "indicators"],
    changed: pd.DataFrame,
    stored: pa.Table,
    explained: npt.NDArray[np.int64],
    computed: Computed,
    until_us: int,
    fields: Sequence[str],
    same: Callable[[FloatArray, FloatArray], BoolArray],
) -> list[Finding]:
    """How ``changed`` (rows that a run would store) differs from ``stored``.

    Args:
        explained: open times of all rows that may be stored.
    """
    stored_opens = microseconds(stored, "open_time")
    findings: list[Finding] = []
    stray = stored_opens[(stored_opens < until_us) & ~np.isin(stored_opens, explained)]
    if stray.size:
        findings.append(Finding(rule="unexplained", rows=stray.size, detail=f"{rule} of {bar_time(stray[0])}"))
    if changed.empty:
        return findings
    opens = opens_us(changed)
    rejected = [opens_us(rows) for rows in computed.quarantine if len(rows)]  # a gate keeps them from being stored
    opens_open = opens < until_us
    known = np.isin(opens, stored_opens)
    absent = opens[opens_open & ~known & ~np.isin(opens, np.concatenate(rejected) if rejected else [])]
    if absent.size:
        findings.append(Finding(rule="missing", rows=absent.size, detail=f"{rule} of {bar_time(absent[0])}"))
    at = np.flatnonzero(opens_open & known)
    if at.size:
        was = stored.take(np.searchsorted(stored_opens, opens[at]))
        details = []
        for name in fields:
            before, after = column(was, name), changed[name].to_numpy(dtype=np.float64)[at]
            wrong = np.flatnonzero(~same(before, after))
            if wrong.size:
                k = wrong[0]
                values = f"is {float(before[k])!r}, recomputed {float(after[k])!r}"
                details.append(f"{name} of {bar_time(opens[at[k]])} {values}")
        findings.append(Finding(rule=rule, rows=at.size, detail=details[0] if details else bar_time(opens[at[0]])))
    return findings
