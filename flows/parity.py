"""Whether online, offline and recomputed hold the same, for one symbol and timeframe.

Online is held against what offline held at online's own revision, bit for bit: so a run that stores more at this very
moment makes no difference. Offline is held against what a run over all of history would store: nothing, if all is well.
Bars that have been written since the last run wait for the next one; rows that depend on them are not looked at.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Literal

import numpy as np
import numpy.typing as npt
import pandas as pd
import pyarrow as pa

from feature_repo.catalog import BAR_FIELDS, INDICATOR_FIELDS, VIEW_KINDS, View, view
from feature_repo.moments import to_datetime
from feature_repo.stores.codec import (
    CodecError,
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
from feature_repo.stores.window import Window, column, microseconds, read_window
from flows import shard
from flows.agreement import BoolArray, FloatArray, agree, equal, same_number
from flows.bars import derive_bars, opens_us
from flows.history import History, whole_history
from flows.pending import Job
from flows.publication import view_rows
from flows.revisions import compare

Rule = Literal["online", "behind", "lost", "bars", "indicators", "missing", "unexplained"]
RULES: Mapping[Rule, str] = {
    "online": "a value online is not the one that was stored",
    "behind": "the online store shows an older bar or revision than was stored",
    "lost": "the online store lacks what was stored",
    "bars": "a derived bar is not what its source bars give",
    "indicators": "an indicator is not what the stored bars give",
    "missing": "a row that the stored bars give was not stored",
    "unexplained": "a row was stored that the stored bars do not give",
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Finding:
    """One way in which they differ; ``rows`` says how often, ``detail`` names the first and its values."""

    rule: Rule
    rows: int
    detail: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Comparison:
    """What was compared, and what was found.

    Attributes:
        rows: how many stored indicator rows were held against a recomputation.
        online: whether the online store held something to compare.
        due: whether a run is due; what it would change was not looked at.
    """

    rows: int
    online: bool
    due: bool
    findings: tuple[Finding, ...]

    @property
    def reason(self) -> str:
        """All findings in one line; empty when the three are the same."""
        more = (f"{f.detail}{f' (and {f.rows - 1:,} more)' if f.rows > 1 else ''}" for f in self.findings)
        return "; ".join(f"{RULES[f.rule]}: {what}" for f, what in zip(self.findings, more, strict=True))


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
        due_us: open of the first bar that a run would compute anew, because something was written since the last one
            (0: all of them), microseconds since 1970-01-01 UTC; None: no run is due.
        min_completeness: as in ``flows.shard.Limits``.

    Raises:
        Stopped: the gate finds every row bad, so there is nothing to compare with.
    """
    held = _read_online(client, project, job)
    findings = _online_findings(held, job, tables)
    if due_us is None:
        findings += _behind(held, job, tables, now)
    rows = 0
    if due_us is None or due_us > job.first_us:
        history = whole_history(job, tables)
        limits = shard.Limits(max_bad_share=_ANY_SHARE, min_completeness=min_completeness)
        computed = shard.compute(job, history, now=now, limits=limits)
        until_us = int(now.timestamp() * 1e6) - job.timeframe.microseconds + 1
        until_us = until_us if due_us is None else min(until_us, due_us)
        findings += _bar_findings(job, history, computed, tables, until_us)
        findings += _feature_findings(job, history, computed, until_us)
        rows = int(np.searchsorted(microseconds(history.features, "open_time"), until_us))
    return Comparison(rows=rows, online=bool(held), due=due_us is not None, findings=tuple(findings))


_ANY_SHARE = math.nextafter(1.0, 0.0)
"""A gate's verdict on a whole history is no finding: of its bad rows each is judged by itself."""


# ------------------------------------------------------------------------------------------ online, offline

_Online = dict[View, tuple[bytes, bytes | None, list[bytes | None]]]
"""View -> its revision, its timestamp, its fields."""


def _read_online(client: Any, project: str, job: Job) -> _Online:
    """The views that are there, read in one step."""
    views = [view(kind, job.timeframe.name) for kind in VIEW_KINDS]
    fields = [
        key
        for spec in views
        for key in (revision_key(spec.name), timestamp_key(spec.name), *(field_key(spec.name, f) for f in spec.fields))
    ]
    cells = iter(client.hmget(entity_key(job.symbol.name, project), fields))
    found: _Online = {}
    for spec in views:
        revision, stamp, *values = (next(cells) for _ in range(2 + len(spec.fields)))
        if revision is not None:
            found[spec] = revision, stamp, values
    return found


def _online_findings(held: _Online, job: Job, tables: OfflineTables) -> list[Finding]:
    """Where a view holds other bytes than what was stored at the view's own revision would give."""
    wrong: list[str] = []
    windows: dict[bytes, Window | None] = {}  # the three views are of one revision, if all is well
    for spec, (revision, stamp, cells) in held.items():
        event_us, created_us = read_revision(revision)
        if revision not in windows:
            end, known_at = to_datetime(event_us - job.timeframe.microseconds), to_datetime(created_us)
            windows[revision] = read_window(tables, job.timeframe, job.symbol.name, end=end, as_known_at=known_at)
        window = windows[revision]
        if window is None or window.event_us != event_us:
            wrong.append(f"{spec.name} shows a bar that closed at {_iso(event_us)} and was never stored")
            continue
        row = next(row for row in view_rows(job.timeframe, window) if row.view == spec.name)
        if stamp is None or _timestamp(stamp) != event_us:
            wrong.append(f"the timestamp of {spec.name} is not that of its revision")
        for name, cell in zip(spec.fields, cells, strict=True):
            if cell != row.values[field_key(spec.name, name)]:
                wrong.append(f"{name} of {spec.name} {_told(cell, spec, window.columns[name])}")
    return [Finding(rule="online", rows=len(wrong), detail=wrong[0])] if wrong else []


def _behind(held: _Online, job: Job, tables: OfflineTables, now: datetime) -> list[Finding]:
    """Whether all that is stored is online; asked only when no run is due that would bring it there."""
    newest = read_window(tables, job.timeframe, job.symbol.name, end=now)
    if newest is None:
        return []
    lost = [spec.name for kind in VIEW_KINDS if (spec := view(kind, job.timeframe.name)) not in held]
    if lost:
        return [Finding(rule="lost", rows=len(lost), detail=lost[0])]
    event_us, created_us = min(read_revision(revision) for revision, _, _ in held.values())
    if (event_us, created_us) >= (newest.event_us, newest.created_us):
        return []
    shown, stored = (
        f"the bar that closed at {_iso(event)}, written at {to_datetime(created).isoformat()}"
        for event, created in ((event_us, created_us), (newest.event_us, newest.created_us))
    )
    return [Finding(rule="behind", rows=1, detail=f"shown is {shown}; stored is {stored}")]


def _timestamp(stored: bytes) -> int | None:
    try:
        return decode_timestamp(stored)
    except CodecError:
        return None


def _told(cell: bytes | None, spec: View, right: npt.NDArray[np.float64]) -> str:
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


# -------------------------------------------------------------------------------------- offline, recomputed


def _bar_findings(
    job: Job, history: History, computed: shard.Computed, tables: OfflineTables, until_us: int
) -> list[Finding]:
    """Where the stored derived bars are not what their source gives, completeness included."""
    if job.source is None or history.source is None:
        return []
    source: pd.DataFrame = history.source.select(["open_time", *BAR_FIELDS]).to_pandas()
    fresh = derive_bars(source, session=job.symbol.session, source=job.source, target=job.timeframe)
    stored = tables.read("bars", timeframe=job.timeframe.name, symbols=[job.symbol.name], columns=_DERIVED)
    changes = compare(fresh, stored, values=_DERIVED, same=same_number)
    return _findings("bars", changes.rows, stored, opens_us(fresh), computed, until_us, _DERIVED, same_number)


def _feature_findings(job: Job, history: History, computed: shard.Computed, until_us: int) -> list[Finding]:
    """Where the stored indicators are not what the bars give."""
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
    computed: shard.Computed,
    until_us: int,
    fields: Sequence[str],
    same: Callable[[FloatArray, FloatArray], BoolArray],
) -> list[Finding]:
    """What ``changed`` (rows that a run would store) and ``stored`` say about each other.

    Args:
        explained: open times of all rows that may be stored.
    """
    held = microseconds(stored, "open_time")
    found: list[Finding] = []
    stray = held[(held < until_us) & ~np.isin(held, explained)]
    if stray.size:
        found.append(Finding(rule="unexplained", rows=stray.size, detail=f"{rule} of {_iso(stray[0])}"))
    if changed.empty:
        return found
    opens = opens_us(changed)
    rejected = [opens_us(rows) for rows in computed.quarantine if len(rows)]  # a gate keeps them from being stored
    opens_open = opens < until_us
    known = np.isin(opens, held)
    absent = opens[opens_open & ~known & ~np.isin(opens, np.concatenate(rejected) if rejected else [])]
    if absent.size:
        found.append(Finding(rule="missing", rows=absent.size, detail=f"{rule} of {_iso(absent[0])}"))
    at = np.flatnonzero(opens_open & known)
    if at.size:
        was = stored.take(np.searchsorted(held, opens[at]))
        details = []
        for name in fields:
            before, after = column(was, name), changed[name].to_numpy(dtype=np.float64)[at]
            wrong = np.flatnonzero(~same(before, after))
            if wrong.size:
                k = wrong[0]
                values = f"is {float(before[k])!r}, recomputed {float(after[k])!r}"
                details.append(f"{name} of {_iso(opens[at[k]])} {values}")
        found.append(Finding(rule=rule, rows=at.size, detail=details[0] if details else _iso(opens[at[0]])))
    return found


_DERIVED = (*BAR_FIELDS, "source_bars", "expected_bars")


def _iso(us: int | np.int64) -> str:
    return f"{to_datetime(int(us)):%Y-%m-%dT%H:%MZ}"
