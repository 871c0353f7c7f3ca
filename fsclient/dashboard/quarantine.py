"""The rows that gates rejected, with what was decided about each."""

from __future__ import annotations

import json
import threading
from collections.abc import Mapping
from dataclasses import replace
from hashlib import sha256
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc

from feature_repo.stores.delta.tables import OfflineTables
from fsclient.dashboard.operations import DECISIONS, Decision, QuarantinedRow

MOST_ROWS = 5_000
"""Newest quarantined rows that are looked at."""


class Quarantine:
    """Reads the quarantine table, each version once. Thread-safe."""

    def __init__(self, tables: OfflineTables) -> None:
        self._tables = tables
        self._lock = threading.Lock()
        self._held: tuple[Any, list[QuarantinedRow]] | None = None

    def rows(self) -> list[QuarantinedRow]:
        """The newest rows that a gate rejected, newest first, with what was decided since. Raises ``OUTAGE``."""
        version = self._tables.version("quarantine")
        with self._lock:
            if self._held is not None and self._held[0] == version:
                return self._held[1]
        found = self._read()
        with self._lock:
            self._held = version, found
        return found

    def _read(self) -> list[QuarantinedRow]:
        rows = self._tables.read("quarantine", all_revisions=True)
        decided = {kind: (kind.rpartition("-")[0], d) for d in DECISIONS for kind in _decided_kinds(rows, d)}
        is_decision = pc.is_in(rows["kind"], pa.array(list(decided), pa.string()))
        decisions = {
            _row_id({**row, "kind": decided[row["kind"]][0]}): decided[row["kind"]][1]
            for row in rows.filter(is_decision).to_pylist()
        }
        rows = rows.filter(pc.invert(is_decision))
        order = pc.sort_indices(rows, sort_keys=[("created", "descending"), ("open_time", "descending")])
        found = (quarantined_row(row) for row in rows.take(order[:MOST_ROWS]).to_pylist())
        return [replace(row, decision=decisions.get(row.id)) for row in found]


def quarantined_row(row: Mapping[str, Any]) -> QuarantinedRow:
    """A row of the quarantine table, undecided."""
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
    )


def _row_id(row: Mapping[str, Any]) -> str:
    """A name made of what the quarantine itself tells rows apart by."""
    apart = json.dumps([row["symbol"], row["timeframe"], row["kind"], row["rule"], row["row"]])
    return sha256(apart.encode()).hexdigest()[:24]


def _decided_kinds(rows: pa.Table, decision: Decision) -> list[str]:
    return [kind for kind in rows["kind"].unique().to_pylist() if kind and kind.endswith(f"-{decision}")]
