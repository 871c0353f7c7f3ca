"""A run in a separate process that stops at a chosen boundary: it is killed there, or waits until it is resumed.

The processes are forked from a server that has imported the platform once and has no threads, so one takes no longer
than its work.
"""

from __future__ import annotations

import logging
import multiprocessing
import os
import shutil
import signal
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from functools import cache
from multiprocessing import forkserver
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any, Self

import numpy as np
import pandas as pd
import pytest

from feature_repo.catalog import SYMBOLS, TIMEFRAMES, VIEWS
from feature_repo.series import Series
from feature_repo.sessions import expected_opens
from feature_repo.stores.delta.tables import DeltaTables
from feature_repo.stores.fence import FencedOutError
from feature_repo.stores.redis.codec import FENCE_KEY, read_revision, revision_key
from feature_repo.stores.redis.connection import connect
from feature_repo.stores.schemas import TableName
from flows.ingest.ingest import IngestReport, ingest
from flows.ledger import LeaseLost, Ledger, Run
from flows.materialize import materialize_symbols, stages
from flows.quality import suite
from flows.quality.masks import bad_rows
from flows.quality.rules import Rule
from flows.runs.plan import pending
from flows.settings import Settings
from flows.sources import SourceBars, SourceNotes

PROCESSES = multiprocessing.get_context("forkserver")
PROCESSES.set_forkserver_preload(["flows.ingest.ingest", "flows.materialize", "flows.quality.suite"])

NOW = datetime(2024, 6, 3, 12, 0, tzinfo=UTC)
LATER = NOW + timedelta(minutes=2)
"""When the lease of a run that began at ``NOW`` has run out."""
SOURCES = {"BTC/USD": "4h", "EUR/USD": "1h"}
"""The symbols, and the timeframe that each is ingested in."""
NAMES = tuple(SOURCES)
FRAMES = ("1h", "4h")
_WITHIN_S = 60.0

MATERIALIZE = (
    "read",
    "store",
    *("before bars", "after bars", "before indicators", "after indicators"),
    "publish",
    *("publish BTC/USD 4h", "publish EUR/USD 4h", "publish EUR/USD 1h"),
    *("note", "advanced", "end"),
)
"""The boundaries that a materialization of ``all`` passes, in order."""
INGEST = ("quarantine", "before quarantine", "after quarantine", "read", "store", "before bars", "after bars", "note")
"""The boundaries that an ingestion passes when it has something to reject."""


def bars_of(symbol: str, state: str) -> pd.DataFrame:
    """Generated bars: the ``first``, ``all`` with new ones and a corrected one, and two further ones that correct that
    bar again, ``rival`` and ``newest``.

    EUR/USD has more of them than an increment reads, and in ``all`` one that no gate lets pass.
    """
    spec, frame, n = SYMBOLS[symbol], TIMEFRAMES[SOURCES[symbol]], 1700 if symbol == "EUR/USD" else 300
    start = int(datetime(2024, 1, 8, tzinfo=UTC).timestamp()) * 1_000_000
    opens = expected_opens(spec.session, frame, start, start + 2 * n * frame.microseconds)[:n]
    rng = np.random.default_rng(n)
    close = np.round(2 * spec.price_min * np.exp(np.cumsum(rng.normal(0, 3e-4, n))), 5)
    high, low = close * (1 + rng.uniform(0, 1e-4, n)), close * (1 - rng.uniform(0, 1e-4, n))
    volume = rng.integers(1, 1000, n).astype(np.float64)
    bars = pd.DataFrame({"open": close, "high": high, "low": low, "close": close, "volume": volume})
    bars.insert(0, "open_time", pd.DatetimeIndex(opens.view("datetime64[us]")).tz_localize("UTC"))
    if state == "first":
        return bars.head(n - 40)
    bars.loc[n - 60, "close"] = bars.loc[n - 60, "high"]
    bars.loc[n - 60, "volume"] += 7.0
    if state == "rival":
        bars.loc[n - 60, "volume"] += 5.0
    elif state == "newest":
        bars.loc[n - 60, "close"] = bars.loc[n - 60, "low"]
        bars.loc[n - 20, "volume"] += 9.0
    elif symbol == "EUR/USD":
        bars.loc[n - 5, "close"] = -1.0
    return bars


def source_of(bars: pd.DataFrame, digest: str = "") -> SourceBars:
    """Bars as a source that was read without fault."""
    notes = SourceNotes(files=("bars.csv",), rows_read=len(bars), out_of_order=0, duplicates=0, detected={})
    frame = bars.assign(file="bars.csv", line=np.arange(len(bars)) + 2)
    none = frame.head(0)[["file", "line", "open_time"]].assign(raw="", rule="", detail="")
    return SourceBars(frame=frame, rejected=none, notes=notes, digest=digest)


def ledger_of(settings: Settings, now: datetime) -> Ledger:
    """The home's ledger on a clock that stands."""
    return Ledger(f"sqlite:///{settings.home / 'ledger.db'}", now=now.timestamp)


def do(job: str, settings: Settings, now: datetime) -> list[str]:
    """Does a job: ``materialize``, or the ingestion of bars, as ``all`` or ``all EUR/USD``. Returns its problems."""
    with ledger_of(settings, now) as ledger, pytest.MonkeyPatch.context() as patch:
        patch.setattr(suite, "evaluate", _evaluate)
        if job == "materialize":
            outcomes = materialize_symbols(
                Run(ledger=ledger, tables=settings.tables(), now=now), NAMES, FRAMES, settings
            )
            return [outcome.problem for outcome in outcomes if outcome.problem]
        state, _, only = job.partition(" ")
        reports = [take(name, state, settings, ledger, now) for name in ([only] if only else NAMES)]
        return [report.stopped for report in reports if report.stopped]


def _evaluate(rules: tuple[Rule, ...], table: pd.DataFrame) -> suite.Evaluation:
    """The gate's verdict by its masks alone: great-expectations takes half a run's time and leaves nothing behind."""
    failed = tuple(rule.name for rule in rules if bad_rows(rule, table).any())
    return suite.Evaluation(success=not failed, expectations=len(rules), failed=failed)


def take(symbol: str, state: str, settings: Settings, ledger: Ledger, now: datetime) -> IngestReport:
    """Ingests a symbol's bars."""
    bars = bars_of(symbol, state)
    return ingest(
        source_of(bars, digest=f"{symbol} {state}"),
        series=Series(symbol=SYMBOLS[symbol], timeframe=TIMEFRAMES[SOURCES[symbol]]),
        tables=settings.tables(),
        ledger=ledger,
        now=now,
        max_bad_share=0.05,
    )


# ------------------------------------------------------------------------------------------------- the process


@cache
def _start_server() -> None:
    with pytest.MonkeyPatch.context() as patch:
        # Its end is not orderly, so the imported modules' semaphores are reported as leaked.
        patch.setenv("PYTHONWARNINGS", "ignore")
        forkserver.ensure_running()


class Worker:
    """A process that does a job, up to the first time that it passes ``halt``.

    Args:
        halt: a boundary; None for none.
        dies: whether the process kills itself there (SIGKILL) or reports it and waits for ``resume``.
    """

    def __init__(
        self, job: str, settings: Settings, *, now: datetime = NOW, halt: str | None = None, dies: bool = True
    ) -> None:
        _start_server()
        self._pipe, theirs = PROCESSES.Pipe()
        place = str(settings.home), settings.redis_url
        self.process = PROCESSES.Process(target=_work, args=(job, *place, now.timestamp(), halt, dies, theirs))
        self.process.start()
        theirs.close()

    def hear(self) -> Any:
        """Its next report: the boundary at which it waits, or at its end (boundaries passed, problems)."""
        if not self._pipe.poll(_WITHIN_S):
            raise TimeoutError("the worker reports nothing")
        return self._pipe.recv()

    def freeze(self) -> None:
        """SIGSTOP: a paused container, a laptop's lid."""
        self.signal(signal.SIGSTOP)

    def resume(self) -> Any:
        """Wakes the process, lets it go on, and returns its next report."""
        self.signal(signal.SIGCONT)
        self._pipe.send("go on")
        return self.hear()

    def die_after(self, seconds: float) -> None:
        """Lets the process go on for so long at most, and kills it."""
        self._pipe.send("go on")
        self.process.join(seconds)
        self.end()

    def signal(self, number: signal.Signals) -> None:
        os.kill(self.process.pid or 0, number)

    def killed(self) -> bool:
        """Waits for its end. Returns whether it was killed."""
        self.process.join(_WITHIN_S)
        return self.process.exitcode == -signal.SIGKILL

    def end(self) -> None:
        """Leaves nothing of it behind."""
        if not self._pipe.closed:
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
    try:
        problems = do(job, Settings(home=Path(home), redis_url=redis_url), datetime.fromtimestamp(now, UTC))
    except (FencedOutError, LeaseLost) as error:  # as an ingestion ends
        problems = [str(error)]
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
    append, publish, advance = DeltaTables.append, stages.publish_window, Ledger.advance

    def appended(self: DeltaTables, table: Any, rows: Any, **options: Any) -> None:
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

    DeltaTables.append = appended  # type: ignore[method-assign]
    stages.publish_window = published  # type: ignore[assignment]
    Ledger.advance = advanced  # type: ignore[method-assign]


# --------------------------------------------------------------------------------------------- what it leaves


@dataclass(frozen=True, slots=True, kw_only=True)
class State:
    """All that two ways to one end must agree on, whoever wrote it and when.

    Attributes:
        offline: the newest revision of every row, by table, without the moment that it was written.
        revisions: how many revisions each table holds.
        online: key -> field -> bytes; of a view's revision the bar alone.
        marks: how far each symbol and timeframe has come, and with which definitions.
        to_do: the symbols and timeframes that another run would find something to do for.
    """

    offline: Mapping[str, pd.DataFrame]
    revisions: Mapping[str, int]
    online: Mapping[bytes, Mapping[bytes, Any]]
    marks: Mapping[tuple[str, str], tuple[int, str]]
    to_do: Sequence[tuple[str, str]]


def state_of(settings: Settings) -> State:
    """What a home and its online store hold."""
    tables = settings.tables()
    names: tuple[TableName, ...] = ("bars", "indicators", "quarantine")
    with ledger_of(settings, LATER) as ledger:
        marks = {key: (mark.event_us, mark.recipe) for key, mark in ledger.watermarks().items()}
        plan = pending([SYMBOLS[name] for name in NAMES], FRAMES, tables, ledger, now=LATER)
    with connect(settings.redis_url) as redis:
        online = {key: _told(redis.hgetall(key)) for key in sorted(redis.scan_iter("*", _type="hash"))}
    return State(
        offline={name: tables.read(name).drop_columns(["created"]).to_pandas() for name in names},
        revisions={name: tables.read(name, all_revisions=True).num_rows for name in names},
        online=online,
        marks=marks,
        to_do=[(job.symbol.name, job.timeframe.name) for job in plan.jobs],
    )


def assert_same(actual: State, expected: State) -> None:
    """Both states are the same, to the last bit."""
    for table, rows in expected.offline.items():
        pd.testing.assert_frame_equal(actual.offline[table], rows, check_exact=True)
    assert actual.revisions == expected.revisions
    assert actual.online.keys() == expected.online.keys()
    for key, fields in expected.online.items():
        assert actual.online[key].keys() == fields.keys()
        assert [name for name, value in fields.items() if actual.online[key][name] != value] == []
    assert actual.marks == expected.marks
    assert actual.to_do == expected.to_do == []


def begin_with_first(settings: Settings, to: Path) -> Saved:
    """A home whose first bars are computed and online, and nothing else is."""
    with connect(settings.redis_url) as redis:
        redis.flushall()
    before = NOW - timedelta(hours=2)
    if problems := do("first", settings, before) + do("materialize", settings, before):
        raise AssertionError(problems)
    return Saved.of(settings, to)


def _told(stored: dict[bytes, bytes]) -> dict[bytes, Any]:
    revisions = {revision_key(name) for name in VIEWS}
    return {
        name: read_revision(value)[0] if name in revisions else value
        for name, value in stored.items()
        if name != FENCE_KEY
    }


@dataclass(frozen=True, slots=True, kw_only=True)
class Saved:
    """A home and the online store's content beside it, to begin from again and again."""

    home: Path
    online: Mapping[bytes, Mapping[bytes, bytes]]

    @classmethod
    def of(cls, settings: Settings, to: Path) -> Self:
        """What a home and its online store hold now."""
        shutil.copytree(settings.home, to)
        with connect(settings.redis_url) as redis:
            return cls(home=to, online={key: redis.hgetall(key) for key in redis.scan_iter("*", _type="hash")})

    def restore(self, settings: Settings) -> None:
        """Makes the home and the online store what they were."""
        shutil.rmtree(settings.home, ignore_errors=True)
        shutil.copytree(self.home, settings.home)
        with connect(settings.redis_url) as redis:
            redis.flushall()
            for key, fields in self.online.items():
                redis.hset(key, mapping=dict(fields))
