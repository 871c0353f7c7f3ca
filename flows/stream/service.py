"""The long-lived process: owns shards, runs sessions on them, and ends cleanly when asked to.

Each shard has one owner at a time, by a lease in the ledger. So a second service, on this host or another, is a standby
for the first: it takes over when the first has ended or died (after ``StreamConfig.ttl_s``).
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
from datetime import UTC, datetime
from typing import Any

from redis.exceptions import RedisError

from feature_repo.stores.redis.connection import connect, online_url
from flows.ledger import Lease, Ledger, LedgerError, Run
from flows.settings import Settings, load_settings
from flows.stream.config import StreamConfig
from flows.stream.feed import SHARDS, Feed
from flows.stream.reader import Reader
from flows.stream.session import Session
from flows.stream.stats import StreamStats

_log = logging.getLogger("fstore")
_RESTART_S = (0.2, 1.0, 2.0, 5.0)  # waits before the next session after failed ones; the last one repeats
_BLOCK_S = 0.5  # how long a read waits for bars
_LOG_EVERY_S = 60.0


def stream(
    settings: Settings,
    *,
    shards: Sequence[int] = range(SHARDS),
    config: StreamConfig | None = None,
    stop: threading.Event,
    flow_run: str = "",
    ready: Callable[[], None] = lambda: None,
) -> StreamStats:
    """Works on ``shards`` until ``stop`` is set. Returns what it did.

    Only ``stop`` ends it: when Redis, the ledger or the offline store become available again it goes on, without loss.

    Args:
        ready: called when a session has begun.
    """
    import flows.quality.suite  # noqa: F401  # great-expectations takes seconds: not when the first bad bar comes

    config, stats, ledger = config or StreamConfig(), StreamStats(), settings.ledger()
    run_id = ledger.begin("stream", parameters={"shards": [*shards]}, flow_run=flow_run)
    owner = f"stream {run_id} on {socket.gethostname()} (process {os.getpid()})"
    problems, failures = [], 0
    while not stop.is_set():
        try:
            with _owned(ledger, shards, owner=owner, ttl_s=config.ttl_s, stop=stop) as lease:
                run = Run(id=run_id, ledger=ledger, tables=settings.tables(), now=datetime.now(UTC)).holding(lease)
                _work(settings, run, owner=owner, config=config, stats=stats, stop=stop, ready=ready)
            failures = 0
        except Exception as error:  # the next session starts from what is durable
            failures += 1
            problem = f"{type(error).__name__}: {error}"
            problems.append(problem)
            _log.warning("the stream starts again from what is stored: %s", problem, exc_info=_is_bug(error))
            stop.wait(_RESTART_S[min(failures, len(_RESTART_S)) - 1])
    with contextlib.suppress(LedgerError):
        ledger.end(run_id, state="completed", counts=stats.counts, problems=problems[-20:])
    return stats


def _is_bug(error: Exception) -> bool:
    return not isinstance(error, RedisError | LedgerError | OSError)


@contextlib.contextmanager
def _owned(
    ledger: Ledger, shards: Sequence[int], *, owner: str, ttl_s: float, stop: threading.Event
) -> Iterator[Lease]:
    """A lease of the shards that no one else owns; waits while there are none."""
    names, is_logged = [f"stream shard {shard}" for shard in shards], False
    while True:
        lease = ledger.lease(names, owner=owner, ttl_s=ttl_s)
        if lease.symbols or stop.is_set():
            break
        if not is_logged:
            holder = next(iter(lease.refused.values()))
            _log.info("standing by: %s owns the shards", holder.owner)
            is_logged = True
        stop.wait(min(1.0, ttl_s / 4))
    with lease:
        yield lease


def _work(
    settings: Settings,
    run: Run,
    *,
    owner: str,
    config: StreamConfig,
    stats: StreamStats,
    stop: threading.Event,
    ready: Callable[[], None],
) -> None:
    """Runs a session on the shards that the run holds, until ``stop`` is set or others can be had."""
    repo, lease = settings.repo(), run.lease
    shards = [int(name.rpartition(" ")[2]) for name in lease.symbols]
    if not shards:
        return
    with connect(online_url(repo), repo.redis_type) as client:
        reader = Reader(client, repo.project, shards, consumer=f"{socket.gethostname()}-{uuid.uuid4().hex[:12]}")
        session = Session(
            settings, run, client, reader, shards=shards, owner=owner, config=config, stats=stats, stop=stop
        )
        feed, taken = Feed(client, repo.project), 0
        logged_s = checked_s = time.monotonic()
        try:
            session.begin()
            ready()
            while not stop.is_set():
                session.step(session.read(block_s=_BLOCK_S))
                now_s = time.monotonic()
                if now_s - logged_s >= _LOG_EVERY_S:
                    stats.log(seconds=now_s - logged_s, before=taken, backlog=feed.backlog())
                    run.touch()
                    logged_s, taken = now_s, stats.bars + stats.settled
                if lease.refused and now_s - checked_s >= config.ttl_s:
                    checked_s = now_s
                    if _is_free(run, owner):
                        break  # and start again, with them
            session.end()
        finally:
            session.close()


def _is_free(run: Run, owner: str) -> bool:
    """Whether a shard that another process owned is free now."""
    others = run.ledger.lease([*run.lease.refused], owner=owner, ttl_s=1.0)
    others.release()
    return bool(others.symbols)


# ------------------------------------------------------------------------------------------------- processes


def serve(
    *, workers: int = 1, config: StreamConfig | None = None, stop: threading.Event | None = None, flow_run: str = ""
) -> None:
    """Runs until SIGTERM or SIGINT (or ``stop``), in this process or in several ``workers`` that share the shards.

    A worker that dies is started again; the workers of a service that dies end on their own.
    """
    stop = stop or _on_signals()
    if workers <= 1:
        stream(load_settings(), config=config, stop=stop, flow_run=flow_run, ready=_spare_collector)
        return
    context = multiprocessing.get_context("spawn")
    parts = [[*range(n, SHARDS, workers)] for n in range(workers)]

    def start(shards: Sequence[int]) -> Any:
        pipe, of_worker = context.Pipe()
        process = context.Process(target=_worker, args=(shards, config, of_worker, flow_run), name="fstore-stream")
        process.start()
        of_worker.close()
        return process, pipe

    started = [start(part) for part in parts]
    try:
        while not stop.wait(0.5):
            for n, (process, pipe) in enumerate(started):
                if not process.is_alive():
                    _log.error("a worker of the stream ended (exit code %s); starting it again", process.exitcode)
                    pipe.close()
                    started[n] = start(parts[n])
    finally:
        for _, pipe in started:
            pipe.close()
        for process, _ in started:
            process.join()


def _worker(shards: Sequence[int], config: StreamConfig | None, parent: Any, flow_run: str) -> None:
    for number in (signal.SIGTERM, signal.SIGINT):  # the parent gets them too, and ends the workers
        signal.signal(number, signal.SIG_IGN)
    stop = threading.Event()

    def watch() -> None:
        with contextlib.suppress(EOFError, OSError):
            parent.recv()  # nothing is ever sent: it ends with the parent
        stop.set()

    threading.Thread(target=watch, daemon=True).start()
    stream(load_settings(), shards=shards, config=config, stop=stop, flow_run=flow_run, ready=_spare_collector)


def _spare_collector() -> None:
    """Exempts what a session starts with from garbage collection, which would hold up bars for 0.2 s each time."""
    gc.collect()
    gc.freeze()


def _on_signals() -> threading.Event:
    stop = threading.Event()
    if threading.current_thread() is threading.main_thread():
        for number in (signal.SIGTERM, signal.SIGINT):
            signal.signal(number, lambda *_: stop.set())
    return stop
