"""A stream in this process or in one of its own, and the state that it and the batch flow must leave alike."""

from __future__ import annotations

import os
import signal
import threading
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from feature_repo.catalog import BAR_FIELDS, SYMBOLS, TIMEFRAMES
from feature_repo.series import Series
from feature_repo.stores.redis.connection import connect
from feature_repo.stores.schemas import TableName
from flows.ingest.ingest import ingest
from flows.ledger import Ledger, Run
from flows.materialize import materialize_symbols
from flows.runs.plan import pending
from flows.settings import Settings
from flows.sources import SourceBars, SourceNotes
from flows.stream import LiveBar, StreamConfig, stream
from flows.stream.feed import SHARDS, stream_key
from flows.stream.reader import GROUP, Reader
from flows.stream.session import Session
from flows.stream.stats import StreamStats
from tests.flows.processes.worker import PROCESSES, _start_server, _told

FAST = StreamConfig(flush_s=0.15, flush_bars=400, idle_s=0.5, ttl_s=1.0)
"""Fast enough for a test: another stream can follow a killed one after a second."""
_WITHIN_S = 60.0


def live(bars: pd.DataFrame, symbol: str = "BTC/USD", timeframe: str = "1m") -> list[LiveBar]:
    """A bars table as live bars."""
    opens = bars["open_time"].to_numpy(dtype="datetime64[us]").astype(np.int64).tolist()
    rows = bars[list(BAR_FIELDS)].to_numpy().tolist()
    return [
        LiveBar(symbol=symbol, timeframe=timeframe, open_us=us, **dict(zip(BAR_FIELDS, row, strict=True)))
        for us, row in zip(opens, rows, strict=True)
    ]


def source_of(bars: pd.DataFrame) -> SourceBars:
    """Bars as a source that was read without problems."""
    notes = SourceNotes(files=("bars.csv",), rows_read=len(bars), out_of_order=0, duplicates=0, detected={})
    frame = bars.assign(file="bars.csv", line=np.arange(len(bars)) + 2)
    none = frame.head(0)[["file", "line", "open_time"]].assign(raw="", rule="", detail="")
    return SourceBars(frame=frame, rejected=none, notes=notes)


def ledger_of(settings: Settings) -> Ledger:
    return Ledger(f"sqlite:///{settings.home / 'ledger.db'}")


def by_batch(settings: Settings, bars: Mapping[str, pd.DataFrame], timeframe: str = "1m") -> None:
    """Ingests and materializes bars by symbol, as the batch flow does."""
    with ledger_of(settings) as ledger:
        now = datetime.now(UTC)
        for symbol, frame in bars.items():
            report = ingest(
                source_of(frame),
                series=Series(symbol=SYMBOLS[symbol], timeframe=TIMEFRAMES[timeframe]),
                tables=settings.tables(),
                ledger=ledger,
                now=now,
                max_bad_share=0.05,
            )
            assert not report.stopped
        outcomes = materialize_symbols(
            Run(ledger=ledger, tables=settings.tables(), now=now), [*bars], [*TIMEFRAMES], settings
        )
        assert [outcome.problem for outcome in outcomes if outcome.problem] == []


# ------------------------------------------------------------------------------------------------ in this process


class Running:
    """A session that the test drives step by step."""

    def __init__(self, settings: Settings, redis: Any, *, config: StreamConfig = FAST, **options: Any) -> None:
        self.ledger, self.stats, self.stop = ledger_of(settings), StreamStats(), threading.Event()
        self.reader = Reader(redis, settings.repo().project, range(SHARDS), consumer=options.pop("consumer", "test"))
        run = Run(id=self.ledger.begin("stream", parameters={}), ledger=self.ledger, tables=settings.tables(),
                  now=datetime.now(UTC))  # fmt: skip
        self.session = Session(settings, run, redis, self.reader, shards=range(SHARDS), owner="test",
                               config=config, stats=self.stats, stop=self.stop, **options)  # fmt: skip

    def __enter__(self) -> Running:
        self.session.begin()
        return self

    def __exit__(self, *_: object) -> None:
        self.session.close()
        self.ledger.close()

    def work(self) -> None:
        """Takes everything that has arrived."""
        while entries := self.reader.read(count=500, block_ms=1):
            self.session.step(entries)
        self.session.step([])

    def finish(self) -> None:
        self.work()
        self.session.end()


def through_stream(settings: Settings, redis: Any, feed: Any, bars: Sequence[LiveBar], **options: Any) -> StreamStats:
    """Feeds bars, and a session that takes them all."""
    feed.put(bars)
    with Running(settings, redis, **options) as running:
        running.finish()
        return running.stats


# ------------------------------------------------------------------------------------------ in one of its own


class Process:
    """A stream in a process that can be killed."""

    def __init__(self, settings: Settings, config: StreamConfig = FAST) -> None:
        _start_server()
        self._pipe, theirs = PROCESSES.Pipe()
        arguments = (str(settings.home), settings.redis_url, config, theirs)
        self.process = PROCESSES.Process(target=_stream, args=arguments)
        self.process.start()
        theirs.close()

    def kill_after(self, seconds: float) -> None:
        """SIGKILL, whatever it is doing then."""
        self.process.join(seconds)
        assert self.process.is_alive()
        os.kill(self.process.pid or 0, signal.SIGKILL)
        self.end()

    def terminate(self) -> int | None:
        """SIGTERM; the exit code."""
        os.kill(self.process.pid or 0, signal.SIGTERM)
        self.process.join(_WITHIN_S)
        return self.process.exitcode

    def ready(self) -> None:
        if not self._pipe.poll(_WITHIN_S):
            raise TimeoutError("the stream does not start")
        self._pipe.recv()

    def end(self) -> None:
        if not self._pipe.closed:
            self.process.kill()
            self.process.join(_WITHIN_S)
            self._pipe.close()


def _stream(home: str, redis_url: str, config: StreamConfig, pipe: Connection) -> None:
    stop = threading.Event()
    signal.signal(signal.SIGTERM, lambda *_: stop.set())
    stream(Settings(home=Path(home), redis_url=redis_url), config=config, stop=stop, ready=lambda: pipe.send("ready"))


# --------------------------------------------------------------------------------------------- what it leaves


@dataclass(frozen=True, slots=True, kw_only=True)
class State:
    """The newest revisions without ``created``, the online bytes, and what is left to do."""

    offline: Mapping[str, pd.DataFrame]
    revisions: Mapping[str, int]
    online: Mapping[bytes, Mapping[bytes, Any]]
    marks: Mapping[tuple[str, str], tuple[int, str]]
    to_do: Sequence[tuple[str, str]]


def state_of(settings: Settings, symbols: Iterable[str]) -> State:
    tables, project = settings.tables(), settings.repo().project
    names: tuple[TableName, ...] = ("bars", "indicators", "quarantine")
    with ledger_of(settings) as ledger:
        marks = {key: (mark.event_us, mark.recipe) for key, mark in ledger.watermarks().items()}
        plan = pending([SYMBOLS[name] for name in symbols], [*TIMEFRAMES], tables, ledger, now=datetime.now(UTC))
    streams = {stream_key(project, shard).encode() for shard in range(SHARDS)}
    with connect(settings.redis_url) as redis:
        online = {key: _told(redis.hgetall(key)) for key in sorted(redis.scan_iter("*")) if key not in streams}
    return State(
        offline={name: tables.read(name).drop_columns(["created"]).to_pandas() for name in names},
        revisions={name: tables.read(name, all_revisions=True).num_rows for name in names},
        online=online,
        marks=marks,
        to_do=[(job.symbol.name, job.timeframe.name) for job in plan.jobs],
    )


def assert_same(actual: State, expected: State, *, revisions: bool = True) -> None:
    """Both are the same, to the last bit."""
    for table, rows in expected.offline.items():
        keys = ["symbol", "timeframe", "open_time"]
        was, is_now = (frame.sort_values(keys, ignore_index=True) for frame in (rows, actual.offline[table]))
        pd.testing.assert_frame_equal(is_now, was, check_exact=True)
    if revisions:
        assert actual.revisions == expected.revisions
    assert actual.online.keys() == expected.online.keys()
    for key, fields in expected.online.items():
        assert actual.online[key].keys() == fields.keys()
        assert [name for name, value in fields.items() if actual.online[key][name] != value] == []
    assert actual.marks == expected.marks
    assert actual.to_do == expected.to_do == []


def left_in_streams(redis: Any, project: str) -> tuple[int, int]:
    """Entries, and how many of them are pending."""
    entries = pending = 0
    for shard in range(SHARDS):
        key = stream_key(project, shard)
        if redis.exists(key):
            entries += redis.xlen(key)
            pending += redis.xpending(key, GROUP)["pending"]
    return entries, pending
