"""The history of calls, held against the calls themselves, over a real server."""

from __future__ import annotations

import random
import time
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from prometheus_client.parser import text_string_to_metric_families

from feature_repo.repo import load_repo
from feature_repo.stores.redis.connection import connect
from feature_repo.stores.redis.embedded import ensure_server, stop_server
from fsclient.dashboard import Access, Sources
from fsclient.dashboard.prometheus import exposition
from fsclient.dashboard.traffic.columns import Names
from fsclient.dashboard.traffic.history import History
from fsclient.dashboard.traffic.reader import REFRESH_S, Traffic
from fsclient.dashboard.traffic.selection import COARSE_MIDDLES, MIDDLES, Filter, percentiles
from fsclient.metrics.calls import CallRecord
from fsclient.metrics.histogram import BUCKETS, percentile_s
from fsclient.metrics.history import pack
from fsclient.metrics.registry import Metrics
from fsclient.metrics.store import Process, When, write
from tests.fsclient.clock import Clock
from tests.fsclient.dashboard.traffic import processes, records, rows_of

SYMBOLS = ("EUR/USD", "GBP/USD", "USD/JPY")


@pytest.fixture(scope="module")
def url(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    home: Path = tmp_path_factory.mktemp("home")
    yield ensure_server(home)
    stop_server(home)


@pytest.fixture
def clock() -> Clock:
    """In the middle of an hour and of a minute."""
    return Clock(time.time() // 3600 * 3600 + 1830.0)


@pytest.fixture
def client(url: str) -> Iterator[Any]:
    with connect(url) as client:
        client.flushall()
        yield client


@pytest.fixture
def traffic(client: Any, clock: Clock) -> Traffic:
    return Traffic(lambda: client, "p", now=clock)


Written = dict[tuple[str, When], list[CallRecord]]


@pytest.fixture
def written(client: Any, clock: Clock) -> Written:
    """Three processes' calls of five minutes, as they published them."""
    rng, calls_by_minute = random.Random(7), {}
    for owner in processes(3, clock.now, dead=1):
        for back in range(5):
            when = When.of("m", clock.now - 60 * back)
            calls = records(rng, rng.randrange(20, 60), SYMBOLS, outage=back == 2)
            calls_by_minute[owner.id, when] = calls
            write(client, "p", owner, {when: pack(rows_of(calls))})
    return calls_by_minute


def chosen(written: Written, filter_: Filter) -> list[CallRecord]:
    return [
        call
        for (owner, _), calls in written.items()
        for call in calls
        if filter_.process in (None, owner)
        and filter_.method in (None, call.method)
        and filter_.symbol in (None, call.symbol)
    ]


@pytest.mark.parametrize("process", [None, 0, 2])
@pytest.mark.parametrize("method", [None, "get_latest"])
@pytest.mark.parametrize("symbol", [None, "GBP/USD"])
def test_a_filter_shows_what_its_calls_were(
    traffic: Traffic, written: Written, clock: Clock, process: int | None, method: str | None, symbol: str | None
) -> None:
    owners = sorted({owner for owner, _ in written})
    filter_ = Filter(process=None if process is None else owners[process], method=method, symbol=symbol)
    traffic.refresh()
    selection, calls = traffic.select("m", 600, filter_), chosen(written, filter_)
    assert int(selection.calls.sum()) == len(calls) > 0
    assert int(selection.errors.sum()) == sum(c.error is not None for c in calls)
    assert int(selection.hits.sum()) == sum(c.cache_hit is True for c in calls)
    assert int(selection.histogram.sum()) == len(calls)
    for source in {c.source or "" for c in calls}:
        assert int(selection.by_source[source].sum()) == sum((c.source or "") == source for c in calls)
    stood_in = [c for c in calls if c.source == "last_good"]
    stood_in += [c for c in calls if c.source == "recomputed" and c.method != "compute_feature"]
    assert {s: int(n.sum()) for s, n in selection.fallbacks.items()} == Counter(c.source for c in stood_in)
    for name in {c.method for c in calls}:
        assert int(selection.by_method[name].sum()) == sum(c.method == name for c in calls)
    if symbol is None:
        assert int(selection.stale.sum()) == sum(c.stale for c in calls)
        kinds = {c.error for c in calls if c.error}
        assert {k: int(n.sum()) for k, n in selection.by_error.items()} == {
            k: sum(c.error == k for c in calls) for k in kinds
        }
        assert selection.symbols == {s: sum(c.symbol == s for c in calls) for s in SYMBOLS}
    at = When.of("m", clock.now - 120).start_s
    minute = int(np.flatnonzero(selection.times.astype("int64") == at)[0])
    then = [c for (owner, when), cs in written.items() if when.start_s == at for c in cs if c in calls]
    assert selection.calls[minute] == len([c for c in then if c in chosen(written, filter_)])


def test_percentiles_over_processes_are_those_of_all_calls_together(traffic: Traffic, written: Written) -> None:
    metrics = Metrics()
    for calls in written.values():
        for call in calls:
            metrics.record(call._replace(method="any"))
    traffic.refresh()
    selection = traffic.select("m", 600)
    reported = metrics.get_metrics()["latency_ms"]["any"]
    for share, name in ((0.5, "p50"), (0.9, "p90"), (0.99, "p99")):
        assert selection.percentile_s(share) == pytest.approx(reported[name] / 1e3, rel=1e-9)


def test_bucket_middles_are_the_histograms_own() -> None:
    for number in range(BUCKETS):
        histogram = [int(n == number) for n in range(BUCKETS)]
        assert percentiles(np.array(histogram), 0.5) == pytest.approx(percentile_s(histogram, 0.5), rel=1e-12)
    assert (np.diff(MIDDLES) >= 0).all()
    assert (np.diff(COARSE_MIDDLES) > 0).all()


def test_news_are_read_and_what_is_known_is_not(traffic: Traffic, written: Written, client: Any, clock: Clock) -> None:
    traffic.refresh()
    before = int(traffic.select("m", 600).calls.sum())
    owner = Process(host="late", pid=1, start_s=clock.now, seen_s=clock.now)
    write(
        client, "p", owner, {When.of("m", clock.now - 300): pack(rows_of([CallRecord("get_latest", source="online")]))}
    )
    traffic.refresh()  # a moment later: shared
    assert int(traffic.select("m", 600).calls.sum()) == before
    clock.now += REFRESH_S
    traffic.refresh()
    assert int(traffic.select("m", 600).calls.sum()) == before + 1


def test_a_dead_process_is_shown_and_stays_in_history(traffic: Traffic, written: Written) -> None:
    traffic.refresh()
    alive = {p.id: traffic.is_alive(p) for p in traffic.processes}
    assert sorted(alive.values()) == [False, True, True]
    dead = next(name for name, is_alive in alive.items() if not is_alive)
    assert int(traffic.select("m", 600, Filter(process=dead)).calls.sum()) == len(chosen(written, Filter(process=dead)))


def test_an_outage_of_the_store_is_shown_and_what_was_read_stays(client: Any, clock: Clock, written: Written) -> None:
    unavailable = False

    def reach() -> Any:
        if unavailable:
            raise ConnectionRefusedError
        return client

    traffic = Traffic(reach, "p", now=clock)
    traffic.refresh()
    before = int(traffic.select("m", 600).calls.sum())
    unavailable = True
    clock.now += REFRESH_S
    traffic.refresh()
    assert "does not answer" in traffic.problem
    assert int(traffic.select("m", 600).calls.sum()) == before > 0
    unavailable = False
    clock.now += REFRESH_S
    traffic.refresh()
    assert traffic.problem == ""


def test_what_is_too_old_is_forgotten(traffic: Traffic, client: Any, written: Written, clock: Clock) -> None:
    history, names = History("m"), Names()
    traffic.refresh()
    history.refresh(client, "p", clock.now, names.columns)
    assert len(history.parts) == len({when for _, when in written})
    clock.now += 90_000
    traffic.refresh()
    history.refresh(client, "p", clock.now, names.columns)
    assert int(traffic.select("m", 86_400).calls.sum()) == 0
    assert not history.parts


def test_an_empty_history_is_a_line_of_zeros(traffic: Traffic) -> None:
    traffic.refresh()
    selection = traffic.select("h", 30 * 86_400)
    assert len(selection.times) == 720
    assert not selection.calls.any()
    assert selection.percentile_s(0.5) is selection.hit_share is selection.error_share is None


def test_prometheus_counts_from_its_start_on_exactly(url: str, client: Any, clock: Clock, tmp_path: Path) -> None:
    repo = load_repo(variables={"FSTORE_HOME": str(tmp_path), "FSTORE_REDIS_URL": url})
    sources = Sources.of(repo, access=Access.to("127.0.0.1", None), now=clock)
    owner = Process(host="a", pid=1, start_s=clock.now, seen_s=clock.now, states={"breaker.online": "open"})
    when = When.of("m", clock.now)
    first = records(random.Random(1), 50, SYMBOLS)
    write(client, repo.project, owner, {when: pack(rows_of(first))})
    answer = exposition(sources)
    assert reported(answer, "fstore_calls_total") == 0
    more = records(random.Random(2), 30, SYMBOLS, outage=True)
    write(client, repo.project, owner, {when: pack(rows_of([*first, *more]))})
    clock.now += REFRESH_S
    assert reported(answer, "fstore_calls_total") == 30
    assert reported(answer, "fstore_errors_total") == sum(c.error is not None for c in more)
    assert reported(answer, "fstore_call_duration_seconds_count") == 30
    assert reported(answer, "fstore_breaker_state") == 2
    assert reported(answer, "fstore_processes") == reported(answer, "fstore_online_store_up") == 1


def reported(answer: Any, name: str) -> float:
    families = text_string_to_metric_families(answer()[0].decode())
    return sum(sample.value for family in families for sample in family.samples if sample.name == name)
