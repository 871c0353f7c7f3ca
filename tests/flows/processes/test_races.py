"""Two processes at the same symbols, one of them stopped past its lease: no torn, doubled or older value."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from datetime import timedelta
from functools import partial
from typing import Any

import numpy as np
import pytest

from feature_repo.agreement import equal
from feature_repo.catalog import BAR_FIELDS, INDICATOR_FIELDS, VIEWS
from feature_repo.stores.redis.codec import entity_key, field_key
from feature_repo.stores.schemas import TableName
from flows.settings import Settings
from tests.flows.processes.worker import (
    LATER,
    MATERIALIZE,
    NOW,
    Saved,
    State,
    Worker,
    assert_same,
    do,
    state_of,
)

EURUSD = "EUR/USD"
LIKE_ANOTHER = ("before bars", "publish BTC/USD 4h", "publish EUR/USD 1h", "advanced")
"""Boundaries between which and the one before, or after, nothing happens that another process could see."""


@pytest.fixture(scope="module")
def after_newest(place: Settings, ingested: Saved) -> State:
    """What is left when yet another correction has come and all is computed."""
    ingested.restore(place)
    assert do("newest", place, NOW) == do("materialize", place, NOW) == []
    return state_of(place)


@pytest.fixture
def start(start: Any) -> Any:
    """Starts workers that wait at their boundary, and ends them."""
    return partial(start, dies=False)


def stopped_at(boundary: str, worker: Worker) -> Worker:
    """The worker, asleep (SIGSTOP) at the boundary that it reported."""
    assert worker.hear() == boundary
    worker.freeze()
    return worker


def assert_newest(actual: State, expected: State, place: Settings) -> None:
    """The newest values are those of undisturbed work, and no row says the same as the one that it revises.

    Whether what the stopped process had stored is beneath them depends on where it was stopped.
    """
    assert_same(replace(actual, revisions=expected.revisions), expected)
    names: tuple[TableName, ...] = ("bars", "indicators")
    for table in names:
        columns = [*(BAR_FIELDS if table == "bars" else INDICATOR_FIELDS)]
        rows = place.tables().read(table, columns=columns, all_revisions=True).to_pandas()
        same_bar = rows.duplicated(["symbol", "timeframe", "open_time"]).to_numpy()[1:]
        values = rows[columns].to_numpy(dtype=np.float64)
        assert not (same_bar & equal(values[1:], values[:-1]).all(axis=1)).any()
        assert actual.revisions[table] >= expected.revisions[table]


def views_of(state: State | Mapping[bytes, Mapping[bytes, Any]], project: str) -> dict[str, dict[bytes, bytes]]:
    """The values of each of a symbol's views, by the timeframe that is published in one step."""
    online = state.online if isinstance(state, State) else state
    stored = online[entity_key(EURUSD, project)]
    views: dict[str, dict[bytes, bytes]] = {}
    for view in VIEWS.values():
        fields = {field: stored[field] for name in view.fields if (field := field_key(view.name, name)) in stored}
        if fields:
            views.setdefault(view.timeframe.name, {}).update(fields)
    return views


# --------------------------------------------------------------------------------------------------- both awake


def test_two_that_start_at_once_do_each_symbol_once(
    place: Settings, ingested: Saved, undisturbed: State, start: Any
) -> None:
    ingested.restore(place)
    workers = [start("materialize"), start("materialize")]
    problems = [problem for _, reported in (worker.hear() for worker in workers) for problem in reported]
    assert all("is working on it" in problem for problem in problems)
    assert_same(state_of(place), undisturbed)


def test_who_comes_second_is_told_who_works(place: Settings, ingested: Saved, start: Any, undisturbed: State) -> None:
    ingested.restore(place)
    first = start("materialize", "store")
    assert first.hear() == "store"
    passed, problems = start("materialize").hear()
    assert passed == []
    assert len(problems) == 2
    assert all(f"(process {first.process.pid}) is working on it, until" in problem for problem in problems)
    assert first.resume()[1] == []
    assert_same(state_of(place), undisturbed)


# ---------------------------------------------------------------------------------------------- one is stopped


@pytest.mark.parametrize("boundary", [b for b in MATERIALIZE if b not in LIKE_ANOTHER])
def test_a_materialization_stopped_past_its_lease_at(
    boundary: str, place: Settings, ingested: Saved, after_newest: State, start: Any
) -> None:
    """Another one has taken a newer correction and done all the work by the time it wakes."""
    ingested.restore(place)
    sleeper = stopped_at(boundary, start("materialize", boundary))
    assert do("newest", place, LATER) == do("materialize", place, LATER + timedelta(minutes=2)) == []
    _, problems = sleeper.resume()
    assert_newest(state_of(place), after_newest, place)
    assert all("lease" in problem or "another run" in problem for problem in problems)
    assert bool(problems) == (boundary not in ("advanced", "end"))


@pytest.mark.parametrize("boundary", ["quarantine", "read", "store", "after bars"])
def test_an_ingestion_stopped_past_its_lease_at(
    boundary: str, place: Settings, ingested: Saved, after_newest: State, start: Any
) -> None:
    """It wakes with a download older than the one that has been stored and computed since."""
    ingested.restore(place)
    sleeper = stopped_at(boundary, start("rival EUR/USD", boundary))
    assert do("newest", place, LATER) == do("materialize", place, LATER + timedelta(minutes=2)) == []
    _, problems = sleeper.resume()
    assert_newest(state_of(place), after_newest, place)
    assert len(problems) == (boundary != "after bars")


def test_an_ingestion_meanwhile_is_never_published_with_indicators_of_before(
    place: Settings, ingested: Saved, undisturbed: State, start: Any, redis: Any
) -> None:
    """The sleeper has stored its indicators; the bars that it would read now have been corrected since."""
    ingested.restore(place)
    project = place.repo().project
    before = views_of(ingested.online, project)
    sleeper = stopped_at("publish", start("materialize", "publish"))
    assert do("newest", place, LATER) == []
    sleeper.resume()
    views = views_of({key: redis.hgetall(key) for key in redis.scan_iter("*")}, project)
    whole = views_of(undisturbed, project)
    assert all(views[timeframe] in (before[timeframe], whole[timeframe]) for timeframe in views)


def test_a_stopped_process_that_nobody_missed_goes_on(
    place: Settings, ingested: Saved, undisturbed: State, start: Any
) -> None:
    ingested.restore(place)
    sleeper = stopped_at("store", start("materialize", "store"))
    assert sleeper.resume()[1] == []
    assert_same(state_of(place), undisturbed)
