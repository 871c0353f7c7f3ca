from __future__ import annotations

import gc
import json
import logging
import threading
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fsclient.metrics.registry import CallRecord, Metrics, feature_store_metrics
from tests.fsclient.clock import Clock


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def metrics(clock: Clock) -> Metrics:
    return Metrics(clock=clock)


HIT = CallRecord(method="get_latest", symbol="EUR/USD", timeframe="1h", source="cache", duration_s=2e-5, cache_hit=True)


def test_calls_are_reported_as_a_plain_dict(metrics: Metrics, clock: Clock) -> None:
    clock.now = 60.0
    for _ in range(3):
        metrics.record(HIT)
    metrics.record(
        HIT._replace(symbol="GBP/USD", source="online", duration_s=0.002, cache_hit=False, attempts=3, rows=500)
    )
    metrics.record(HIT._replace(source=None, cache_hit=None, duration_s=1.0, error="RequestTimeout"))
    metrics.record(HIT._replace(method="get_ohlcv", symbol=None, source="last_good", cache_hit=False, stale=True))
    report = metrics.get_metrics()
    latency = report.pop("latency_ms")
    assert report == {
        "uptime_s": 60.0,
        "calls": {
            "total": 6,
            "by_method": {"get_latest": 5, "get_ohlcv": 1},
            "by_source": {"cache": 3, "online": 1, "last_good": 1},
            "by_symbol": {"EUR/USD": 4, "GBP/USD": 1},
        },
        "errors": {"total": 1, "by_kind": {"RequestTimeout": 1}},
        "cache": {"hits": 3, "misses": 2, "hit_rate": 0.6},
        "fallbacks": {"total": 1, "by_source": {"last_good": 1}},
        "stale": 1,
        "retries": 2,
        "rows": 500,
        "states": {},
    }
    assert latency["get_latest"] == {
        "p50": pytest.approx(0.02, rel=0.05),
        "p90": pytest.approx(1000, rel=0.05),
        "p99": pytest.approx(1000, rel=0.05),
        "mean": pytest.approx((3 * 0.02 + 2 + 1000) / 5),
    }
    assert json.loads(json.dumps(report)) == report


def test_recomputing_is_a_fallback_except_where_it_is_the_ordinary_way(metrics: Metrics) -> None:
    metrics.record(CallRecord(method="get_indicators", source="recomputed"))
    metrics.record(CallRecord(method="compute_feature", source="recomputed"))
    assert metrics.get_metrics()["fallbacks"] == {"total": 1, "by_source": {"recomputed": 1}}


def test_no_calls_are_reported_too(metrics: Metrics, caplog: pytest.LogCaptureFixture) -> None:
    report = metrics.get_metrics()
    assert report["calls"]["total"] == 0
    assert report["cache"] == {"hits": 0, "misses": 0, "hit_rate": 0.0}
    assert report["latency_ms"] == {}
    with caplog.at_level(logging.INFO, "feature_store_client"):
        metrics.log_metrics_summary()
    assert "no latencies yet" in caplog.text


def test_memory_is_bounded_in_symbols(metrics: Metrics) -> None:
    for i in range(5_000):
        metrics.record(HIT._replace(symbol=f"S{i}"))
    metrics.record(HIT._replace(symbol="S0"))
    by_symbol = metrics.get_metrics()["calls"]["by_symbol"]
    assert len(by_symbol) == 1_001
    assert by_symbol["S0"] == 2
    assert by_symbol["other"] == 4_000


def test_resetting_forgets_the_counts_and_keeps_the_hooks(metrics: Metrics, clock: Clock) -> None:
    records: list[CallRecord] = []
    metrics.add_hook(records.append)
    metrics.record(HIT)
    clock.now = 50.0
    metrics.reset()
    clock.now = 51.0
    assert metrics.get_metrics()["calls"]["total"] == 0
    assert metrics.get_metrics()["uptime_s"] == 1.0
    metrics.record(HIT)
    assert records == [HIT, HIT]


def test_a_hook_hears_every_call_until_it_is_removed(metrics: Metrics) -> None:
    records: list[CallRecord] = []
    metrics.add_hook(records.append)
    metrics.add_hook(records.append)  # the same one: still once per call
    metrics.record(HIT)
    metrics.remove_hook(records.append)
    metrics.remove_hook(records.append)
    metrics.record(HIT)
    assert records == [HIT]


def test_a_failing_hook_is_logged_once_and_breaks_neither_call_nor_other_hooks(
    metrics: Metrics, caplog: pytest.LogCaptureFixture
) -> None:
    records: list[CallRecord] = []

    def failing(_: CallRecord) -> None:
        raise RuntimeError("the exporter is down")

    metrics.add_hook(failing)
    metrics.add_hook(records.append)
    for _ in range(3):
        metrics.record(HIT)
    assert len(records) == 3
    assert caplog.text.count("RuntimeError: the exporter is down") == 1


def test_a_hook_may_read_the_metrics_from_another_thread(metrics: Metrics) -> None:
    """Hooks run outside of the lock."""
    totals: list[int] = []

    def hook(_: CallRecord) -> None:
        reader = threading.Thread(target=lambda: totals.append(metrics.get_metrics()["calls"]["total"]))
        reader.start()
        reader.join(5)

    metrics.add_hook(hook)
    metrics.record(HIT)
    assert totals == [1]


def test_a_record_cannot_be_changed() -> None:
    with pytest.raises(AttributeError):
        HIT.rows = 5  # type: ignore[misc]
    assert not hasattr(HIT, "__dict__")


def test_the_summary_is_one_line_for_the_clients_logger(metrics: Metrics, caplog: pytest.LogCaptureFixture) -> None:
    metrics.record(HIT)
    metrics.record(HIT._replace(error="RequestTimeout"))
    with caplog.at_level(logging.INFO, "feature_store_client"):
        metrics.log_metrics_summary()
    (record,) = caplog.records
    assert record.name == "feature_store_client"
    assert "2 calls" in record.getMessage()
    assert "RequestTimeout" in record.getMessage()
    assert "get_latest p50 0.0" in record.getMessage()


def test_the_export_is_json_and_replaces_its_file_as_a_whole(metrics: Metrics, tmp_path: Path) -> None:
    metrics.record(HIT)
    assert json.loads(metrics.export_metrics_json()) == metrics.get_metrics()
    path = tmp_path / "metrics.json"
    path.write_text("old")
    assert metrics.export_metrics_json(path) == path.read_text(encoding="utf-8")
    assert list(tmp_path.iterdir()) == [path]
    with pytest.raises(OSError, match="nowhere"):
        metrics.export_metrics_json(str(tmp_path / "nowhere" / "metrics.json"))


def test_threads_may_count_together(metrics: Metrics) -> None:
    def strategy() -> None:
        for _ in range(2_000):
            metrics.record(HIT)

    threads = [threading.Thread(target=strategy) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    report = metrics.get_metrics()
    assert (report["calls"]["total"], report["cache"]["hits"], report["calls"]["by_symbol"]["EUR/USD"]) == (8_000,) * 3


records = st.builds(
    CallRecord,
    method=st.sampled_from(["get_latest", "get_ohlcv"]),
    symbol=st.none() | st.sampled_from(["EUR/USD", "GBP/USD"]),
    source=st.none() | st.sampled_from(["cache", "online", "last_good"]),
    duration_s=st.floats(0, 100),
    error=st.none() | st.sampled_from(["RequestTimeout", "CircuitOpenError"]),
    cache_hit=st.none() | st.booleans(),
    stale=st.booleans(),
    attempts=st.integers(0, 5),
    rows=st.integers(0, 1000),
)


@given(st.lists(records, max_size=50))
def test_the_parts_add_up_to_the_whole(calls: list[CallRecord]) -> None:
    metrics = Metrics()
    for call in calls:
        metrics.record(call)
    report: dict[str, Any] = metrics.get_metrics()
    assert report["calls"]["total"] == sum(report["calls"]["by_method"].values()) == len(calls)
    assert sum(report["calls"]["by_source"].values()) == sum(c.source is not None for c in calls)
    assert (
        report["errors"]["total"]
        == sum(report["errors"]["by_kind"].values())
        == sum(c.error is not None for c in calls)
    )
    assert report["cache"]["hits"] == sum(c.cache_hit is True for c in calls)
    assert report["cache"]["misses"] == sum(c.cache_hit is False for c in calls)
    assert report["retries"] == sum(max(0, c.attempts - 1) for c in calls)
    assert report["rows"] == sum(c.rows for c in calls)
    assert all(sum(c.buckets) == c.calls for c in metrics.snapshot().counts)


def test_there_is_one_for_the_process() -> None:
    assert isinstance(feature_store_metrics, Metrics)


class Client:
    """Whose a state is."""


def test_of_several_clients_of_a_process_the_worst_state_is_reported() -> None:
    metrics, first, second = Metrics(), Client(), Client()
    metrics.set_state("breaker.online", "open", of=first)
    metrics.set_state("breaker.online", "closed", of=second)  # a client that is made later hides nothing
    assert metrics.states == {"breaker.online": "open"}
    metrics.set_state("breaker.online", "half_open", of=first)
    assert metrics.states == {"breaker.online": "half_open"}
    metrics.set_state("breaker.online", None, of=first)
    assert metrics.states == {"breaker.online": "closed"}
    metrics.set_state("breaker.online", None, of=second)
    assert metrics.states == {}


def test_the_state_of_a_client_that_was_never_closed_goes_with_it() -> None:
    metrics, forgotten = Metrics(), Client()
    metrics.set_state("breaker.online", "open", of=forgotten)
    assert metrics.states == {"breaker.online": "open"}
    del forgotten
    gc.collect()
    assert metrics.states == {}
