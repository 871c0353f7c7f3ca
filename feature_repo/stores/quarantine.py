"""The quarantine's rows and the decisions about them.

A decision is a row of the same table: a copy of the rejected row under another kind, such as ``bars-released``. It is
as durable as the row itself and outlives the ledger.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from hashlib import sha256
from typing import Any, Literal

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

Decision = Literal["released", "discarded"]
DECISIONS: tuple[Decision, ...] = ("released", "discarded")

_IDENTITY = ("symbol", "timeframe", "kind", "rule", "row")
"""The columns that distinguish rejected rows."""


def decided_kind(kind: str, decision: Decision) -> str:
    """The kind under which the quarantine keeps the decision about a row of ``kind``, such as ``bars-released``."""
    return f"{kind}-{decision}"


@dataclass(frozen=True, slots=True, kw_only=True)
class QuarantinedRow:
    """A row that a gate rejected, with the decision about it.

    Attributes:
        id: names the row; the same row rejected again by the same rule has the same id.
        open_time: UTC; None when the row had no readable time.
        created: when it was rejected, UTC.
        kind: what the row would have been: ``bars`` or ``indicators``.
        row: the row as JSON.
        decision: None while it waits for one.
    """

    id: str
    symbol: str
    timeframe: str
    open_time: datetime | None
    created: datetime
    kind: str
    rule: str
    detail: str
    row: str
    file: str
    line: int | None
    decision: Decision | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class QuarantineReport:
    """All of the quarantine, counted, with its newest rows.

    Attributes:
        counts: (rule, decision) -> rows; every row of the table is counted.
        newest: rows, newest first: of each rule and decision as many as were asked for.
    """

    counts: Mapping[tuple[str, Decision | None], int]
    newest: tuple[QuarantinedRow, ...]


def report_quarantine(table: pa.Table, *, rows_each: int) -> QuarantineReport:
    """Counts rejected rows by rule and decision, and picks the newest of each.

    Args:
        table: the quarantine as it is stored, decisions included.
        rows_each: how many rows of each rule and decision to return.
    """
    rejected = _with_decisions(table)
    order = pc.sort_indices(rejected, sort_keys=[("created", "descending"), ("open_time", "descending")])
    rejected = rejected.take(order)
    groups = zip(rejected["rule"].to_pylist(), rejected["decision"].to_pylist(), strict=True)
    positions: dict[tuple[str, Decision | None], list[int]] = {}
    for position, (rule, decision) in enumerate(groups):
        positions.setdefault((rule or "", decision or None), []).append(position)
    shown = np.sort(np.array([n for group in positions.values() for n in group[:rows_each]], np.int64))
    return QuarantineReport(
        counts={key: len(group) for key, group in positions.items()},
        newest=tuple(_record(row) for row in rejected.take(shown).to_pylist()),
    )


def _with_decisions(table: pa.Table) -> pa.Table:
    """The rejected rows, each with its newest ``decision``; an empty string while it is undecided."""
    of_kind = {
        kind: (kind.removesuffix(f"-{decision}"), decision)
        for kind in table["kind"].unique().to_pylist()
        for decision in DECISIONS
        if kind and kind.endswith(f"-{decision}")
    }
    is_decision = pc.is_in(table["kind"], pa.array(list(of_kind), pa.string()))
    decisions: dict[str, Decision] = {}
    for row in table.filter(is_decision).sort_by("created").to_pylist():
        kind, decision = of_kind[row["kind"]]
        decisions[_row_id({**row, "kind": kind})] = decision
    rejected = table.filter(pc.invert(is_decision))
    if not decisions:
        return rejected.append_column("decision", pa.repeat(pa.scalar(""), len(rejected)))
    columns = (rejected[name].to_pylist() for name in _IDENTITY)
    ids = (_row_id(dict(zip(_IDENTITY, values, strict=True))) for values in zip(*columns, strict=True))
    return rejected.append_column("decision", pa.array([decisions.get(id_, "") for id_ in ids], pa.string()))


def _record(row: Mapping[str, Any]) -> QuarantinedRow:
    return QuarantinedRow(
        id=_row_id(row),
        symbol=row["symbol"],
        timeframe=row["timeframe"],
        open_time=row["open_time"],
        created=row["created"],
        kind=row["kind"],
        rule=row["rule"] or "",
        detail=row["detail"] or "",
        row=row["row"] or "",
        file=row["file"] or "",
        line=row["line"],
        decision=row["decision"] or None,
    )


def _row_id(row: Mapping[str, Any]) -> str:
    identity = json.dumps([row[name] for name in _IDENTITY])
    return sha256(identity.encode()).hexdigest()[:24]
