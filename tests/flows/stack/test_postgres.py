"""A Prefect server on PostgreSQL, as in production, that our own flow runs on."""

from __future__ import annotations

import json
import os
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest
from sqlalchemy import create_engine, make_url, text

from feature_repo.stores.redis.embedded import stop_server
from flows.stack.processes import Child
from flows.stack.services import PROJECT, prefect_server
from tests.postgres import new_database, postgres_url  # noqa: F401 - a fixture

DEADLINE_S = 120.0
# Two commands in one process: Feast and Prefect take seconds to load.
COMMANDS = """
import sys
from flows.cli import app

app(["ingest", sys.argv[1], "--symbol", "GBP/USD", "--timeframe", "1h"], standalone_mode=False)
app(["materialize", "--symbol", "GBP/USD", "--json"], standalone_mode=False)
"""
BARS = """time,open,high,low,close,volume
2024-01-08 09:00,1.2701,1.2719,1.2696,1.2712,5120
2024-01-08 10:00,1.2712,1.2721,1.2704,1.2709,4870
2024-01-08 11:00,1.2709,1.2714,1.2688,1.2693,5033
"""


@pytest.fixture(scope="module")
def database(postgres_url: str) -> str:  # noqa: F811
    return new_database(postgres_url)


@pytest.fixture(scope="module")
def api_url(database: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """A server's, on that database."""
    folder = tmp_path_factory.mktemp("prefect")
    with socket.create_server(("127.0.0.1", 0)) as probe:
        port = probe.getsockname()[1]
    url = make_url(database).set(drivername="postgresql+asyncpg").render_as_string(hide_password=False)
    environ = {**os.environ, "PREFECT_HOME": str(folder), "PREFECT_API_DATABASE_CONNECTION_URL": url}
    service = prefect_server("127.0.0.1", port)
    child = Child("prefect", service.command, log=folder / "log", environ=environ, folder=PROJECT)
    deadline = time.monotonic() + DEADLINE_S
    try:
        while not service.is_ready():
            assert child.exit_code() is None, (folder / "log").read_text()
            assert time.monotonic() < deadline, (folder / "log").read_text()
            time.sleep(0.1)
        yield f"http://127.0.0.1:{port}/api"
    finally:
        child.stop()
    assert not (folder / "prefect.db").exists()


def test_our_flow_runs_on_it(api_url: str, database: str, tmp_path: Path) -> None:
    home = tmp_path / "home"
    environ = {**os.environ, "FSTORE_HOME": str(home), "PREFECT_HOME": str(home / "prefect")}
    environ |= {"PREFECT_API_URL": api_url}
    bars = tmp_path / "bars.csv"
    bars.write_text(BARS)

    try:
        done = subprocess.run(
            [sys.executable, "-c", COMMANDS, str(bars)], env=environ, capture_output=True, text=True, timeout=DEADLINE_S
        )
    finally:
        stop_server(home)
    assert done.returncode == 0, done.stdout + done.stderr
    outcomes = json.loads("[" + done.stdout.partition("\n[")[2])
    assert {outcome["timeframe"]: outcome["published"] for outcome in outcomes}["1h"]
    runs = httpx.post(f"{api_url}/flow_runs/filter", json={}).json()
    assert [run["state"]["type"] for run in runs] == ["COMPLETED"]
    engine = create_engine(database)
    with engine.connect() as connection:
        flow_runs = connection.execute(text("select count(*) from flow_run")).scalar_one()
    engine.dispose()
    assert flow_runs == 1
