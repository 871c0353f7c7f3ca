"""A process that is killed at any moment: the next run makes good what it left, to the last bit."""

from __future__ import annotations

import random
import time
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest

from flows.settings import Settings
from tests.flows.processes.worker import (
    INGEST,
    LATER,
    MATERIALIZE,
    NOW,
    Saved,
    State,
    assert_same,
    do,
    state_of,
)

RANDOM_MOMENTS = 4


@pytest.fixture(scope="module")
def clean_s(place: Settings, ingested: Saved) -> float:
    """How long a run takes that is not killed."""
    ingested.restore(place)
    started = time.monotonic()
    assert do("materialize", place, NOW) == []
    return time.monotonic() - started


def test_the_boundaries_are_all_that_a_run_passes(place: Settings, published: Saved, start: Any) -> None:
    """Else a stage that is new would not be tested."""
    published.restore(place)
    passed, problems = start("all").hear()
    assert (tuple(passed), problems) == (("quarantine", *INGEST[3:], *INGEST), [])  # of one symbol, then of the other
    passed, problems = start("materialize").hear()
    assert (tuple(passed), problems) == (MATERIALIZE, [])


@pytest.mark.parametrize("boundary", MATERIALIZE)
def test_a_materialization_killed_at(
    boundary: str, place: Settings, ingested: Saved, undisturbed: State, start: Any
) -> None:
    ingested.restore(place)
    assert start("materialize", boundary).killed()
    assert do("materialize", place, LATER) == []
    assert_same(state_of(place), undisturbed)


@pytest.mark.parametrize("boundary", ["read", "before bars", "after bars", "before quarantine", "after quarantine"])
def test_an_ingestion_killed_at(
    boundary: str, place: Settings, published: Saved, undisturbed: State, start: Any
) -> None:
    published.restore(place)
    assert start("all", boundary).killed()
    assert do("all", place, LATER) == do("materialize", place, LATER) == []
    assert_same(state_of(place), undisturbed)


def test_a_first_run_killed_when_it_has_stored_its_bars(
    place: Settings, published: Saved, folder: Path, start: Any
) -> None:
    """Nothing is known of any symbol yet: no watermark, no indicators table."""
    published.restore(place)
    expected = state_of(place)
    nothing = Saved(home=folder / "nothing", online={})
    nothing.home.mkdir()
    nothing.restore(place)
    assert do("first", place, NOW - timedelta(hours=2)) == []
    assert start("materialize", "after bars").killed()
    assert do("materialize", place, LATER) == []
    assert_same(state_of(place), expected)


def test_a_run_killed_again_and_again_comes_to_its_end(
    place: Settings, ingested: Saved, undisturbed: State, start: Any
) -> None:
    ingested.restore(place)
    boundaries = ("before indicators", "after indicators", "publish EUR/USD 4h", "note")
    for n, boundary in enumerate(boundaries):  # each when the lease of the one before has run out
        assert start("materialize", boundary, now=NOW + n * (LATER - NOW)).killed()
    assert do("materialize", place, NOW + len(boundaries) * (LATER - NOW)) == []
    assert_same(state_of(place), undisturbed)


@pytest.mark.parametrize("seed", range(RANDOM_MOMENTS))
def test_a_run_killed_at_a_random_moment(
    seed: int, place: Settings, ingested: Saved, undisturbed: State, clean_s: float, start: Any
) -> None:
    """Also in the midst of a commit, of a publish or of a transaction of the ledger."""
    ingested.restore(place)
    worker = start("materialize", "read", dies=False)
    assert worker.hear() == "read"
    worker.die_after(random.Random(seed).uniform(0, clean_s))
    assert do("materialize", place, LATER) == []
    assert_same(state_of(place), undisturbed)
