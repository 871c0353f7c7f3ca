"""A run in a process of its own that stops at a chosen boundary: it is killed there, or waits for a word.

The processes are forked from a server that has imported the platform once and has no threads, so one takes no longer
than its work.
"""

from __future__ import annotations

import logging
import multiprocessing
import os
import signal
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from feature_repo.catalog import SYMBOLS, TIMEFRAMES
from feature_repo.sessions import expected_opens
from feature_repo.stores.tables import OfflineTables
from flows import materialize as run
from flows.ingest import IngestReport, ingest
from flows.ledger import Ledger
from flows.settings import Settings
from flows.sources import SourceBars, SourceNotes

PROCESSES = multiprocessing.get_context("forkserver")
PROCESSES.set_forkserver_preload(["flows.ingest", "flows.materialize", "flows.quality.suite"])

NOW = datetime(2024, 6, 3, 12, 0, tzinfo=UTC)
LATER = NOW + timedelta(minutes=2)
"""When the lease of a run that began at ``NOW`` has run out."""
NAMES = ("BTC/USD", "EUR/USD")
FRAMES = ("1h", "4h", "1d")
_WITHIN_S = 60.0

MATERIALIZE = (
    "read",
    "store",
    *("before bars", "after bars", "before indicators", "after indicators"),
    "publish",
    *(f"publish {symbol} {timeframe}" for timeframe in FRAMES for symbol in NAMES),
    *("note", "advanced", "end"),
)
"""The boundaries that a materialization of ``NAMES`` passes, in order."""
INGEST = ("quarantine", "before quarantine", "after quarantine", "read", "store", "before bars", "after bars", "note")
"""The boundaries that an ingestion passes."""


def bars_of(symbol: str, state: str) -> pd.DataFrame:
    """The generated hourly bars: those known at ``first``, or ``all`` of them with one of the first corrected.

    EUR/USD has more of them than an increment reads; with ``all`` comes a row that no gate lets pass.
    """
    spec, n = SYMBOLS[symbol], 1700 if symbol == "EUR/USD" else 300
    start = int(datetime(2024, 1, 8, tzinfo=UTC).timestamp()) * 1_000_000
    opens = expected_opens(spec.session, TIMEFRAMES["1h"], start, start + 2 * n * 3_600_000_000)[:n]
    rng = np.random.default_rng(len(symbol) + n)
    close = np.round(2 * spec.price_min * np.exp(np.cumsum(rng.normal(0, 3e-4, n))), 5)
    high, low = close * (1 + rng.uniform(0, 1e-4, n)), close * (1 - rng.uniform(0, 1e-4, n))
    volume = rng.integers(1, 1000, n).astype(np.float64)
    frame = pd.DataFrame({"open": close, "high": high, "low": low, "close": close, "volume": volume})
    frame.insert(0, "open_time", pd.DatetimeIndex(opens.view("datetime64[us]")).tz_localize("UTC"))
    if state == "first":
        return frame.head(n - 40).reset_index(drop=True)
    frame.loc[n - 60, "close"] = frame.loc[n - 60, "high"]
    frame.loc[n - 60, "volume"] += 7.0
    frame.loc[n - 5, "close"] = -1.0
    return frame


def source_of(bars: pd.DataFrame, digest: str = "") -> SourceBars:
    """Bars as a source that was read without fault."""
    notes = SourceNotes(
        files=("bars.csv",), rows_read=len(bars), out_of_order=0, duplicates=0, header_lines_skipped=0, detected={}
    )
    frame = bars.assign(file="bars.csv", line=np.arange(len(bars)) + 2)
    none = frame.head(0)[["file", "line", "open_time"]].assign(raw="", rule="", detail="")
    return SourceBars(frame=frame, rejected=none, notes=notes, digest=digest)


def ledger_of(settings: Settings, now: datetime) -> Ledger:
    """The home's ledger on a clock that stands."""
    return Ledger(f"sqlite:///{settings.home / 'ledger.db'}", now=now.timestamp)


def do(job: str, settings: Settings, now: datetime) -> list[str]:
    """Does a job: ``materialize``, or ``first`` or ``all`` for the ingestion of those bars. Returns its problems."""
    with ledger_of(settings, now) as ledger:
        if job == "materialize":
            outcomes = run.materialize_symbols(NAMES, FRAMES, settings, ledger, now)
            return [outcome.problem for outcome in outcomes if outcome.problem]
        return [report.stopped for name in NAMES if (report := take(name, job, settings, ledger, now)).stopped]


def take(symbol: str, state: str, settings: Settings, ledger: Ledger, now: datetime) -> IngestReport:
    """Ingests a symbol's bars."""
    bars = bars_of(symbol, state)
    return ingest(
        source_of(bars, digest=f"{symbol} {state}"), symbol=SYMBOLS[symbol], timeframe=TIMEFRAMES["1h"],
        tables=settings.tables(), ledger=ledger, now=now, max_bad_share=0.05,
    )  # fmt: skip


# ------------------------------------------------------------------------------------------------- the process


class Worker:
    """A process that does a job, up to the first time that it passes ``halt``.

    Args:
        halt: a boundary; None for none.
        dies: whether the process kills itself there (SIGKILL) or tells it and waits for ``resume``.
    """

    def __init__(
        self, job: str, settings: Settings, *, now: datetime = NOW, halt: str | None = None, dies: bool = True
    ) -> None:
        self._pipe, theirs = PROCESSES.Pipe()
        place = str(settings.home), settings.redis_url
        self.process = PROCESSES.Process(target=_work, args=(job, *place, now.timestamp(), halt, dies, theirs))
        self.process.start()
        theirs.close()

    def hear(self) -> Any:
        """What it tells next: the boundary at which it waits, or at its end (boundaries passed, problems)."""
        if not self._pipe.poll(_WITHIN_S):
            raise TimeoutError("the worker tells nothing")
        return self._pipe.recv()

    def freeze(self) -> None:
        """SIGSTOP: a paused container, a laptop's lid."""
        self.signal(signal.SIGSTOP)

    def resume(self) -> Any:
        """Wakes the process, lets it go on, and returns what it tells next."""
        self.signal(signal.SIGCONT)
        self._pipe.send("go on")
        return self.hear()

    def signal(self, number: signal.Signals) -> None:
        os.kill(self.process.pid or 0, number)

    def killed(self) -> bool:
        """Waits for its end. Returns whether it was killed."""
        self.process.join(_WITHIN_S)
        return self.process.exitcode == -signal.SIGKILL

    def end(self) -> None:
        """Leaves nothing of it behind."""
        self.process.kill()
        self.process.join(_WITHIN_S)
        self._pipe.close()


def _work(job: str, home: str, redis_url: str, now: float, halt: str | None, dies: bool, pipe: Connection) -> None:
    passed: list[str] = []

    def reach(boundary: str) -> None:
        first = boundary not in passed
        passed.append(boundary)
        if boundary == halt and first:
            if dies:
                os.kill(os.getpid(), signal.SIGKILL)
            pipe.send(boundary)
            pipe.recv()

    _watch(reach)
    problems = do(job, Settings(home=Path(home), redis_url=redis_url), datetime.fromtimestamp(now, UTC))
    pipe.send((passed, problems))


def _watch(reach: Callable[[str], None]) -> None:
    """Calls ``reach`` at each boundary of this process's runs."""

    class Stages(logging.Handler):
        def emit(self, record: logging.LogRecord) -> None:
            if stage := getattr(record, "stage", None):
                reach(stage)

    log = logging.getLogger("fstore")
    log.addHandler(Stages())
    log.setLevel(logging.DEBUG)
    append, publish, advance = OfflineTables.append, run.publish_window, Ledger.advance

    def appended(self: OfflineTables, table: Any, rows: Any, **options: Any) -> None:
        if rows.num_rows:
            reach(f"before {table}")
        append(self, table, rows, **options)
        if rows.num_rows:
            reach(f"after {table}")

    def published(client: Any, project: str, symbol: str, timeframe: Any, window: Any, **options: Any) -> bool:
        reach(f"publish {symbol} {timeframe.name}")
        return publish(client, project, symbol, timeframe, window, **options)

    def advanced(self: Ledger, *arguments: Any) -> None:
        advance(self, *arguments)
        reach("advanced")

    OfflineTables.append = appended  # type: ignore[method-assign]
    run.publish_window = published  # type: ignore[assignment]
    Ledger.advance = advanced  # type: ignore[method-assign]
