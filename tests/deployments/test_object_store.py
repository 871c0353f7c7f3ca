"""The tables in an object store, by URL, against a local server that speaks S3."""

from __future__ import annotations

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest
from deltalake import DeltaTable

from feature_repo import catalog
from feature_repo.home import REPO
from feature_repo.repo import FILE_VARIABLE, Repo, load_repo
from feature_repo.stores.delta.tables import DeltaTables
from feature_repo.stores.schemas import SCHEMAS, TIME

moto_server = pytest.importorskip("moto.server", reason="moto's S3 server is not installed")

BUCKET = "bars"
SECRET = "s3cret-key"  # noqa: S105
N = 24


@pytest.fixture(scope="module")
def endpoint() -> Iterator[str]:
    """An S3 server with one empty bucket."""
    import urllib.request

    server = moto_server.ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
    server.start()
    host, port = server.get_host_and_port()
    url = f"http://{host}:{port}"
    urllib.request.urlopen(urllib.request.Request(f"{url}/{BUCKET}", method="PUT"), timeout=30).close()  # noqa: S310
    yield url
    server.stop()


@pytest.fixture
def repo(endpoint: str, tmp_path: Path) -> Repo:
    """Production's repository, its tables in a folder of the bucket."""
    text = (REPO.parent / "deployments" / "feature_store.yaml").read_text()
    options = {"AWS_ENDPOINT_URL": endpoint, "AWS_ALLOW_HTTP": "true", "AWS_REGION": "us-east-1"}
    options |= {"AWS_ACCESS_KEY_ID": "key", "AWS_SECRET_ACCESS_KEY": SECRET}
    lines = ["", *(f"    {name}: '{value}'" for name, value in options.items())]
    file = tmp_path / "feature_store.yaml"
    place = "  path: ${FSTORE_OFFLINE}"
    file.write_text(text.replace(place, f"{place}\n  storage_options:" + "\n".join(lines)))
    return load_repo(
        variables={
            FILE_VARIABLE: str(file),
            "FSTORE_HOME": str(tmp_path),
            "FSTORE_OFFLINE": f"s3://{BUCKET}/{tmp_path.name}",
            "FSTORE_REDIS_URL": "redis://nobody.example",
            "FSTORE_REGISTRY_URL": f"sqlite:///{tmp_path}/registry.db",
        }
    )


def rows(symbol: str, value: float = 1.0) -> pa.Table:
    start, hour = datetime(2024, 1, 1, tzinfo=UTC), timedelta(hours=1)
    opens = [start + i * hour for i in range(N)]
    columns: dict[str, Any] = {
        "symbol": [symbol] * N,
        "timeframe": ["1h"] * N,
        "open_time": pa.array(opens, TIME),
        "event_timestamp": pa.array([moment + hour for moment in opens], TIME),
        "created": pa.array([moment + 2 * hour for moment in opens], TIME),
        **{name: [value] * N for name in catalog.BAR_FIELDS},
        **{name: pa.nulls(N, pa.int32()) for name in ("source_bars", "expected_bars")},
        "source": pa.nulls(N, pa.string()),
        "withdrawn": pa.nulls(N, pa.bool_()),
    }
    return pa.table({name: columns[name] for name in SCHEMAS["bars"].names if name != "month"})


def test_bars_are_kept_and_read_again(repo: Repo) -> None:
    tables = DeltaTables(repo.offline, repo.storage_options)
    tables.append("bars", rows("EUR/USD"))
    again = DeltaTables(repo.offline, repo.storage_options)
    assert again.read("bars", columns=["close"]).num_rows == N
    assert list(again.symbols()) == ["EUR/USD"]
    series = again.read_range("bars", timeframe="1h", symbol="EUR/USD", start=None, end=None, columns=["close"])
    assert series["close"].to_pylist() == [1.0] * N
    assert again.read("bars", symbols=["GBP/USD"]).num_rows == 0


def test_writers_at_once_lose_nothing(repo: Repo) -> None:
    DeltaTables(repo.offline, repo.storage_options).append("bars", rows("EUR/USD"))

    def write(symbol: str) -> None:
        DeltaTables(repo.offline, repo.storage_options).append("bars", rows(symbol))

    with ThreadPoolExecutor(4) as pool:
        list(pool.map(write, ["GBP/USD", "USD/JPY", "AUD/USD", "NZD/USD"]))
    table = DeltaTable(f"{repo.offline}/bars", storage_options=dict(repo.storage_options))
    assert table.to_pyarrow_dataset().count_rows() == 5 * N


def test_the_secret_is_not_shown(repo: Repo) -> None:
    assert SECRET not in repr(repo)
    wrong = DeltaTables(repo.offline.replace(BUCKET, "no-such-bucket"), repo.storage_options)
    with pytest.raises(Exception) as caught:  # noqa: PT011 - whatever it is, the secret is not in it
        wrong.append("bars", rows("EUR/USD"))
    assert SECRET not in f"{caught.value!r} {caught.value}"
