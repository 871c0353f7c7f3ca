"""What a real client counts is what the dashboard shows."""

from __future__ import annotations

import os

import pytest

from fsclient import FeatureStoreClient, UnknownSymbolError
from fsclient.dashboard.traffic.selection import Filter
from fsclient.metrics.publisher import publishing
from fsclient.metrics.registry import Metrics
from tests.fsclient.dashboard.conftest import Stack, read_anew


async def test_calls_of_a_real_client_arrive_with_all_that_it_counted(stack: Stack) -> None:
    metrics = Metrics()
    release = publishing(stack.url, stack.repo.project, metrics)
    async with FeatureStoreClient(repo=stack.repo, metrics=metrics) as client:
        for _ in range(7):
            await client.get_latest(["EUR/USD"], ["close", "rsi_14"], timeframe="1h")
        with pytest.raises(UnknownSymbolError):
            await client.get_latest(["NO/SUCH"], ["close"], timeframe="1h")
    metrics.set_state("breaker.online", "open")
    release()
    read_anew(stack)
    traffic, reported = stack.sources.traffic, metrics.get_metrics()
    own = max((p for p in traffic.processes if p.pid == os.getpid()), key=lambda p: p.start_s)
    selection = traffic.select("m", 3600, Filter(process=own.id))
    assert int(selection.calls.sum()) == reported["calls"]["total"] == 8
    assert int(selection.hits.sum()) == reported["cache"]["hits"]
    assert {k: int(n.sum()) for k, n in selection.by_error.items()} == reported["errors"]["by_kind"]
    assert own.states["breaker.online"] == "open"
    assert int(selection.states["breaker.online"]["open"].sum()) == 1
    by_hour = traffic.select("h", 7200, Filter(process=own.id))
    assert int(by_hour.calls.sum()) == 8
