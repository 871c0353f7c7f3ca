"""Every ledger test runs on SQLite, and on PostgreSQL where it is installed."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

import pytest

from flows.ledger import Ledger
from tests.postgres import new_database, postgres_url  # noqa: F401 - a fixture

NOW = datetime(2024, 6, 3, 12, 0, tzinfo=UTC)
NOW_US = 1_717_416_000_000_000

OpenLedger = Callable[..., Ledger]


@dataclass(slots=True)
class Clock:
    """A clock that stands still until it is set; seconds since 1970."""

    at: float = NOW.timestamp()

    def __call__(self) -> float:
        return self.at


@pytest.fixture(params=["sqlite", "postgresql"])
def url(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    """A database that does not exist yet (SQLite), or is empty."""
    if request.param == "sqlite":
        return f"sqlite:///{tmp_path}/ledger.db"
    return new_database(request.getfixturevalue("postgres_url"))


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def open_ledger(url: str) -> Iterator[OpenLedger]:
    """Opens the test's database as another process would, as often as asked."""
    opened: list[Ledger] = []

    def open_(now: Callable[[], float] = time.time) -> Ledger:
        opened.append(Ledger(url, now=now))
        return opened[-1]

    yield open_
    for ledger in opened:
        ledger.close()


@pytest.fixture
def ledger(open_ledger: OpenLedger, clock: Clock) -> Ledger:
    """A ledger on the clock that stands still."""
    return open_ledger(clock)
