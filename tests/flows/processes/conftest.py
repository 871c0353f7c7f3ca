"""A home with work to do, to which each test goes back, and processes that do it."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from flows.settings import Settings
from tests.flows.processes.worker import NOW, Saved, State, Worker, begin_with_first, do, state_of

Start = Callable[..., Worker]


@pytest.fixture(scope="module")
def place(server_url: str, tmp_path_factory: pytest.TempPathFactory) -> Settings:
    return Settings(home=tmp_path_factory.mktemp("processes") / "home", redis_url=server_url)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("saved")


@pytest.fixture(scope="module")
def published(place: Settings, folder: Path) -> Saved:
    """A home whose first bars are computed and online."""
    return begin_with_first(place, folder / "published")


@pytest.fixture(scope="module")
def ingested(place: Settings, folder: Path, published: Saved) -> Saved:
    """The same with more bars, a corrected and a rejected one, which no run has looked at yet."""
    published.restore(place)
    assert do("all", place, NOW - timedelta(hours=1)) == []
    return Saved.of(place, folder / "ingested")


@pytest.fixture(scope="module")
def undisturbed(place: Settings, ingested: Saved) -> State:
    """What a run leaves that nothing kills and nothing else runs beside."""
    ingested.restore(place)
    assert do("materialize", place, NOW) == []
    return state_of(place)


@pytest.fixture
def start(redis: Any, place: Settings) -> Iterator[Start]:
    """Starts workers, and ends them."""
    workers: list[Worker] = []

    def begin(job: str, halt: str | None = None, *, now: datetime = NOW, dies: bool = True) -> Worker:
        workers.append(Worker(job, place, now=now, halt=halt, dies=dies))
        return workers[-1]

    yield begin
    for worker in workers:
        worker.end()
