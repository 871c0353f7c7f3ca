"""The pipelines as the dashboard sees them: the ledger, the quarantine and Feast's registry."""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from typing import Any
from urllib.parse import quote

from redis.exceptions import RedisError

from feature_repo import catalog
from feature_repo.catalog import CatalogError
from feature_repo.moments import to_datetime, to_us
from feature_repo.stores.fence import FencedOutError
from feature_repo.stores.quarantine import QuarantinedRow
from feature_repo.stores.redis.connection import connect, online_url
from feature_repo.stores.redis.embedded import EmbeddedServerError
from flows import ledger
from flows.errors import FixableError
from flows.ingest.release import NotReleasableError, discard, release
from flows.inspect.explain import explain
from flows.ledger import Ledger, LedgerError
from flows.settings import Settings
from fsclient.dashboard.explanation import Explanation
from fsclient.dashboard.operations import (
    Alert,
    Definition,
    Doubt,
    OperationsError,
    Revision,
    Run,
    RunTotal,
    Verdict,
    VerdictTotal,
)
from fsclient.errors import InvalidRequestError

log = logging.getLogger("fstore")
_TIMEOUT_S = 1.5


class LedgerOperations:
    """Implements ``fsclient.dashboard.Operations``.

    Args:
        prefect_url: Prefect's UI, which runs link to; empty for no links.
        now: the current time, UTC.
    """

    def __init__(
        self,
        settings: Settings,
        *,
        prefect_url: str = "",
        now: Callable[[], datetime] = lambda: datetime.now(UTC),
    ) -> None:
        self._settings = settings
        self._ledger: Ledger = settings.ledger()
        self._prefect_url = prefect_url.rstrip("/")
        self._now = now
        self._definitions: Sequence[Definition] | None = None
        self._reading: threading.Thread | None = None
        self._lock = threading.Lock()

    def runs(self, *, limit: int = 100) -> Sequence[Run]:
        with _translated():
            return [
                Run(
                    id=run.id,
                    kind=run.kind,
                    state=run.state,
                    started=run.started,
                    ended=run.ended,
                    counts=run.counts,
                    problems=run.problems,
                    url=self._url(run.flow_run),
                )
                for run in self._ledger.runs(limit=limit)
            ]

    def run_totals(self, since: datetime) -> Sequence[RunTotal]:
        with _translated():
            return [RunTotal(kind=t.kind, state=t.state, runs=t.runs) for t in self._ledger.run_totals(since)]

    def rows_stored(self, since: datetime) -> int:
        with _translated():
            return self._ledger.rows_stored(since)

    def verdicts(
        self, *, symbol: str | None = None, since: datetime | None = None, limit: int = 1000
    ) -> Sequence[Verdict]:
        since_us = None if since is None else to_us(since)
        with _translated():
            return [_verdict(v) for v in self._ledger.verdicts(symbol=symbol, since_us=since_us, limit=limit)]

    def verdict_totals(self, since: datetime) -> Sequence[VerdictTotal]:
        with _translated():
            return [
                VerdictTotal(
                    day=t.day, kind=t.kind, passed=t.passed, verdicts=t.verdicts, rows=t.rows, bad_rows=t.bad_rows
                )
                for t in self._ledger.verdict_totals(since)
            ]

    def failing(self, since: datetime) -> Sequence[Verdict]:
        with _translated():
            return [_verdict(v) for v in self._ledger.failing(since)]

    def revisions(
        self, *, symbol: str | None = None, since: datetime | None = None, limit: int = 1000
    ) -> Sequence[Revision]:
        since_us = None if since is None else to_us(since)
        with _translated():
            return [
                Revision(
                    symbol=r.symbol,
                    timeframe=r.timeframe,
                    table=r.table,
                    stored=r.stored,
                    revised=r.revised,
                    at=to_datetime(r.at_us),
                )
                for r in self._ledger.revisions(symbol=symbol, since_us=since_us, limit=limit)
            ]

    def alerts(self, *, open_only: bool = False, limit: int = 200) -> Sequence[Alert]:
        with _translated():
            return [
                Alert(rule=a.rule, subject=a.subject, detail=a.detail, opened=a.opened, closed=a.closed)
                for a in self._ledger.alerts(open_only=open_only, limit=limit)
            ]

    def open_alerts(self) -> Mapping[str, int]:
        with _translated():
            return self._ledger.open_alerts()

    def doubts(self) -> Sequence[Doubt]:
        with _translated():
            return [
                Doubt(symbol=symbol, timeframe=timeframe, reason=doubt.reason, since=doubt.since)
                for (symbol, timeframe), doubt in self._ledger.doubts().items()
            ]

    def definitions(self) -> Sequence[Definition] | None:
        """None until a thread has read the registry: importing Feast takes seconds, and no page waits for it."""
        with self._lock:
            if self._definitions is None and self._reading is None:
                self._reading = threading.Thread(target=self._read_definitions, name="fstore-registry", daemon=True)
                self._reading.start()
        return self._definitions

    def explain(self, symbol: str, timeframe: str, field: str, open_time: datetime) -> Explanation:
        """As ``fstore explain``; an online store that does not answer counts as one that holds nothing."""
        repo = self._settings.repo()

        def explained(client: Any) -> Explanation:
            return explain(
                symbol,
                field,
                timeframe,
                at=open_time + timedelta(seconds=catalog.timeframe(timeframe).seconds),
                tables=self._settings.tables(),
                ledger=self._ledger,
                client=client,
                project=repo.project,
                now=self._now(),
            )

        with _translated():
            try:
                with connect(online_url(repo), repo.redis_type, timeout_s=_TIMEOUT_S) as client:
                    return explained(client)
            except (RedisError, EmbeddedServerError):
                return explained(_NothingOnline())

    def release_quarantined(self, rows: Sequence[QuarantinedRow], *, by: str) -> int:
        with _translated():
            return release(rows, by=by, tables=self._settings.tables(), ledger=self._ledger, now=self._now())

    def discard_quarantined(self, rows: Sequence[QuarantinedRow], *, by: str) -> int:
        with _translated():
            return discard(rows, by=by, tables=self._settings.tables(), now=self._now())

    def _url(self, flow_run: str) -> str:
        return f"{self._prefect_url}/runs/flow-run/{quote(flow_run, safe='')}" if self._prefect_url and flow_run else ""

    def _read_definitions(self) -> None:
        try:
            views = self._settings.repo().feature_store().list_feature_views()
        except Exception:  # Feast's registry raises whatever its database does; the page then shows nothing registered
            log.warning("the registry can't be read; `fstore apply` registers the definitions", exc_info=True)
            views = []
        self._definitions = [
            Definition(
                view=view.name,
                version=str(number) if (number := getattr(view, "current_version_number", None)) is not None else "",
                created=_aware(view.created_timestamp),
                updated=_aware(view.last_updated_timestamp),
            )
            for view in views
        ]


class _NothingOnline:
    """Stands in for an online store that does not answer."""

    def hmget(self, _: bytes, keys: Sequence[bytes]) -> list[None]:
        return [None] * len(keys)


_CLEAR_ERRORS = (LedgerError, NotReleasableError, FencedOutError, FixableError, CatalogError, InvalidRequestError)


@contextmanager
def _translated() -> Iterator[None]:
    try:
        yield
    except _CLEAR_ERRORS as error:  # their messages name the remedy
        raise OperationsError(str(error)) from error
    except OSError as error:
        raise OperationsError(f"the offline store can't be read or written ({type(error).__name__})") from error


def _verdict(verdict: ledger.Verdict) -> Verdict:
    return Verdict(
        symbol=verdict.symbol,
        timeframe=verdict.timeframe,
        kind=verdict.kind,
        passed=verdict.passed,
        reason=verdict.reason,
        rows=verdict.rows,
        bad_rows=verdict.bad_rows,
        by_rule=verdict.by_rule,
        at=to_datetime(verdict.at_us),
    )


def _aware(moment: datetime | None) -> datetime | None:
    return moment if moment is None or moment.tzinfo else moment.replace(tzinfo=UTC)
