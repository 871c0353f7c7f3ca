"""Online against offline: whether the values online are those stored at their revision, and are the newest."""

from __future__ import annotations

from datetime import datetime
from typing import Any

import numpy as np

from feature_repo.agreement import equal
from feature_repo.catalog import VIEW_KINDS, View, view
from feature_repo.moments import to_datetime
from feature_repo.stores.redis.codec import (
    CodecError,
    FloatArray,
    decode_array,
    decode_doubles,
    decode_timestamp,
    entity_key,
    field_key,
    read_revision,
    revision_key,
    timestamp_key,
)
from feature_repo.stores.tables import OfflineTables
from feature_repo.stores.window import Window, read_window
from flows.compute.job import Job
from flows.runs.publish import view_rows
from flows.verify.findings import Finding, bar_time

Online = dict[View, tuple[bytes, bytes | None, list[bytes | None]]]
"""View -> its revision, its timestamp, its fields."""


def read_online(client: Any, project: str, job: Job) -> Online:
    """The views that are online, read in one step."""
    views = [view(kind, job.timeframe.name) for kind in VIEW_KINDS]
    fields = [
        key
        for spec in views
        for key in (revision_key(spec.name), timestamp_key(spec.name), *(field_key(spec.name, f) for f in spec.fields))
    ]
    cells = iter(client.hmget(entity_key(job.symbol.name, project), fields))
    online: Online = {}
    for spec in views:
        revision, stamp, *values = (next(cells) for _ in range(2 + len(spec.fields)))
        if revision is not None:
            online[spec] = revision, stamp, values
    return online


def online_findings(online: Online, job: Job, tables: OfflineTables) -> list[Finding]:
    """Where a view holds other bytes than those of what was stored at the view's own revision."""
    wrong: list[str] = []
    windows: dict[bytes, Window | None] = {}  # the three views are of one revision, if all is well
    for spec, (revision, stamp, cells) in online.items():
        event_us, created_us = read_revision(revision)
        if revision not in windows:
            end, known_at = to_datetime(event_us - job.timeframe.microseconds), to_datetime(created_us)
            windows[revision] = read_window(tables, job.timeframe, job.symbol.name, end=end, as_known_at=known_at)
        window = windows[revision]
        if window is None or window.event_us != event_us:
            wrong.append(f"{spec.name} shows a bar that closed at {bar_time(event_us)} and was never stored")
            continue
        row = next(row for row in view_rows(job.timeframe, window) if row.view == spec.name)
        if stamp is None or _timestamp(stamp) != event_us:
            wrong.append(f"the timestamp of {spec.name} is not that of its revision")
        for name, cell in zip(spec.fields, cells, strict=True):
            if cell is None and np.isnan(window.columns[name]).all():
                continue  # an indicator of the catalog that has not been materialized yet
            if cell != row.values[field_key(spec.name, name)]:
                wrong.append(f"{name} of {spec.name} {_mismatch(cell, spec, window.columns[name])}")
    return [Finding(rule="online", rows=len(wrong), detail=wrong[0])] if wrong else []


def behind(online: Online, job: Job, tables: OfflineTables, now: datetime) -> list[Finding]:
    """Whether all that is stored is online; asked only when no run is due that would bring it there."""
    newest = read_window(tables, job.timeframe, job.symbol.name, end=now)
    if newest is None:
        return []
    lost = [spec.name for kind in VIEW_KINDS if (spec := view(kind, job.timeframe.name)) not in online]
    if lost:
        return [Finding(rule="lost", rows=len(lost), detail=lost[0])]
    event_us, created_us = min(read_revision(revision) for revision, _, _ in online.values())
    if (event_us, created_us) >= (newest.event_us, newest.created_us):
        return []
    shown, stored = (
        f"the bar that closed at {bar_time(event)}, written at {to_datetime(created).isoformat()}"
        for event, created in ((event_us, created_us), (newest.event_us, newest.created_us))
    )
    return [Finding(rule="behind", rows=1, detail=f"shown is {shown}; stored is {stored}")]


def _timestamp(stored: bytes) -> int | None:
    try:
        return decode_timestamp(stored)
    except CodecError:
        return None


def _mismatch(cell: bytes | None, spec: View, right: FloatArray) -> str:
    """What is wrong with a cell, in words."""
    try:
        if cell is None:
            return "is absent"
        if not spec.is_window:
            return f"is {float(decode_doubles([cell])[0][0])!r}, stored was {float(right[-1])!r}"
        values = decode_array(cell)
        if len(values) != len(right):
            return f"holds {len(values)} values, stored were {len(right)}"
        at = np.flatnonzero(~equal(values, right))
        if not at.size:
            return "differs in the bits of its NaN"
        return f"holds {float(values[at[0]])!r} at place {at[0]}, stored was {float(right[at[0]])!r}"
    except CodecError as error:
        return f"can't be read: {error}"
