"""The long-lived process: owns shards, lets sessions work, and ends in good order when it is told to.

One owner at a time has a shard, by a lease in the ledger. So a second service beside the first is its stand-by: it
takes over when the first has died (after ``StreamConfig.ttl_s``) or gone, on this host or another.
"""

from __future__ import annotations

import contextlib
import gc
import logging
import multiprocessing
import os
import signal
import socket
import threading
import time
import uuid
from collections.abc import Callable, Iterator, Sequence
from typing import Any

from redis.exceptions import RedisError

from feature_repo.stores.redis.connection import connect, online_url
from flows.ledger import Lease, Ledger, LedgerError
from flows.settings import Settings, load_settings
from flows.stream.config import StreamConfig
from flows.stream.feed import SHARDS, Feed
from flows.stream.reader import Reader
from flows.stream.session import Session
from flows.stream.stats import StreamStats

_log = logging.getLogger("fstore")
_PAUSE_S = (0.2, 1.0, 2.0, 5.0)
_BLOCK_S = 0.5
_TELL_S = 60.0


def stream(
    settings: Settings,
    *,
    shards: Sequence[int] = range(SHARDS),
    pace: StreamConfig | None = None,
    stop: threading.Event,
    flow_run: str = "",
    ready: Callable[[], None] = lambda: None,
) -> StreamStats:
    """Works on ``shards`` until ``stop`` is set; returns what it did.

    Nothing but ``stop`` ends it: it goes on when Redis, the ledger or the offline store are back, without loss.

    Args:
        ready: called when a session has begun.
    """
    import flows.quality.suite  # noqa: F401  # great-expectations takes seconds: not when the first bad bar comes

    pace, meter, ledger = pace or StreamConfig(), StreamStats(), settings.ledger()
    run = ledger.begin("stream", parameters={"shards": [*shards]}, flow_run=flow_run)
    owner = f"stream {run} on {socket.gethostname()} (process {os.getpid()})"
    problems, failures = [], 0
    while not stop.is_set():
        try:
            with _owned(ledger, shards, owner=owner, ttl_s=pace.ttl_s, stop=stop) as lease:
                _work(settings, ledger, lease, owner=owner, run=run, pace=pace, meter=meter, stop=stop, ready=ready)
            failures = 0
        except Exception as error:  # from what is durable, again
            failures += 1
            problem = f"{type(error).__name__}: {error}"
            problems.append(problem)
            _log.warning("the stream begins again from what is stored: %s", problem, exc_info=_is_bug(error))
            stop.wait(_PAUSE_S[min(failures, len(_PAUSE_S)) - 1])
    with contextlib.suppress(LedgerError):
        ledger.end(run, state="completed", counts=meter.counts, problems=problems[-20:])
    return meter


def _is_bug(error: Exception) -> bool:
    return not isinstance(error, RedisError | LedgerError | OSError)


@contextlib.contextmanager
def _owned(
    ledger: Ledger, shards: Sequence[int], *, owner: str, ttl_s: float, stop: threading.Event
) -> Iterator[Lease]:
    """Those of the shards that nobody else has; waits while there are none."""
    names, told = {f"stream shard {shard}": shard for shard in shards}, False
    while True:
        lease = ledger.lease([*names], owner=owner, ttl_s=ttl_s)
        if lease.symbols or stop.is_set():
            break
        if not told:
            holder = next(iter(lease.refused.values()))
            _log.info("standing by: %s has the shards", holder.owner)
            told = True
        stop.wait(min(1.0, ttl_s / 4))
    with lease:
        yield lease


def _work(
    settings: Settings,
    ledger: Ledger,
    lease: Lease,
    *,
    owner: str,
    run: str,
    pace: StreamConfig,
    meter: StreamStats,
    stop: threading.Event,
    ready: Callable[[], None],
) -> None:
    repo = settings.repo()
    shards = [int(name.rpartition(" ")[2]) for name in lease.symbols]
    if not shards:
        return
    with connect(online_url(repo), repo.redis_type) as client:
        reader = Reader(client, repo.project, shards, consumer=f"{socket.gethostname()}-{uuid.uuid4().hex[:12]}")
        session = Session(settings, ledger, client, reader, shards=shards, owner=owner, run=run, pace=pace, meter=meter,
                          stop=stop)  # fmt: skip
        feed, told_s, bars, checked_s = Feed(client, repo.project), time.monotonic(), 0, time.monotonic()
        try:
            session.begin()
            ready()
            while not stop.is_set():
                session.step(session.read(block_s=_BLOCK_S))
                now_s = time.monotonic()
                if now_s - told_s >= _TELL_S:
                    meter.log(seconds=now_s - told_s, before=bars, backlog=feed.backlog())
                    ledger.touch(run)
                    told_s, bars = now_s, meter.bars + meter.settled_bars
                if lease.refused and now_s - checked_s >= pace.ttl_s:
                    checked_s = now_s
                    if _is_free(ledger, lease, owner):
                        break  # and begin again, with them
            session.end()
        finally:
            session.close()


def _is_free(ledger: Ledger, lease: Lease, owner: str) -> bool:
    """Whether one of the shards that another had can be had now."""
    others = ledger.lease([*lease.refused], owner=owner, ttl_s=1.0)
    others.release()
    return bool(others.symbols)


# ------------------------------------------------------------------------------------------------- processes


def serve(
    *, workers: int = 1, pace: StreamConfig | None = None, stop: threading.Event | None = None, flow_run: str = ""
) -> None:
    """Runs until SIGTERM or SIGINT (or ``stop``), in this process or in ``workers`` others that share the shards.

    A worker that dies is started again; the workers of a service that dies end by themselves.
    """
    stop = stop or _on_signals()
    if workers <= 1:
        stream(load_settings(), pace=pace, stop=stop, flow_run=flow_run, ready=_spare_collector)
        return
    context = multiprocessing.get_context("spawn")
    parts = [[*range(n, SHARDS, workers)] for n in range(workers)]

    def start(shards: Sequence[int]) -> Any:
        ours, theirs = context.Pipe()
        process = context.Process(target=_worker, args=(shards, pace, theirs, flow_run), name="fstore-stream")
        process.start()
        theirs.close()
        return process, ours

    started = [start(part) for part in parts]
    try:
        while not stop.wait(0.5):
            for n, (process, pipe) in enumerate(started):
                if not process.is_alive():
                    _log.error("a worker of the stream ended (%s); it is started again", process.exitcode)
                    pipe.close()
                    started[n] = start(parts[n])
    finally:
        for _, pipe in started:
            pipe.close()
        for process, _ in started:
            process.join()


def _worker(shards: Sequence[int], pace: StreamConfig | None, parent: Any, flow_run: str) -> None:
    for number in (signal.SIGTERM, signal.SIGINT):  # the parent is told too, and tells
        signal.signal(number, signal.SIG_IGN)
    stop = threading.Event()

    def watch() -> None:
        with contextlib.suppress(EOFError, OSError):
            parent.recv()  # never told anything: it ends with the parent
        stop.set()

    threading.Thread(target=watch, daemon=True).start()
    stream(load_settings(), shards=shards, pace=pace, stop=stop, flow_run=flow_run, ready=_spare_collector)


def _spare_collector() -> None:
    """Spares Python's collector what a session began with, which stays: 0.2 s each time, in which bars would wait."""
    gc.collect()
    gc.freeze()


def _on_signals() -> threading.Event:
    stop = threading.Event()
    if threading.current_thread() is threading.main_thread():
        for number in (signal.SIGTERM, signal.SIGINT):
            signal.signal(number, lambda *_: stop.set())
    return stop
