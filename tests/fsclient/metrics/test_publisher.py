"""Metrics reach other processes through a real server, survive their process, and add up."""

from __future__ import annotations

import multiprocessing
import os
import signal
import threading
import time
from collections.abc import Iterator
from contextlib import closing
from dataclasses import replace
from itertools import count
from pathlib import Path
from typing import Any

import pytest
from redis.exceptions import ConnectionError as RedisConnectionError

from feature_repo.stores.redis.connection import connect
from feature_repo.stores.redis.embedded import ensure_server, stop_server
from fsclient.metrics.history import SlotRows
from fsclient.metrics.publisher import FINAL_WRITE_S, MetricsPublisher, publishing
from fsclient.metrics.registry import CallRecord, Metrics
from fsclient.metrics.store import KEPT_S, When, key, merge_ended, read_counts, read_processes, times_between
from tests.fsclient.clock import Clock
from tests.fsclient.outcomes import Stopwatch

MINUTE = time.time() // 3600 * 3600 - 3000  # a minute of the last hour, because the server forgets older ones
HOUR = When.of("h", MINUTE)


@pytest.fixture(scope="module")
def url(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    home: Path = tmp_path_factory.mktemp("home")
    yield ensure_server(home)
    stop_server(home)


@pytest.fixture
def client(url: str) -> Iterator[Any]:
    with connect(url) as client:
        client.flushall()
        yield client


_pids = count(1)


def call(metrics: Metrics, times: int = 1, **record: Any) -> None:
    for _ in range(times):
        metrics.record(CallRecord(**{"method": "get_latest", "symbol": "EUR/USD", "source": "online", **record}))


def counting(clock: Clock) -> tuple[Metrics, MetricsPublisher]:
    """Metrics of one process and their publisher, which writes when a test asks for it."""
    metrics = Metrics()
    publisher = MetricsPublisher("redis://nowhere", "p", metrics, now=clock)
    publisher._process = replace(publisher._process, pid=next(_pids))
    metrics.add_hook(publisher._count)
    publisher._thread = threading.current_thread()
    return metrics, publisher


def calls(rows: SlotRows) -> int:
    return sum(row[2] for row in rows.series)


def total(client: Any, resolution: Any, *, project: str = "p", around: float = MINUTE, **of: Any) -> int:
    times = [*times_between(resolution, around - 7200, around + 7200)]
    return sum(calls(rows) for rows in read_counts(client, project, times, **of).values())


def publisher_threads() -> list[threading.Thread]:
    return [t for t in threading.enumerate() if t.name == "fsclient-metrics"]


def test_clients_of_a_process_share_a_publisher_and_the_last_to_go_writes_what_was_counted(
    url: str, client: Any
) -> None:
    metrics = Metrics()
    first, second = publishing(url, "shared", metrics), publishing(url, "shared", metrics)
    call(metrics, 3)
    assert len(publisher_threads()) == 1
    first()
    first()
    assert len(publisher_threads()) == 1
    metrics.set_state("breaker.online", "open")
    second()
    assert not publisher_threads()
    assert total(client, "m", project="shared", around=time.time()) == 3
    (process,) = read_processes(client, "shared")
    assert process.pid == os.getpid()
    assert process.states == {"breaker.online": "open"}
    call(metrics)  # nobody listens any longer
    third = publishing(url, "shared", metrics)
    third()
    assert total(client, "m", project="shared", around=time.time()) == 3


def test_minutes_and_hours_of_many_processes_add_up_with_their_histograms(client: Any) -> None:
    clock = Clock(MINUTE)
    metrics, publisher = counting(clock)
    other, elsewhere = counting(clock)
    call(metrics, 90, duration_s=0.001)
    call(other, 10, duration_s=0.5, method="get_ohlcv", source="offline", symbol="GBP/USD")
    publisher.publish(client)
    publisher.publish(client)  # the same again, not twice as much
    elsewhere.publish(client)
    clock.now += 60
    call(metrics, 7, source=None, error="RequestTimeout")
    for process in (publisher, elsewhere):
        process.publish(client)
    for resolution in ("m", "h"):
        assert total(client, resolution) == 107
    rows = read_counts(client, "p", [HOUR])[HOUR]
    by_series = {(method, source): (n, histogram) for method, source, n, *_, histogram in rows.series}
    assert by_series["get_latest", "online"][0] == sum(by_series["get_latest", "online"][1][1:]) == 90
    assert by_series["get_ohlcv", "offline"][0] == 10
    assert {tuple(row[:5]) for row in rows.symbols} == {
        ("get_latest", "online", "EUR/USD", 90, 0),
        ("get_latest", "", "EUR/USD", 7, 7),
        ("get_ohlcv", "offline", "GBP/USD", 10, 0),
    }
    alone = total(client, "m", process_id=elsewhere._process.id)
    assert alone == 10


def test_a_sum_made_once_is_read_and_a_late_write_makes_it_void(client: Any) -> None:
    clock = Clock(MINUTE)
    metrics, publisher = counting(clock)
    late, latecomer = counting(clock)
    call(metrics, 5)
    call(late, 2)
    publisher.publish(client)
    minute = When.of("m", MINUTE)
    assert merge_ended(client, "p", MINUTE + 61) == 0  # its last writes may be on their way
    assert merge_ended(client, "p", MINUTE + 80) == 1
    assert client.smembers(key("p", "unmerged")) == {str(HOUR).encode()}
    assert client.hexists(key("p", minute), "*")
    assert calls(read_counts(client, "p", [minute])[minute]) == 5
    latecomer.publish(client)
    assert calls(read_counts(client, "p", [minute])[minute]) == 7
    assert merge_ended(client, "p", MINUTE + 80) == 1
    assert calls(read_counts(client, "p", [minute])[minute]) == 7


def test_what_was_written_while_a_sum_was_made_is_not_lost_by_it(client: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    from fsclient.metrics import store

    clock = Clock(MINUTE)
    metrics, publisher = counting(clock)
    late, latecomer = counting(clock)
    call(metrics, 5)
    call(late, 2)
    publisher.publish(client)
    honest = store.merge

    def slow_merge(packed: Any) -> Any:
        rows = honest(packed)
        latecomer.publish(client)
        return rows

    monkeypatch.setattr(store, "merge", slow_merge)
    assert merge_ended(client, "p", MINUTE + 80) == 1
    minute = When.of("m", MINUTE)
    assert calls(read_counts(client, "p", [minute])[minute]) == 7
    assert str(minute).encode() in client.smembers(key("p", "unmerged"))


def test_two_publishers_do_not_add_up_the_same_at_the_same_time(client: Any) -> None:
    metrics, publisher = counting(Clock(MINUTE))
    call(metrics)
    publisher.publish(client)
    client.set(key("p", "merging"), 1)
    assert merge_ended(client, "p", MINUTE + 80) == 0


def test_an_outage_loses_no_minute(client: Any) -> None:
    clock = Clock(MINUTE)
    metrics, publisher = counting(clock)

    class Away:
        def pipeline(self, **_: Any) -> Any:
            raise RedisConnectionError

    for _ in range(5):
        call(metrics, 2)
        clock.now += 60  # the thread wakes at a minute's end
        with pytest.raises(RedisConnectionError):
            publisher.publish(Away())
    publisher.publish(client)
    assert total(client, "m") == total(client, "h") == 10
    assert len(read_counts(client, "p", [*times_between("m", MINUTE, clock.now)])) == 5


def test_an_unavailable_server_costs_nothing_but_silence(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    metrics = Metrics()
    with Stopwatch() as watch:
        release = publishing(f"unix://{tmp_path}/nobody.sock?password=hidden", "silent", metrics)
        bad = publishing("nonsense://", "silent", metrics)
        call(metrics)
        release()
        bad()
    assert watch.taken_s < 2 * FINAL_WRITE_S + 0.2
    assert not publisher_threads()
    assert "hidden" not in caplog.text


def test_everything_is_forgotten_in_time(client: Any) -> None:
    clock = Clock(MINUTE)
    clock.now = time.time()
    metrics, publisher = counting(clock)
    call(metrics)
    publisher.publish(client)
    for name in client.scan_iter():
        resolution = name.decode().split(":")[3] if name.count(b":") == 4 else ""
        if resolution:
            assert 0 < client.ttl(name) <= KEPT_S[resolution] + 2 * 3600
    assert 0 < client.ttl(key("p", "processes")) <= KEPT_S["h"]


def test_a_state_that_is_not_closed_is_history_too(client: Any) -> None:
    clock = Clock(MINUTE)
    metrics, publisher = counting(clock)
    metrics.set_state("breaker.online", "closed")
    publisher.publish(client)
    assert read_counts(client, "p", [HOUR]) == {}  # an idle process writes no history
    metrics.set_state("breaker.online", "open")
    publisher.publish(client)
    publisher.publish(client)
    assert read_counts(client, "p", [HOUR])[HOUR].states == {"breaker.online": {"open": 2}}


def _work(url: str, ready: Any, calls: int) -> None:
    metrics = Metrics()
    publishing(url, "died", metrics)
    call(metrics, calls)
    with closing(connect(url)) as client:
        while total(client, "m", project="died", around=time.time()) < calls:
            time.sleep(0.05)
    ready.set()
    signal.pause()


def test_a_process_killed_outright_stays_in_history(url: str, client: Any) -> None:
    context = multiprocessing.get_context("spawn")
    ready = context.Event()
    process = context.Process(target=_work, args=(url, ready, 4), daemon=True)
    process.start()
    assert ready.wait(30)
    process.kill()
    process.join()
    assert total(client, "m", project="died", around=time.time()) == 4
    assert [p.pid for p in read_processes(client, "died")] == [process.pid]


def test_a_forked_child_publishes_its_own_calls_under_its_own_name(url: str, client: Any) -> None:
    metrics = Metrics()
    release = publishing(url, "forked", metrics)
    call(metrics, 3)
    child = os.fork()
    if not child:
        try:
            call(metrics, 2)
            release()
        finally:
            os._exit(0)
    os.waitpid(child, 0)
    release()
    assert {p.pid for p in read_processes(client, "forked")} == {os.getpid(), child}
    by_pid = {
        p.pid: total(client, "m", project="forked", around=time.time(), process_id=p.id)
        for p in read_processes(client, "forked")
    }
    assert by_pid == {os.getpid(): 3, child: 2}
