"""Reports this process's metrics to all others, through Redis, from a thread of its own.

release = publishing(url, project, feature_store_metrics)
...
release()

A process has one publisher for a URL and project, however many clients it has; the last to release it ends it. What
it writes and where is described in ``store``. An unavailable Redis costs nothing: up to a day of minutes waits
in memory.
"""

from __future__ import annotations

import atexit
import logging
import os
import threading
import time
from collections import OrderedDict
from collections.abc import Callable
from contextlib import suppress
from dataclasses import replace
from typing import Any

from redis.exceptions import MovedError, RedisError

from feature_repo.stores.redis.connection import connect
from fsclient.metrics.history import MAX_SYMBOL_ROWS, Slot, pack
from fsclient.metrics.registry import CallRecord, Metrics
from fsclient.metrics.store import Process, When, key, merge_ended, write

INTERVAL_S = 5.0
"""How often a process writes what it has counted."""
FINAL_WRITE_S = 0.5
"""How long a release waits at most for the last write."""

_TIMEOUT_S = 0.4  # for one answer of Redis
_MAX_WAITING = 24 * 60 + 24  # minutes and hours that wait for a Redis that is unavailable
_BATCH = 100

_log = logging.getLogger("feature_store_client")


def publishing(url: str, project: str, metrics: Metrics) -> Callable[[], None]:
    """Publishes what ``metrics`` counts from now on, until it is released.

    Neither this nor what it returns raises, and nothing but the last release waits, at most ``FINAL_WRITE_S``. A
    forked child goes on publishing under a name of its own, from its first call on.

    Args:
        url: where to write: redis://, rediss:// or unix://; a cluster's is found out.
        project: the Feast project, which the keys are named after.

    Returns:
        What releases it; harmless when called twice, or in a child of the process that called this.
    """
    name = (url, project, id(metrics))
    with _lock:
        publisher = _publishers.get(name)
        if publisher is None:
            publisher = _publishers[name] = MetricsPublisher(url, project, metrics)
            publisher.start()
        publisher.users += 1
    released = threading.Lock()

    def release() -> None:
        if not released.acquire(blocking=False):
            return
        with _lock:
            publisher.users -= 1
            if publisher.users or _publishers.get(name) is not publisher:
                return
            del _publishers[name]
        publisher.stop()

    return release


class MetricsPublisher:
    """One publisher; ``publishing`` shares it.

    Args:
        now: seconds since 1970.
    """

    def __init__(
        self,
        url: str,
        project: str,
        metrics: Metrics,
        *,
        interval_s: float = INTERVAL_S,
        now: Callable[[], float] = time.time,
    ) -> None:
        self._url, self._project, self._metrics = url, project, metrics
        self._interval_s, self._now = interval_s, now
        self.users = 0
        self._begin()

    def _begin(self) -> None:
        now = self._now()
        self._process = Process.own(now)
        self._lock = threading.Lock()
        self._minute, self._hour = When.of("m", now), When.of("h", now)
        self._counts, self._hour_counts = Slot(), Slot()
        self._changed = False
        self._waiting: OrderedDict[When, bytes] = OrderedDict()
        self._merged: When | None = None
        self._client: Any = None
        self._stop = threading.Event()
        self._thread: threading.Thread | None = None

    def start(self) -> None:
        """Counts and publishes from now on."""
        self._metrics.add_hook(self._count)
        self._run_thread()

    def stop(self) -> None:
        """Writes a last time, within ``FINAL_WRITE_S``, and ends; harmless when called twice."""
        self._metrics.remove_hook(self._count)
        self._stop.set()
        if self._thread is not None:
            self._thread.join(FINAL_WRITE_S)

    def restart_in_child(self) -> None:
        """After a fork: the parent's counts, connection and thread are the parent's."""
        self._begin()

    def publish(self, client: Any) -> None:
        """Writes what has been counted so far, through a synchronous redis-py client.

        Raises:
            RedisError, OSError: it was not written, and is kept for the next time.
        """
        now = self._now()
        self._gather(now)
        process = replace(self._process, seen_s=now, states=self._metrics.states)
        while True:
            batch = dict(list(self._waiting.items())[:_BATCH])
            write(client, self._project, process, batch)
            for when, packed in batch.items():
                if self._waiting.get(when) is packed:
                    del self._waiting[when]
            if not self._waiting:
                break
        minute = When.of("m", now)
        if minute != self._merged:
            self._merged = minute if not merge_ended(client, self._project, now) else self._merged

    def _count(self, call: CallRecord) -> None:
        with self._lock:
            self._counts.count(call)
            self._changed = True
        if self._thread is None:  # a forked child's first call
            self._run_thread()

    def _gather(self, now: float) -> None:
        """Packs the running minute and hour, and begins new ones when they are over."""
        states = self._metrics.states
        with self._lock:
            if any(state != "closed" for state in states.values()):
                self._counts.see(states)
                self._changed = True
            changed, self._changed = self._changed, False
            rows = self._counts.rows(max_symbols=MAX_SYMBOL_ROWS)
            ended = When.of("m", now) != self._minute
            if ended:
                self._counts = Slot()
        if changed:
            hour = Slot()
            hour.add(self._hour_counts.rows())
            hour.add(rows)
            self._keep(self._minute, pack(rows))
            self._keep(self._hour, pack(hour.rows(max_symbols=MAX_SYMBOL_ROWS)))
        if ended:
            self._hour_counts.add(rows)
            self._minute = When.of("m", now)
            if When.of("h", now) != self._hour:
                self._hour, self._hour_counts = When.of("h", now), Slot()

    def _keep(self, when: When, packed: bytes) -> None:
        self._waiting[when] = packed
        self._waiting.move_to_end(when)
        while len(self._waiting) > _MAX_WAITING:
            self._waiting.popitem(last=False)

    # ------------------------------------------------------------------------------------------- the thread

    def _run_thread(self) -> None:
        thread = threading.Thread(target=self._run, name="fsclient-metrics", daemon=True)
        with self._lock:
            if self._thread is not None or self._stop.is_set():
                return
            self._thread = thread
        with suppress(RuntimeError):  # the interpreter is ending
            thread.start()

    def _run(self) -> None:
        failed = False
        while True:
            stopped = self._stop.wait(self._pause_s())
            try:
                self.publish(self._connected())
                failed = False
            except (RedisError, OSError, ValueError) as error:
                self._disconnect()
                self._gather(self._now())  # the minutes go on, and wait
                if not failed:
                    # Only its kind: the vendor's text may hold the URL with its password.
                    _log.info("metrics are not published (%s); they are kept and published later", type(error).__name__)
                failed = True
            except Exception:
                _log.exception("the metrics publisher failed; this process is no longer reported")
                stopped = True
            if stopped:
                self._disconnect()
                return

    def _pause_s(self) -> float:
        """Until the next write; a minute's end comes first, so that its counts are its own."""
        now = self._now()
        return max(0.01, min(self._interval_s, self._minute.end_s - now))

    def _connected(self) -> Any:
        if self._client is None:
            client = connect(self._url, timeout_s=_TIMEOUT_S)
            try:
                client.exists(key(self._project, "processes"))
            except MovedError:  # a node of a cluster
                client.close()
                client = connect(self._url, "redis_cluster", timeout_s=_TIMEOUT_S)
            self._client = client
        return self._client

    def _disconnect(self) -> None:
        client, self._client = self._client, None
        if client is not None:
            with suppress(RedisError, OSError):
                client.close()


_publishers: dict[tuple[str, str, int], MetricsPublisher] = {}
_lock = threading.Lock()


def _after_fork() -> None:
    global _lock
    _lock = threading.Lock()  # another thread of the parent may have held it
    for publisher in _publishers.values():
        publisher.restart_in_child()


def _finish() -> None:
    """A process that ends without releasing still publishes what it counted last."""
    for publisher in list(_publishers.values()):
        publisher.stop()
    _publishers.clear()


os.register_at_fork(after_in_child=_after_fork)
atexit.register(_finish)
