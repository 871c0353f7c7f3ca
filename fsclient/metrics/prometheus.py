"""The client's metrics for Prometheus, read from the counters when it asks: a call pays nothing for it.

from prometheus_client import start_http_server
from fsclient.metrics.prometheus import register

register()
start_http_server(9100)
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from fsclient.metrics.calls import CallCounts
from fsclient.metrics.histogram import BOUNDS_S, STEPS
from fsclient.metrics.registry import Metrics, feature_store_metrics

_EVERY = 2 * STEPS  # one exported bucket for each factor of four, from 1 us to 67 s


class PrometheusCollector:
    """Turns a snapshot of ``metrics`` into Prometheus' families. ``prometheus_client`` is loaded at the first use."""

    def __init__(self, metrics: Metrics = feature_store_metrics) -> None:
        self._metrics = metrics

    def describe(self) -> list[Any]:
        """Nothing: which labels there are is known only when collecting."""
        return []

    def collect(self) -> Iterator[Any]:
        """Counters and one histogram, labelled by method and, where there is one, source or kind of error.

        Counters start at 0 again after ``Metrics.reset``, which Prometheus takes for a restart.
        """
        from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, HistogramMetricFamily

        taken = self._metrics.snapshot()
        labels = ["method", "source"]
        families = {
            name: CounterMetricFamily(f"fstore_client_{name}", help_, labels=labels)
            for name, help_ in (
                ("calls", "Calls of the feature store client."),
                ("cache_hits", "Calls that the cache answered."),
                ("cache_misses", "Calls that the cache could not answer."),
                ("stale", "Answers that may not be what the store would say now."),
                ("retries", "Attempts after a call's first."),
                ("rows", "Rows of answers."),
            )
        }
        errors = CounterMetricFamily(
            "fstore_client_errors", "Calls that failed, by the class of their error.", labels=["method", "kind"]
        )
        latency = HistogramMetricFamily("fstore_client_call_duration_seconds", "From call to answer.", labels=labels)
        by_kind: dict[tuple[str, str], int] = {}
        for counts in taken.counts:
            names = [counts.method, counts.source or ""]
            for name, family in families.items():
                family.add_metric(names, getattr(counts, name))
            for kind, number in counts.errors.items():
                by_kind[counts.method, kind] = by_kind.get((counts.method, kind), 0) + number
            latency.add_metric(names, buckets=_cumulative(counts), sum_value=counts.seconds)
        for method_and_kind, number in by_kind.items():
            errors.add_metric(list(method_and_kind), number)
        yield from families.values()
        yield errors
        yield latency
        uptime = GaugeMetricFamily("fstore_client_uptime_seconds", "Since the counters started.")
        uptime.add_metric([], taken.uptime_s)
        yield uptime


def register(registry: Any = None, metrics: Metrics = feature_store_metrics) -> PrometheusCollector:
    """Add a collector of ``metrics`` to a registry, by default Prometheus' own.

    Returns:
        The collector, to unregister it with.
    """
    from prometheus_client import REGISTRY

    collector = PrometheusCollector(metrics)
    (REGISTRY if registry is None else registry).register(collector)
    return collector


def _cumulative(counts: CallCounts) -> list[tuple[str, int]]:
    ends = range(0, len(BOUNDS_S), _EVERY)
    return [*((f"{BOUNDS_S[end]:.6g}", sum(counts.buckets[: end + 1])) for end in ends), ("+Inf", counts.calls)]
