"""Limits of a backfill to its range: of the history that is read, and of what was computed."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pyarrow as pa

from feature_repo.sessions import Mask, Times, bar_close, grid_open
from feature_repo.stores.window import microseconds
from flows.compute.changes import Changes
from flows.compute.derive import opens_us
from flows.compute.job import History, Job
from flows.compute.step import Computed


def limit_history(job: Job, history: History, end_us: int | None) -> History:
    """The history up to what the range's last bar needs.

    One source bar beyond the last bar stays: it shows that the last one is over even when its own last source bars are
    missing.
    """
    if end_us is None:
        return history
    source = history.source
    if source is not None:
        last = grid_open(job.symbol.session, job.timeframe, np.array([end_us]))
        over_us = int(bar_close(job.symbol.session, job.timeframe, last)[0])
        source = source.slice(0, int(np.searchsorted(microseconds(source, "open_time"), over_us)) + 1)
    return replace(history, source=source, bars=_upto(history.bars, end_us), features=_upto(history.features, end_us))


def limit_computed(computed: Computed, history: History, first_us: int | None, end_us: int | None) -> Computed:
    """What was computed, without what lies before or beyond the range."""
    if first_us is None and end_us is None:
        return computed
    low, high = first_us or np.iinfo(np.int64).min, end_us or np.iinfo(np.int64).max
    features = _limit_changes(computed.feature_changes, history.features, low, high)
    return replace(
        computed,
        bars=features.stored + features.revised + features.unchanged,
        bar_changes=_limit_changes(computed.bar_changes, history.bars, low, high),
        feature_changes=features,
        quarantine=[rows[_inside(opens_us(rows), low, high)] for rows in computed.quarantine if len(rows)],
    )


def _limit_changes(changes: Changes, stored: pa.Table, low: int, high: int) -> Changes:
    opens = microseconds(stored, "open_time")
    opens = opens[_inside(opens, low, high)]
    rows = changes.rows
    if len(rows):
        rows = rows[_inside(opens_us(rows), low, high)]
    revised = int(np.isin(opens_us(rows), opens).sum()) if len(rows) else 0
    return replace(changes, rows=rows, stored=len(rows) - revised, revised=revised, unchanged=len(opens) - revised)


def _inside(opens: Times, low: int, high: int) -> Mask:
    inside: Mask = (opens >= low) & (opens <= high)
    return inside


def _upto(rows: pa.Table, end_us: int) -> pa.Table:
    return rows.slice(0, int(np.searchsorted(microseconds(rows, "open_time"), end_us, side="right")))
