"""The history as the pages read it: refreshed from Redis, queried by selections."""

from __future__ import annotations

import threading
import time
from collections import OrderedDict
from collections.abc import Callable
from typing import Any

from redis.exceptions import RedisError

from fsclient.dashboard.traffic.columns import Names
from fsclient.dashboard.traffic.history import History
from fsclient.dashboard.traffic.selection import Filter, Selection, select
from fsclient.metrics.store import SECONDS, Process, Resolution, read_processes

REFRESH_S = 2.0
"""Callers within this time of the last reading share its result."""
ALIVE_S = 20.0
"""A process that has not published for longer counts as dead."""
_RESOLUTIONS: tuple[Resolution, ...] = ("m", "h")
_MAX_PROCESSES_HELD = 4


class Traffic:
    """The history of all calls. Thread-safe.

    Args:
        connect: returns a synchronous redis-py client; may raise RedisError or OSError.
        project: the Feast project whose clients are shown.
        now: returns the current time, seconds since 1970.
    """

    def __init__(self, connect: Callable[[], Any], project: str, *, now: Callable[[], float] = time.time) -> None:
        self._connect, self._project, self._now = connect, project, now
        self._lock = threading.RLock()
        self._names = Names()
        self._all: dict[Resolution, History] = {r: History(r) for r in _RESOLUTIONS}
        self._of_process: OrderedDict[tuple[str, Resolution], History] = OrderedDict()
        self._processes: dict[str, Process] = {}
        self._read_at = float("-inf")
        self.problem: str = ""
        """Why the figures may be old; empty when the last reading succeeded."""
        self.read_s: float | None = None
        """When the last reading succeeded, seconds since 1970."""

    def refresh(self) -> None:
        """Reads what is new, unless that was done a moment ago. If the store does not answer, earlier figures stay."""
        with self._lock:
            now = self._now()
            if now - self._read_at < REFRESH_S:
                return
            try:
                client = self._connect()
                for history in self._all.values():
                    history.refresh(client, self._project, now, self._names.columns)
                self._processes = {p.id: p for p in read_processes(client, self._project)}
                self.problem, self.read_s = "", now
            except (RedisError, OSError, ValueError) as error:
                self.problem = f"The online store does not answer ({type(error).__name__})."
            self._read_at = self._now()

    @property
    def processes(self) -> list[Process]:
        """Every known process, most recently seen first."""
        return sorted(self._processes.values(), key=lambda p: -p.seen_s)

    def is_alive(self, process: Process) -> bool:
        """Whether the process had just published at the last reading."""
        return self.read_s is not None and self.read_s - process.seen_s < ALIVE_S

    @property
    def methods(self) -> list[str]:
        """The methods called within the history."""
        return sorted(self._names.methods.names)

    @property
    def symbols(self) -> list[str]:
        """The symbols requested within the history."""
        return sorted(self._names.symbols.names)

    def totals(self) -> dict[str, Any]:
        """Everything counted by the minute since the first reading, and in the day before it.

        Returns:
            ``series``: (method, source) -> (calls, errors, hits, misses, stale, retries), seconds, histogram; and
            ``errors``: (method, kind) -> calls.
        """
        with self._lock:
            totals = self._all["m"].totals
            methods, sources, kinds = self._names.methods.names, self._names.sources.names, self._names.errors.names
            return {
                "series": {(methods[m], sources[s]): row for (m, s), row in totals.series.items()},
                "errors": {(methods[m], kinds[k]): calls for (m, k), calls in totals.errors.items()},
            }

    def select(
        self, resolution: Resolution, period_s: float, chosen: Filter | None = None, *, every: int = 1
    ) -> Selection:
        """Adds up the chosen calls of the last ``period_s`` seconds, including the current minute or hour.

        Args:
            every: minutes or hours per point.
        """
        chosen = chosen or Filter()
        with self._lock:
            rows = self._history(resolution, chosen.process).joined()
            step, now = SECONDS[resolution] * every, self._now()
            last = int(now // step)
            first = last - max(1, int(period_s // step)) + 1
        return select(rows, self._names, first, last, every, step, now - last * step, chosen)

    def _history(self, resolution: Resolution, process_id: str | None) -> History:
        if process_id is None:
            return self._all[resolution]
        name = (process_id, resolution)
        history = self._of_process.setdefault(name, History(resolution, process_id))
        self._of_process.move_to_end(name)
        while len(self._of_process) > _MAX_PROCESSES_HELD:
            self._of_process.popitem(last=False)
        try:
            history.refresh(self._connect(), self._project, self._now(), self._names.columns)
        except (RedisError, OSError, ValueError) as error:
            self.problem = f"The online store does not answer ({type(error).__name__})."
        return history
