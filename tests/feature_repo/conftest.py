"""One embedded server and one applied feature repository per session; an emptied store and tables per test."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest

from feature_repo import catalog
from feature_repo.repo import Repo, load_repo
from feature_repo.stores.delta.tables import DeltaTables
from feature_repo.stores.redis.connection import connect
from feature_repo.stores.redis.embedded import ensure_server, stop_server
from feature_repo.stores.schemas import SCHEMAS, TIME, TableName


@pytest.fixture(scope="session")
def home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("home")


@pytest.fixture(scope="session")
def server_url(home: Path) -> Iterator[str]:
    yield ensure_server(home)
    stop_server(home)


@pytest.fixture
def redis(server_url: str) -> Iterator[Any]:
    """A client of the session's server, emptied."""
    with connect(server_url) as client:
        client.flushall()
        yield client


@pytest.fixture(scope="session")
def repo(home: Path, server_url: str) -> Repo:
    return load_repo(variables={"FSTORE_HOME": str(home), "FSTORE_REDIS_URL": server_url})


@pytest.fixture(scope="session")
def feature_store(repo: Repo) -> Any:
    """Feast on that repository, all objects applied."""
    from feature_repo import definitions as d

    store = repo.feature_store()
    store.apply([d.project, d.symbol, *d.sources.values(), *d.views.values(), *d.services.values()])
    store.refresh_registry()  # else what is cached shows them a minute later
    return store


@pytest.fixture
def tables(repo: Repo) -> Iterator[DeltaTables]:
    """The repository's offline tables, emptied."""
    shutil.rmtree(repo.offline, ignore_errors=True)
    yield DeltaTables(repo.offline)
    shutil.rmtree(repo.offline, ignore_errors=True)


@pytest.fixture(scope="session")
def make_rows() -> Callable[..., pa.Table]:
    return _make_rows


def _make_rows(
    table: TableName,
    symbol: str = "EUR/USD",
    timeframe: str = "1h",
    *,
    start: datetime = datetime(2024, 1, 1, tzinfo=UTC),
    n: int = 1,
    value: float = 0.0,
    created: datetime | None = None,
) -> pa.Table:
    """``n`` consecutive rows; field ``k`` of row ``i`` is ``value + i + k / 1000``, written 1 s after its close."""
    step = timedelta(seconds=catalog.timeframe(timeframe).seconds)
    opens = [start + i * step for i in range(n)]
    columns: dict[str, Any] = {
        "symbol": [symbol] * n,
        "timeframe": [timeframe] * n,
        "open_time": pa.array(opens, TIME),
        "event_timestamp": pa.array([o + step for o in opens], TIME),
        "created": pa.array([created or o + step + timedelta(seconds=1) for o in opens], TIME),
    }
    names = catalog.BAR_FIELDS if table == "bars" else catalog.INDICATOR_FIELDS
    for k, name in enumerate(names):
        columns[name] = value + np.arange(n) + k / 1000
    if table == "bars":
        columns |= {name: pa.nulls(n, pa.int32()) for name in ("source_bars", "expected_bars")}
    return pa.table(columns).select([name for name in SCHEMAS[table].names if name in columns])
