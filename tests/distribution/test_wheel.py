"""The wheel in empty environments, outside of the project: the client alone, the flows, the service."""

from __future__ import annotations

import json
import socket
import subprocess
import zipfile
from collections.abc import Callable
from pathlib import Path

import httpx
import pytest

from tests.distribution.conftest import ROOT, Environment
from tests.distribution.test_pyproject import BANNED

pytestmark = [pytest.mark.drill, pytest.mark.timeout(900), pytest.mark.xdist_group("wheel")]

BARS = """time,open,high,low,close,volume
2024-01-08 09:00,1.2701,1.2719,1.2696,1.2712,5120
2024-01-08 10:00,1.2712,1.2721,1.2704,1.2709,4870
2024-01-08 11:00,1.2709,1.2714,1.2688,1.2693,5033
2024-01-08 12:00,1.2693,1.2706,1.2690,1.2702,4421
2024-01-08 13:00,1.2702,1.2731,1.2700,1.2726,6917
"""
LOOKUP = """
import sys
from fsclient import SyncFeatureStoreClient

with SyncFeatureStoreClient(**({"url": sys.argv[1]} if sys.argv[1:] else {})) as client:
    frame = client.get_latest(["GBP/USD"], ["close", "sma_5"], timeframe="1h")
    past = client.get_indicators("GBP/USD", "2024-01-08", "2024-01-08", "1h", ["sma_5"])
print(frame["close"].iloc[0], round(float(frame["sma_5"].iloc[0]), 6), len(past))
print(*sorted({name.partition(".")[0] for name in sys.modules}))
"""


@pytest.fixture(scope="module")
def home(environment: Callable[[str], Environment], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A small home that the flows of the wheel have filled."""
    flows, folder = environment("flows"), tmp_path_factory.mktemp("home")
    (flows.workspace / "gbpusd.csv").write_text(BARS)
    for command in (
        ("ingest", "gbpusd.csv", "--symbol", "GBP/USD", "--timeframe", "1h"),
        ("materialize", "--symbol", "GBP/USD"),
    ):
        ended = flows.run("fstore", *command, FSTORE_HOME=str(folder))
        assert ended.returncode == 0, ended.stdout + ended.stderr
    return folder


def test_every_file_of_the_packages_is_in_the_wheel(wheel: Path) -> None:
    packages = ("feature_repo", "fsclient", "flows")
    files = {
        str(path.relative_to(ROOT))
        for package in packages
        for path in (ROOT / package).rglob("*")
        if path.is_file() and "__pycache__" not in path.parts
    }
    inside = {name for name in zipfile.ZipFile(wheel).namelist() if name.partition("/")[0] in packages}
    assert inside == files
    assert {"feature_repo/feature_store.yaml", "flows/deployed/prefect.yaml", "fsclient/py.typed"} <= inside
    assert any(name.startswith("fsclient/dashboard/assets/") for name in inside)


def test_without_an_extra_only_the_client_is_installed(environment: Callable[[str], Environment]) -> None:
    assert environment("").packages() & BANNED == set()


def test_without_an_extra_the_command_names_the_one_it_needs(environment: Callable[[str], Environment]) -> None:
    ended = environment("").run("fstore", "latest", "GBP/USD")
    assert ended.returncode == 2
    assert ended.stdout == ""
    assert ended.stderr == "error  typer is not installed; the extra flows brings it: pip install 'fstore[flows]'\n"


def test_the_client_alone_looks_up_what_the_flows_stored(environment: Callable[[str], Environment], home: Path) -> None:
    ended = environment("").run("python", "-c", LOOKUP, FSTORE_HOME=str(home))
    assert ended.returncode == 0, ended.stderr
    answer, modules = ended.stdout.splitlines()
    assert answer == "1.2726 1.27084 5"
    assert set(modules.replace("_", "-").split()) & BANNED == set()


def test_the_flows_run_outside_of_the_project(environment: Callable[[str], Environment], home: Path) -> None:
    flows = environment("flows")
    version = flows.run("fstore", "--version")
    assert version.stdout.startswith("fstore ")
    latest = flows.run("fstore", "latest", "GBP/USD", "--timeframe", "1h", "--features", "close,sma_5", "--json",
                       FSTORE_HOME=str(home))  # fmt: skip
    assert latest.returncode == 0, latest.stderr
    assert "1.2726" in latest.stdout


def test_an_installed_wheel_keeps_its_files_in_the_users_home(environment: Callable[[str], Environment]) -> None:
    flows = environment("flows")
    status = flows.run("fstore", "status", "--json")
    assert status.returncode == 0, status.stderr
    assert json.loads(status.stdout)["home"] == str(flows.workspace / ".fstore")


def test_the_dashboard_without_its_extra_is_refused(environment: Callable[[str], Environment], home: Path) -> None:
    ended = environment("flows").run("fstore", "dashboard", "--port", "0", FSTORE_HOME=str(home))
    assert ended.returncode == 2
    assert ended.stderr.count("\n") == 1
    assert "pip install 'fstore[dashboard]'" in ended.stderr


def test_the_stack_deploys_the_platforms_flows(environment: Callable[[str], Environment], tmp_path: Path) -> None:
    dashboard, home = environment("dashboard"), str(tmp_path / "home")
    page = free_port()
    ports = ("--port", str(free_port()), "--dashboard-port", str(page))
    try:
        up = dashboard.run("fstore", "up", "--detach", *ports, FSTORE_HOME=home)
        assert up.returncode == 0, up.stderr
        status = json.loads(dashboard.run("fstore", "status", "--json", FSTORE_HOME=home).stdout)
        assert {"materialize-1h", "verify", "alerts"} <= set(status["stack"]["scheduled"].split(", "))
        assert httpx.get(f"http://127.0.0.1:{page}", timeout=30).status_code == 200
    finally:
        down = dashboard.run("fstore", "down", FSTORE_HOME=home)
    assert down.returncode == 0, down.stderr


def test_the_service_answers_a_client_without_the_flows(environment: Callable[[str], Environment], home: Path) -> None:
    service = environment("service")
    assert {"prefect", "feast", "great-expectations", "dash"} & service.packages() == set()
    program = str(service.folder / "bin" / "fstore")
    environ = {"HOME": str(service.workspace), "PATH": "/usr/bin:/bin", "FSTORE_HOME": str(home), "COLUMNS": "200"}
    with subprocess.Popen([program, "serve", "--port", "0"], env=environ, stderr=subprocess.PIPE, text=True) as process:
        try:
            assert process.stderr
            first = process.stderr.readline()
            address = next(word for word in first.split() if word.startswith("http"))
            ended = environment("").run("python", "-c", LOOKUP, address)
            assert ended.stdout.splitlines()[:1] == ["1.2726 1.27084 5"], ended.stderr
        finally:
            process.terminate()


def free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as probe:
        return int(probe.getsockname()[1])
