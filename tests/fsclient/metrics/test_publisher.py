"""Metrics reach other processes through a real server."""

from __future__ import annotations

import threading
from pathlib import Path
from typing import Any

import pytest

from feature_repo.stores.connection import connect
from feature_repo.stores.embedded import ensure_server, stop_server
from fsclient.metrics.publisher import FORGET_AFTER_S, MetricsPublisher, read_processes
from fsclient.metrics.registry import CallRecord, Metrics


@pytest.fixture(scope="module")
def url(tmp_path_factory: pytest.TempPathFactory) -> Any:
    home: Path = tmp_path_factory.mktemp("home")
    yield ensure_server(home)
    stop_server(home)


def counted(calls: int) -> Metrics:
    metrics = Metrics()
    for _ in range(calls):
        metrics.record(CallRecord(method="get_latest", symbol="EUR/USD", source="online", duration_s=0.001))
    return metrics


def test_stopping_publishes_what_was_counted_and_leaves_no_thread(url: str) -> None:
    publisher = MetricsPublisher(url, "told", metrics=counted(3), interval_s=3600)
    publisher.start()
    publisher.stop()
    publisher.stop()
    with connect(url) as client:
        (snapshot,) = read_processes(client, "told").values()
    assert snapshot["metrics"]["calls"]["total"] == 3
    assert not [t for t in threading.enumerate() if t.name == "fsclient-metrics"]


def test_two_processes_stand_side_by_side_and_one_long_dead_is_forgotten(url: str) -> None:
    with connect(url) as client:
        now = 1_000_000.0
        for calls, at in ((1, now), (2, now + 1), (5, now + FORGET_AFTER_S + 2)):
            publisher = MetricsPublisher(url, "many", metrics=counted(calls), now=lambda at=at: at)
            publisher.publish(client)
        assert sorted(s["metrics"]["calls"]["total"] for s in read_processes(client, "many").values()) == [1, 2, 5]
        publisher._clear_out(client)
        assert [s["metrics"]["calls"]["total"] for s in read_processes(client, "many").values()] == [5]


def test_a_server_that_is_away_costs_nothing_but_silence(tmp_path: Path) -> None:
    publisher = MetricsPublisher(f"unix://{tmp_path}/nobody.sock", "silent", metrics=counted(1), interval_s=3600)
    publisher.start()
    publisher.stop()
    assert not [t for t in threading.enumerate() if t.name == "fsclient-metrics"]
