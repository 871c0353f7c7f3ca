"""What the client's calls did: one event per call, counted in this process, handed to hooks, reported as a plain dict.

Memory is bounded: counts are kept for each method and source, of which there are few, and for the first thousand
symbols; later ones count together as ``other``.
"""

from __future__ import annotations

import logging
import os
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from weakref import WeakKeyDictionary

import orjson

from feature_repo.atomic_file import replace_file
from fsclient.metrics.calls import CallCounter, CallCounts, CallRecord
from fsclient.metrics.histogram import percentile_s

__all__ = ["CallCounts", "CallRecord", "Metrics", "MetricsSnapshot", "feature_store_metrics"]

_log = logging.getLogger("feature_store_client")
_MAX_SYMBOLS = 1_000
_OTHER = "other"
_STATES = ("closed", "half_open", "open")  # of a breaker, from good to bad


Hook = Callable[[CallRecord], None]


@dataclass(frozen=True, slots=True, kw_only=True)
class MetricsSnapshot:
    """Everything counted at one moment."""

    counts: tuple[CallCounts, ...]
    symbols: Mapping[str, int]
    uptime_s: float


class Metrics:
    """Counts calls and hands them to hooks. Thread-safe.

    Args:
        clock: monotonic seconds.
    """

    def __init__(self, *, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        # Reentrant: a signal handler that logs the summary may interrupt its own thread inside the lock.
        self._lock = threading.RLock()
        self._hooks: tuple[Hook, ...] = ()
        self._failed: set[Hook] = set()
        self._states: dict[str, WeakKeyDictionary[object, str]] = {}
        self.reset()

    def reset(self) -> None:
        """Forget all counts; hooks and states stay."""
        with self._lock:
            self._series: dict[tuple[str, str | None], CallCounter] = {}
            self._symbols: dict[str, int] = {}
            self._since = self._clock()

    def add_hook(self, hook: Hook) -> None:
        """Call ``hook`` with the record of every call from now on, in the thread that made it.

        What a hook raises never reaches the call; it is logged the first time.
        """
        with self._lock:
            self._hooks = (*(h for h in self._hooks if h != hook), hook)

    def remove_hook(self, hook: Hook) -> None:
        """No longer call ``hook``; nothing if it was not added."""
        with self._lock:
            self._hooks = tuple(h for h in self._hooks if h != hook)
            self._failed.discard(hook)

    def record(self, call: CallRecord) -> None:
        """Count one call and hand it to the hooks."""
        with self._lock:
            series = self._series.get((call.method, call.source))
            if series is None:
                series = self._series[call.method, call.source] = CallCounter()
            series.count(call)
            symbol = call.symbol
            if symbol is not None:
                symbols = self._symbols
                if symbol not in symbols and len(symbols) >= _MAX_SYMBOLS:
                    symbol = _OTHER
                symbols[symbol] = symbols.get(symbol, 0) + 1
        for hook in self._hooks:
            try:
                hook(call)
            except Exception:
                self._report(hook)

    def set_state(self, name: str, value: str | None, *, of: object = None) -> None:
        """Set the state of something from now on, such as ``breaker.online``: ``open``.

        Args:
            value: None when it no longer exists.
            of: whose it is, and as long as that lives; several clients of a process have a breaker each.
        """
        owner = self if of is None else of
        with self._lock:
            states = self._states.setdefault(name, WeakKeyDictionary())
            states.pop(owner, None)
            if value is not None:
                states[owner] = value

    @property
    def states(self) -> dict[str, str]:
        """Name -> the state that was set last; the worst of several."""
        with self._lock:
            current = {name: list(states.values()) for name, states in self._states.items()}
        return {name: max(values, key=_badness) for name, values in current.items() if values}

    def snapshot(self) -> MetricsSnapshot:
        """A copy of all counts."""
        with self._lock:
            return MetricsSnapshot(
                counts=tuple(s.copy(method, source) for (method, source), s in self._series.items()),
                symbols=dict(self._symbols),
                uptime_s=self._clock() - self._since,
            )

    def get_metrics(self) -> dict[str, Any]:
        """All counts as a plain dict that JSON can hold.

        Returns:
            ``uptime_s`` (since the start or the last reset); ``calls`` (``total``, ``by_method``, ``by_source``,
            ``by_symbol``); ``errors`` (``total``, ``by_kind``); ``cache`` (``hits``, ``misses``, ``hit_rate`` from 0
            to 1); ``fallbacks`` (``total``, ``by_source``); ``stale``, ``retries``, ``rows``; and ``latency_ms``:
            ``p50``, ``p90``, ``p99`` and ``mean`` by method, failed calls included, percentiles to 4.5 %; and
            ``states``: name -> state, such as ``breaker.online``: ``closed``.
        """
        taken = self.snapshot()
        counts = taken.counts
        hits, misses = sum(c.cache_hits for c in counts), sum(c.cache_misses for c in counts)
        errors: Counter[str] = Counter()
        for c in counts:
            errors.update(c.errors)
        fallbacks = _total((c.source, c.calls) for c in counts if c.is_fallback)
        return {
            "uptime_s": taken.uptime_s,
            "calls": {
                "total": sum(c.calls for c in counts),
                "by_method": _total((c.method, c.calls) for c in counts),
                "by_source": _total((c.source, c.calls) for c in counts if c.source is not None),
                "by_symbol": dict(taken.symbols),
            },
            "errors": {"total": errors.total(), "by_kind": dict(errors)},
            "cache": {"hits": hits, "misses": misses, "hit_rate": hits / (hits + misses) if hits + misses else 0.0},
            "fallbacks": {"total": sum(fallbacks.values()), "by_source": fallbacks},
            "stale": sum(c.stale for c in counts),
            "retries": sum(c.retries for c in counts),
            "rows": sum(c.rows for c in counts),
            "latency_ms": {
                method: _latency_ms([c for c in counts if c.method == method])
                for method in dict.fromkeys(c.method for c in counts)
            },
            "states": self.states,
        }

    def log_metrics_summary(self) -> None:
        """One line at INFO to the logger ``feature_store_client``."""
        m = self.get_metrics()
        latency = "; ".join(
            f"{method} p50 {ms['p50']:.3g} ms, p99 {ms['p99']:.3g} ms" for method, ms in m["latency_ms"].items()
        )
        _log.info(
            "%d calls in %.0f s, %d errors %s, cache hit rate %.1f %%, %d fallbacks, %d stale, %d retries; %s",
            m["calls"]["total"],
            m["uptime_s"],
            m["errors"]["total"],
            m["errors"]["by_kind"],
            100 * m["cache"]["hit_rate"],
            m["fallbacks"]["total"],
            m["stale"],
            m["retries"],
            latency or "no latencies yet",
        )

    def export_metrics_json(self, path: str | os.PathLike[str] | None = None) -> str:
        """``get_metrics()`` as JSON; also written to ``path``, which is replaced as a whole or not at all.

        Raises:
            OSError: ``path`` cannot be written.
        """
        text = orjson.dumps(self.get_metrics(), option=orjson.OPT_INDENT_2).decode()
        if path is not None:
            replace_file(Path(path), text.encode())
        return text

    def _report(self, hook: Hook) -> None:
        if hook not in self._failed:
            self._failed.add(hook)
            _log.exception("a metrics hook failed: %r; it is still called, and not reported again", hook)


def _badness(state: str) -> int:
    return _STATES.index(state) if state in _STATES else len(_STATES)


def _total(counts: Iterable[tuple[str | None, int]]) -> dict[str, int]:
    total: Counter[str] = Counter()
    for name, count in counts:
        total[str(name)] += count
    return dict(total)


def _latency_ms(counts: list[CallCounts]) -> dict[str, float]:
    buckets = [sum(column) for column in zip(*(c.buckets for c in counts), strict=True)]
    mean_s = sum(c.seconds for c in counts) / sum(buckets)
    shares = {"p50": 0.5, "p90": 0.9, "p99": 0.99}
    return {"mean": 1e3 * mean_s, **{name: 1e3 * (percentile_s(buckets, s) or 0.0) for name, s in shares.items()}}


feature_store_metrics = Metrics()
"""The metrics of this process's clients."""
