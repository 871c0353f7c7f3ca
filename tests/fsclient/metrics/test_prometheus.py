from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest
from prometheus_client import CollectorRegistry, generate_latest
from prometheus_client.parser import text_string_to_metric_families

from fsclient.metrics import prometheus
from fsclient.metrics.registry import CallRecord, Metrics

HIT = CallRecord(method="get_latest", symbol="EUR/USD", source="cache", duration_s=3e-4, cache_hit=True, rows=1)


@pytest.fixture
def metrics() -> Metrics:
    return Metrics(clock=lambda: 0.0)


@pytest.fixture
def registry(metrics: Metrics) -> CollectorRegistry:
    registry = CollectorRegistry()
    prometheus.register(registry, metrics)
    return registry


def test_what_was_counted_is_what_is_scraped(metrics: Metrics, registry: CollectorRegistry) -> None:
    for _ in range(3):
        metrics.record(HIT)
    metrics.record(HIT._replace(source=None, cache_hit=None, error="RequestTimeout", duration_s=500.0, attempts=3))
    cached = {"method": "get_latest", "source": "cache"}
    failed = {"method": "get_latest", "source": ""}
    value = registry.get_sample_value
    assert value("fstore_client_calls_total", cached) == 3
    assert value("fstore_client_calls_total", failed) == 1
    assert value("fstore_client_cache_hits_total", cached) == 3
    assert value("fstore_client_rows_total", cached) == 3
    assert value("fstore_client_retries_total", failed) == 2
    assert value("fstore_client_errors_total", {"method": "get_latest", "kind": "RequestTimeout"}) == 1
    assert value("fstore_client_uptime_seconds") == 0.0


def test_the_histogram_is_cumulative_and_ends_with_all(metrics: Metrics, registry: CollectorRegistry) -> None:
    for duration_s in (3e-4, 1e-3, 0.5, 500.0):
        metrics.record(HIT._replace(duration_s=duration_s))
    name, labels = "fstore_client_call_duration_seconds", {"method": "get_latest", "source": "cache"}
    (family,) = [f for f in registry.collect() if f.name == name]
    buckets = [(s.labels["le"], s.value) for s in family.samples if s.name == name + "_bucket"]
    ends = [float(end) for end, _ in buckets]
    counts = [count for _, count in buckets]
    assert ends == sorted(ends)
    assert counts == sorted(counts)
    assert [dict(buckets)[end] for end in ("0.000256", "0.001024", "1.04858", "+Inf")] == [0, 2, 3, 4]
    assert registry.get_sample_value(name + "_count", labels) == 4
    assert registry.get_sample_value(name + "_sum", labels) == pytest.approx(500.5013)


def test_the_text_format_can_be_parsed_before_the_first_call_and_after(
    metrics: Metrics, registry: CollectorRegistry
) -> None:
    for _ in range(2):
        families = list(text_string_to_metric_families(generate_latest(registry).decode()))
        assert {"fstore_client_calls", "fstore_client_call_duration_seconds"} <= {f.name for f in families}
        metrics.record(HIT)


def test_prometheus_is_not_loaded_unless_asked_for() -> None:
    folder = str(Path(prometheus.__file__).parent)
    code = f"""
import sys, types
package = types.ModuleType("fsclient")  # without its __init__, which loads the whole client
package.__path__ = [{folder!r}]
sys.modules["fsclient"] = package
import fsclient.metrics.registry, fsclient.metrics.prometheus
sys.exit("prometheus_client" in sys.modules)
"""
    subprocess.run([sys.executable, "-c", code], check=True)
