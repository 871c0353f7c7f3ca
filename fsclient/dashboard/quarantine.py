"""The quarantine as the dashboard reads it: every rejected row counted, the newest of each kind at hand."""

from __future__ import annotations

import threading
from collections.abc import Mapping
from typing import Any

from feature_repo.stores.quarantine import Decision, QuarantinedRow, QuarantineReport, report_quarantine
from feature_repo.stores.tables import OfflineTables

MAX_ROWS_SHOWN = 50
"""Rows that a page lists at once; of each rule and decision this many of the newest are kept."""


class Quarantine:
    """Reads the quarantine table, each version once. Thread-safe."""

    def __init__(self, tables: OfflineTables) -> None:
        self._tables = tables
        self._lock = threading.Lock()
        self._read: tuple[Any, QuarantineReport] | None = None

    def counts(self) -> Mapping[tuple[str, Decision | None], int]:
        """(rule, decision) -> rows, all rows of the table counted. Raises ``OFFLINE_OUTAGE``."""
        return self._report().counts

    def rows(self) -> tuple[QuarantinedRow, ...]:
        """The newest ``MAX_ROWS_SHOWN`` rows of each rule and decision, newest first. Raises ``OFFLINE_OUTAGE``."""
        return self._report().newest

    def _report(self) -> QuarantineReport:
        version = self._tables.version("quarantine")
        with self._lock:
            if self._read is not None and self._read[0] == version:
                return self._read[1]
        report = report_quarantine(self._tables.read("quarantine", all_revisions=True), rows_each=MAX_ROWS_SHOWN)
        with self._lock:
            self._read = version, report
        return report
