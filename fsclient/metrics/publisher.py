"""Tells this process's metrics to all others: a snapshot in Redis every few seconds, which the dashboard reads.

One hash a project, ``fstore:metrics:<project>``: a field a process, named ``host:pid:start``, holding JSON with the
moment it was written and what ``Metrics.get_metrics`` gives. A process that has died stays readable with its last
snapshot until ``forget_after_s``; any publisher clears out older ones.
"""

from __future__ import annotations

import os
import socket
import threading
import time
from collections.abc import Callable
from typing import Any

import orjson
from redis.exceptions import RedisError

from feature_repo.stores.connection import connect
from fsclient.metrics.registry import Metrics, feature_store_metrics

INTERVAL_S = 5.0
FORGET_AFTER_S = 7 * 86_400.0


def metrics_key(project: str) -> str:
    """The hash that holds a project's processes."""
    return f"fstore:metrics:{project}"


class MetricsPublisher:
    """Writes from a thread of its own, so that no lookup pays for it. A Redis that is away costs nothing but silence.

    Args:
        url: where to write.
        now: seconds since 1970.
    """

    def __init__(
        self,
        url: str,
        project: str,
        *,
        metrics: Metrics = feature_store_metrics,
        interval_s: float = INTERVAL_S,
        now: Callable[[], float] = time.time,
    ) -> None:
        self._url = url
        self._key = metrics_key(project)
        self._metrics = metrics
        self._interval_s = interval_s
        self._now = now
        self._field = f"{socket.gethostname()}:{os.getpid()}:{int(now())}"
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run, name="fsclient-metrics", daemon=True)

    def start(self) -> None:
        """Begins to publish."""
        self._thread.start()

    def stop(self) -> None:
        """Publishes a last time and ends the thread; harmless when called twice."""
        self._stop.set()
        if self._thread.is_alive():
            self._thread.join()

    def publish(self, client: Any) -> None:
        """Writes one snapshot through a synchronous redis-py client."""
        now = self._now()
        body = orjson.dumps({"at": now, "metrics": self._metrics.get_metrics()})
        client.hset(self._key, self._field, body)

    def _run(self) -> None:
        while True:
            stopped = self._stop.wait(self._interval_s)
            try:
                with connect(self._url, timeout_s=0.5) as client:
                    self.publish(client)
                    self._clear_out(client)
            except (RedisError, OSError):
                pass  # the next snapshot holds all that this one would have
            if stopped:
                return

    def _clear_out(self, client: Any) -> None:
        for field, body in client.hgetall(self._key).items():
            if orjson.loads(body)["at"] < self._now() - FORGET_AFTER_S:
                client.hdel(self._key, field)


def read_processes(client: Any, project: str) -> dict[str, dict[str, Any]]:
    """Every process's last snapshot: ``host:pid:start`` -> ``{"at": seconds since 1970, "metrics": {...}}``."""
    return {field.decode(): orjson.loads(body) for field, body in client.hgetall(metrics_key(project)).items()}
