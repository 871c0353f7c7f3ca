"""On a stock Prefect server: what is deployed runs on schedule, its reports are there, and a heap of late runs is one.

A server and a worker of their own, as a user starts them; the worker elsewhere, and the project a copy of its own, so
that nothing works only because of where it was started.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import httpx
import pytest

from feature_repo.home import REPO
from flows.settings import Settings
from tests.flows.processes import worker
from tests.flows.stack.test_stack import free_port

WITHIN_S = 150.0
HEAP = 4


@pytest.fixture(scope="module")
def project(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The project as a fresh clone has it, without the file that marks it installed."""
    folder = tmp_path_factory.mktemp("clone") / "project"
    folder.mkdir()
    for part in ("feature_repo", "flows", "fsclient", "deployments"):
        shutil.copytree(REPO.parent / part, folder / part, ignore=shutil.ignore_patterns("__pycache__", "secrets"))
    return folder


@pytest.fixture(scope="module")
def settings(tmp_path_factory: pytest.TempPathFactory, server_url: str) -> Settings:
    """Two symbols' bars, one of them with a row that no gate lets pass."""
    settings = Settings(home=tmp_path_factory.mktemp("deployed") / "home", redis_url=server_url)
    assert worker.do("first", settings, worker.NOW) == []
    return settings


@pytest.fixture(scope="module")
def environ(settings: Settings, tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    inherited = {name: value for name, value in os.environ.items() if not name.startswith("PREFECT_")}
    return inherited | {
        "FSTORE_HOME": str(settings.home),
        "FSTORE_REDIS_URL": settings.redis_url,
        "PREFECT_HOME": str(tmp_path_factory.mktemp("prefect")),
        "PREFECT_API_URL": f"http://127.0.0.1:{free_port()}/api",
        "PREFECT_SERVER_ANALYTICS_ENABLED": "false",
        "PREFECT_WORKER_QUERY_SECONDS": "1",
        "DO_NOT_TRACK": "1",
    }


def prefect(*arguments: str) -> list[str]:
    return [sys.executable, "-m", "prefect", "--no-prompt", *arguments]


@pytest.fixture(scope="module")
def api(environ: dict[str, str], project: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[httpx.Client]:
    """The server with all that is deployed. Every schedule is paused, so that only what a test asks for runs."""
    url, log = environ["PREFECT_API_URL"], tmp_path_factory.mktemp("logs") / "server.log"
    port = url.rpartition(":")[2].removesuffix("/api")
    with log.open("wb") as out:
        server = subprocess.Popen(prefect("server", "start", "--port", port), env=environ, stdout=out, stderr=out)
    try:
        with httpx.Client(base_url=url, timeout=60) as client:
            wait_for(lambda: answers(client), "the server does not start", server)
            run(prefect("work-pool", "create", "fstore", "--type", "process"), environ, project)
            run(prefect("deploy", "--all", "--prefect-file", "deployments/prefect.yaml"), environ, project)
            run(prefect("automation", "create", "--from-file", "deployments/automations/runs.yaml"), environ, project)
            for deployment in client.post("/deployments/filter", json={}).json():
                client.post(f"/deployments/{deployment['id']}/pause_deployment").raise_for_status()
            yield client
    finally:
        server.terminate()
        server.wait(60)


def answers(client: httpx.Client) -> bool:
    try:
        return client.get("/health").is_success
    except httpx.TransportError:
        return False


def run(command: list[str], environ: dict[str, str], folder: Path) -> None:
    ended = subprocess.run(command, env=environ, cwd=folder, capture_output=True, text=True, timeout=300)
    assert ended.returncode == 0, ended.stdout + ended.stderr


def wait_for(condition: Callable[[], Any], what: str, process: subprocess.Popen[bytes] | None = None) -> Any:
    deadline = time.monotonic() + WITHIN_S
    while not (result := condition()):
        assert process is None or process.poll() is None, what
        assert time.monotonic() < deadline, what
        time.sleep(0.2)
    return result


@pytest.fixture
def working(api: httpx.Client, environ: dict[str, str], tmp_path: Path) -> Iterator[Callable[[], None]]:
    """Starts a worker, in a folder that has nothing to do with the project."""
    started: list[subprocess.Popen[bytes]] = []

    def start() -> None:
        with (tmp_path / "worker.log").open("wb") as out:
            command = prefect("worker", "start", "--pool", "fstore")
            started.append(subprocess.Popen(command, env=environ, cwd=tmp_path, stdout=out, stderr=out))

    yield start
    for worker_process in started:
        worker_process.terminate()
        worker_process.wait(60)


def schedule(api: httpx.Client, deployment: str, when: datetime) -> str:
    """A run of a deployment as its schedule makes it; its id."""
    record = api.get(f"/deployments/name/{deployment}").raise_for_status().json()
    state = {"type": "SCHEDULED", "state_details": {"scheduled_time": when.isoformat()}}
    flow_run = api.post(f"/deployments/{record['id']}/create_flow_run", json={"state": state}).raise_for_status().json()
    return str(flow_run["id"])


def ended(api: httpx.Client, run: str) -> dict[str, Any] | None:
    flow_run: dict[str, Any] = api.get(f"/flow_runs/{run}").json()
    state = (flow_run.get("state") or {}).get("type")
    return flow_run if state in ("COMPLETED", "FAILED", "CRASHED", "CANCELLED") else None


@pytest.mark.timeout(600)
def test_a_late_heap_is_one_run_that_does_all_and_reports(
    api: httpx.Client, working: Callable[[], None], settings: Settings
) -> None:
    now = datetime.now(UTC)
    heap = [schedule(api, "materialize/materialize-1h", now - timedelta(hours=i)) for i in range(HEAP)]
    working()
    runs = [wait_for(lambda flow_run=flow_run: ended(api, flow_run), "a run does not end") for flow_run in heap]
    names = sorted(flow_run["state"]["name"] for flow_run in runs)
    assert names.count("Completed") >= 1
    assert set(names) <= {"Completed", "Cancelled"}, [flow_run["state"] for flow_run in runs]
    assert names.count("Cancelled") >= 1, "late runs are not one"

    done = next(flow_run for flow_run in runs if flow_run["state"]["name"] == "Completed")
    assert done["name"].startswith("materialize 1h BTC/USD +1 2024-")
    artifacts = {a["key"]: a for a in api.post("/artifacts/latest/filter", json={}).json()}
    assert {"materialize", "freshness"} <= set(artifacts)
    (row,) = json.loads(artifacts["freshness"]["data"])
    assert row["symbol"] == "EUR/USD"  # BTC/USD has bars of 4h only
    assert row["1h"].endswith(" stale")
    query = {"event": {"prefix": ["prefect.asset.materialization.succeeded"]}}
    events = wait_for(
        lambda: api.post("/events/filter", json={"filter": query}).json()["events"], "no asset was materialized"
    )
    assets = {event["resource"]["prefect.resource.id"] for event in events}
    assert assets == {f"fstore://views/{kind}_1h" for kind in ("ohlcv", "indicators", "window")}
    assert any(r["prefect.resource.id"] == "fstore://tables/bars" for r in events[0]["related"])
    state = worker.state_of(settings)
    assert not [tf for _, tf in state.to_do if tf == "1h"]


@pytest.mark.timeout(600)
def test_a_run_that_stops_a_symbol_is_not_green_and_is_told(api: httpx.Client, working: Callable[[], None]) -> None:
    record = api.get("/deployments/name/ingest/ingest").raise_for_status().json()
    parameters = {"source": "/nowhere/{symbol}.csv", "symbols": ["EUR/USD"], "timeframe": "1h"}
    created = (
        api.post(f"/deployments/{record['id']}/create_flow_run", json={"parameters": parameters})
        .raise_for_status()
        .json()
    )
    working()
    run = wait_for(lambda: ended(api, created["id"]), "the run does not end")
    assert (run["state"]["type"], run["state"]["name"]) == ("FAILED", "Stopped")
    assert "/nowhere/EURUSD.csv" in run["state"]["message"]

    query = {"flows": {"name": {"any_": ["notify"]}}}
    title = "fstore: ingest Stopped: ingest 1h EUR/USD"

    def notification() -> str | None:
        runs = api.post("/flow_runs/filter", json=query).json()
        return next((flow_run["id"] for flow_run in runs if flow_run["parameters"]["title"].startswith(title)), None)

    message = wait_for(notification, "nobody was told")
    assert wait_for(lambda: ended(api, message), "it is not passed on")["state"]["name"] == "Completed"


def test_a_parameter_that_is_none_is_refused_by_the_form(api: httpx.Client) -> None:
    record = api.get("/deployments/name/materialize/materialize-1h").raise_for_status().json()
    answer = api.post(f"/deployments/{record['id']}/create_flow_run", json={"parameters": {"timeframes": ["2h"]}})
    assert answer.status_code == 409
    assert "2h" in answer.text
