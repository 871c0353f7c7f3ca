"""The dashboard's figures for Prometheus: the calls of all clients, ages of views, gates, runs, alerts.

Counters start at 0 with the dashboard and then follow the history exactly, even when a process publishes its counts
late; Prometheus recognises a restart as one.
"""

from __future__ import annotations

import threading
from collections import Counter
from collections.abc import Iterator
from datetime import timedelta
from typing import Any

import numpy as np

from fsclient.dashboard.sources import Sources
from fsclient.metrics.histogram import BOUNDS_S, BUCKETS, STEPS

_EVERY = 2 * STEPS  # one exported bucket for each factor of four, as in ``metrics.prometheus``
_STATES = {"closed": 0, "half_open": 1, "open": 2}


class Collector:
    """Collects what the dashboard shows."""

    def __init__(self, sources: Sources) -> None:
        self._sources = sources
        self._lock = threading.Lock()
        self._baseline: dict[Any, Any] | None = None

    def describe(self) -> list[Any]:
        """Nothing: the labels are known only when collecting."""
        return []

    def collect(self) -> Iterator[Any]:
        """The metric families."""
        self._sources.traffic.refresh()
        yield from self._calls()
        yield from self._clients()
        yield from self._views()
        yield from self._machinery()

    def _calls(self) -> Iterator[Any]:
        from prometheus_client.core import CounterMetricFamily, HistogramMetricFamily

        totals = self._sources.traffic.totals()
        with self._lock:
            if self._baseline is None:
                self._baseline = totals
            start = self._baseline
        labels = ["method", "source"]
        families = {
            column: CounterMetricFamily(f"fstore_{name}", help_, labels=labels)
            for column, (name, help_) in _COUNTERS.items()
        }
        latency = HistogramMetricFamily("fstore_call_duration_seconds", "Time from call to answer.", labels=labels)
        errors = CounterMetricFamily("fstore_errors", "Failed calls by kind of error.", labels=["method", "kind"])
        for (method, source), now in totals["series"].items():
            figures, seconds, histogram = now
            before = start["series"].get((method, source), (np.zeros_like(figures), 0.0, 0))
            for column, family in families.items():
                family.add_metric([method, source], int(figures[column] - before[0][column]))
            cumulative = np.cumsum(histogram - before[2])
            buckets = [(f"{BOUNDS_S[n]:.6g}", int(cumulative[n])) for n in range(0, len(BOUNDS_S), _EVERY)]
            latency.add_metric(
                [method, source], [*buckets, ("+Inf", int(cumulative[BUCKETS - 1]))], sum_value=seconds - before[1]
            )
        for (method, kind), number in totals["errors"].items():
            errors.add_metric([method, kind], number - start["errors"].get((method, kind), 0))
        yield from (*families.values(), latency, errors)

    def _clients(self) -> Iterator[Any]:
        from prometheus_client.core import GaugeMetricFamily

        traffic = self._sources.traffic
        alive = [p for p in traffic.processes if traffic.is_alive(p)]
        yield GaugeMetricFamily("fstore_processes", "Client processes that are alive.", value=len(alive))
        up = 0.0 if traffic.problem else 1.0
        yield GaugeMetricFamily("fstore_online_store_up", "Whether the online store answers.", value=up)
        breakers = GaugeMetricFamily(
            "fstore_breaker_state", "0 closed, 1 half open, 2 open.", labels=["host", "pid", "breaker"]
        )
        for process in alive:
            for name, state in process.states.items():
                if name.startswith("breaker."):
                    label = [process.host, str(process.pid), name.removeprefix("breaker.")]
                    breakers.add_metric(label, _STATES.get(state, 2))
        yield breakers

    def _views(self) -> Iterator[Any]:
        from prometheus_client.core import GaugeMetricFamily

        ages = GaugeMetricFamily(
            "fstore_view_age_bars", "Bars closed in open hours since the view's newest.", labels=["symbol", "timeframe"]
        )
        for age in self._sources.online.ages():
            if age.age_bars is not None:
                ages.add_metric([age.symbol, age.timeframe], age.age_bars)
        yield ages

    def _machinery(self) -> Iterator[Any]:
        from prometheus_client.core import GaugeMetricFamily

        sources = self._sources
        if sources.operations is None:
            return
        day = sources.now - timedelta(days=1)
        verdicts, why = sources.ask(lambda o: o.verdict_totals(day), ())
        yield GaugeMetricFamily("fstore_ledger_up", "Whether the ledger answers.", value=0.0 if why else 1.0)
        if why:
            return
        gates = GaugeMetricFamily(
            "fstore_gate_verdicts_24h", "Gate verdicts of the last 24 hours.", labels=["kind", "result"]
        )
        results = Counter[tuple[str, str]]()
        for total in verdicts:
            results[total.kind, "passed" if total.passed else "stopped"] += total.verdicts
        for (kind, result), number in results.items():
            gates.add_metric([kind, result], number)
        alerts = GaugeMetricFamily("fstore_alerts_open", "Open incidents by rule.", labels=["rule"])
        for rule, number in sources.ask(lambda o: o.open_alerts(), {})[0].items():
            alerts.add_metric([rule], number)
        yield gates
        yield alerts
        doubts = sources.ask(lambda o: o.doubts(), ())[0]
        yield GaugeMetricFamily("fstore_views_in_doubt", "Views whose values failed a comparison.", value=len(doubts))
        runs = GaugeMetricFamily("fstore_runs_24h", "Runs in 24 hours.", labels=["kind", "state"])
        for counted in sources.ask(lambda o: o.run_totals(day), ())[0]:
            runs.add_metric([counted.kind, counted.state], counted.runs)
        yield runs


_COUNTERS = {  # column of the totals -> name, description
    0: ("calls", "Calls of all clients."),
    2: ("cache_hits", "Calls answered by the cache."),
    3: ("cache_misses", "Calls that the cache could not answer."),
    4: ("stale", "Answers that may differ from the store's current values."),
    5: ("retries", "Attempts after the first one of a call."),
}


def exposition(sources: Sources) -> Any:
    """A function that returns the body of ``/metrics`` and its content type."""
    from prometheus_client import CollectorRegistry
    from prometheus_client.exposition import CONTENT_TYPE_LATEST, generate_latest

    registry = CollectorRegistry()
    registry.register(Collector(sources))
    return lambda: (generate_latest(registry), CONTENT_TYPE_LATEST)
