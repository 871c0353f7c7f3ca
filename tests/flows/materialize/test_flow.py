"""The batch run in Prefect: all its symbols, what it shows, and one shard's fault is no other's."""

from __future__ import annotations

import json
from collections.abc import Callable
from datetime import datetime
from typing import Any

import pandas as pd
import pytest

from feature_repo import catalog
from flows.engine.states import result_of
from flows.materialize import flow as run
from flows.runs import store
from flows.settings import Settings
from tests.flows.materialize.pairs import PAIRS, check_only, make_pairs

Make = Callable[..., pd.DataFrame]
Take = Callable[..., Any]
ReadOnline = Callable[..., Any]
Contents = Callable[[], tuple[Any, ...]]


def test_the_flow_leaves_a_table_of_what_it_did(
    make_bars: Make, take: Take, prefect_server: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    from prefect.client.orchestration import get_client
    from prefect.client.schemas.filters import ArtifactFilter, ArtifactFilterKey
    from prefect.client.schemas.sorting import ArtifactSort

    monkeypatch.setenv("FSTORE_SHARD_SIZE", "2")
    make_pairs(make_bars, take)
    outcomes = run.materialize(symbols=[*PAIRS, "EUR/USD"])
    assert [(o.symbol, o.timeframe) for o in outcomes] == [(s, tf) for s in PAIRS for tf in ("1h", "4h", "1d")]
    with get_client(sync_client=True) as client:
        (artifact,) = client.read_artifacts(
            artifact_filter=ArtifactFilter(key=ArtifactFilterKey(any_=["materialize"])),
            sort=ArtifactSort.CREATED_DESC,
            limit=1,
        )
    table = json.loads(artifact.data)
    for row, outcome in zip(table, outcomes, strict=True):
        assert (row["symbol"], row["timeframe"]) == (outcome.symbol, outcome.timeframe)
        assert (row["bars"], row["stored"], row["quarantined"]) == (outcome.bars, outcome.bars, 0)
        assert row["published"] is True
        assert row["age_bars"] == outcome.age_bars > 0
        assert row["as_of"] == str(outcome.as_of)


def test_the_flow_without_names_takes_every_symbol_that_has_bars(
    make_bars: Make, take: Take, prefect_server: str, settings: Settings
) -> None:
    make_pairs(make_bars, take)
    assert {o.symbol for o in run.materialize(timeframes=["1h"])} == set(PAIRS)


def test_the_flow_names_a_symbol_that_was_asked_for_and_has_no_bars(
    make_bars: Make, take: Take, prefect_server: str
) -> None:
    take(make_bars(30))
    state = run.materialize(symbols=["GBP/USD", "EUR/USD"], timeframes=["1h"], return_state=True)
    outcomes = result_of(state)
    assert [(o.symbol, o.problem) for o in outcomes] == [
        ("EUR/USD", ""),
        ("GBP/USD", "no stored bars make 1h: ingest some first"),
    ]
    assert (state.type, state.name) == ("FAILED", "Stopped")


def test_the_flow_refuses_an_unknown_name_before_it_writes(
    make_bars: Make, take: Take, prefect_server: str, contents: Contents
) -> None:
    take(make_bars(30))
    before = contents()
    with pytest.raises(catalog.CatalogError, match="Did you mean EUR/USD"):
        run.materialize(symbols=["EUR/USD", "EUR/USB"])
    assert contents() == before


def test_a_shard_that_fails_leaves_the_other_shards(
    make_bars: Make, take: Take, prefect_server: str, read_online: ReadOnline, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("FSTORE_SHARD_SIZE", "1")
    make_pairs(make_bars, take)
    write = store.store_computed

    def full_disk(work: Any, computed: Any, **options: Any) -> datetime:
        if computed[0].job.symbol.name == "GBP/USD":
            raise OSError("No space left on device")
        return write(work, computed, **options)

    monkeypatch.setattr(store, "store_computed", full_disk)
    monkeypatch.setattr(run, "materialize_shard", run.materialize_shard.with_options(retries=0))
    outcomes = result_of(run.materialize(symbols=PAIRS, return_state=True))
    check_only(
        {(o.symbol, o.timeframe): o for o in outcomes}, read_online, "GBP/USD", "OSError: No space left on device"
    )
