"""The real stack, with its own Prefect server: up, used, hurt, down; nothing stays. One server for all of it."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import httpx
import psutil
import pytest

from feature_repo.stores.redis.embedded import running_server
from flows.settings import Settings
from flows.stack import State, running_api, running_state, stack_lines, stop_stack
from flows.stack.schedules import pause_schedules, resume_schedules

DEADLINE_S = 100.0

TICK = """
import os, time
from pathlib import Path
from prefect import flow

@flow
def tick(seconds: float = 0.0):
    with (Path(os.environ["FSTORE_HOME"]) / "ticks").open("a") as file:
        file.write(f"{os.getpid()}\\n")
    time.sleep(seconds)
"""
DEPLOYMENTS = """
deployments:
  - {name: often, entrypoint: "tick.py:tick", work_pool: {name: fstore}, schedules: [{interval: 600}]}
  - {name: asleep, entrypoint: "tick.py:tick", work_pool: {name: fstore}, parameters: {seconds: 600}, paused: true}
"""
# The command, on a project of the test's own. The server looks for due runs often, so that no test waits for it.
UP = """
import signal, sys, threading
from pathlib import Path
from flows.settings import Settings
from flows.stack import Plan, StackError, Supervisor

home, port, api_url, project = sys.argv[1:]
stop = threading.Event()
for number in (signal.SIGINT, signal.SIGTERM):
    signal.signal(number, lambda *_: stop.set())
plan = Plan(prefect_port=int(port), dashboard_port=None, api_url=api_url,
            project=Path(project), prefect_file=Path(project, "prefect.yaml"))
try:
    ran = Supervisor(Settings(home=Path(home)), plan, stop=stop, on_step=print).run(lambda: print("ready"))
except StackError as error:
    sys.exit(str(error))
print("ran" if ran else "runs already")
"""


def free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as probe:
        return int(probe.getsockname()[1])


def wait_for(condition: Callable[[], Any], what: str) -> Any:
    deadline = time.monotonic() + DEADLINE_S
    while not (result := condition()):
        assert time.monotonic() < deadline, what
        time.sleep(0.05)
    return result


def start(home: Path, port: int, project: Path, api_url: str = "") -> subprocess.Popen[str]:
    environ = {name: value for name, value in os.environ.items() if name not in ("PREFECT_HOME", "FSTORE_HOME")}
    environ |= {"PREFECT_WORKER_QUERY_SECONDS": "1", "PREFECT_LOGGING_LEVEL": "WARNING"}
    command = [sys.executable, "-c", UP, str(home), str(port), api_url, str(project)]
    return subprocess.Popen(command, env=environ, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)


def await_ready(process: subprocess.Popen[str], settings: Settings) -> State:
    def ready() -> State | None:
        assert process.poll() is None, process.stdout and process.stdout.read()
        state = running_state(settings)
        return state if state and state.ready else None

    ready_state: State = wait_for(ready, "the stack does not come up")
    return ready_state


def owned_by(home: Path) -> list[str]:
    """The command lines of all processes that have ``home`` in their environment or command."""
    commands = []
    for process in psutil.process_iter():
        try:
            command = " ".join(process.cmdline())
            if process.pid != os.getpid() and (
                str(home) in command or process.environ().get("FSTORE_HOME") == str(home)
            ):
                commands.append(command)
        except psutil.Error:
            continue
    return commands


@pytest.fixture(scope="module")
def project(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("project")
    (folder / "tick.py").write_text(TICK)
    (folder / "prefect.yaml").write_text(DEPLOYMENTS)
    return folder


@pytest.fixture(scope="module")
def settings(tmp_path_factory: pytest.TempPathFactory) -> Settings:
    return Settings(home=tmp_path_factory.mktemp("stack") / "home")


@pytest.fixture(scope="module")
def port() -> int:
    return free_port()


@pytest.fixture(scope="module")
def up(settings: Settings, port: int, project: Path) -> Iterator[subprocess.Popen[str]]:
    """The stack, up. Whatever a test does to it, it is down in the end."""
    process = start(settings.home, port, project)
    try:
        await_ready(process, settings)
        yield process
    finally:
        process.terminate()
        process.communicate(timeout=DEADLINE_S)
        assert owned_by(settings.home) == []


@pytest.fixture(scope="module")
def api(up: subprocess.Popen[str], port: int) -> Iterator[httpx.Client]:
    with httpx.Client(base_url=f"http://127.0.0.1:{port}/api") as client:
        yield client


def post(api: httpx.Client, path: str) -> Any:
    """Asks until the server, whose SQLite is busy now and then, takes it."""

    def answer() -> httpx.Response | None:
        answered = api.post(path, json={})
        return None if answered.status_code == 503 else answered.raise_for_status()

    return wait_for(answer, path)


def deployment(api: httpx.Client, name: str) -> dict[str, Any]:
    record: dict[str, Any] = api.get(f"/deployments/name/tick/{name}").raise_for_status().json()
    return record


def test_it_shows_where_everything_is(up: subprocess.Popen[str], api: httpx.Client, settings: Settings) -> None:
    reported = dict(stack_lines(settings))
    assert reported["stack"] == f"up, process {up.pid}; stop it with fstore down"
    assert reported["prefect"] == str(api.base_url).removesuffix("/api/")
    assert reported["scheduled"] == "often"
    assert reported["redis"] == f"embedded, {running_server(settings.home)}"
    assert running_api(settings) == str(api.base_url).rstrip("/")
    page = httpx.get(reported["prefect"], follow_redirects=True)
    assert page.status_code == 200
    assert "<html" in page.text


def test_a_run_that_is_asked_for_is_run(api: httpx.Client, settings: Settings) -> None:
    run = post(api, f"/deployments/{deployment(api, 'often')['id']}/create_flow_run").json()

    def ended() -> bool:
        answered = api.get(f"/flow_runs/{run['id']}")
        if answered.status_code == 503:
            return False
        state = answered.json()["state"]
        assert state["type"] not in ("FAILED", "CRASHED"), state
        return bool(state["type"] == "COMPLETED")

    wait_for(ended, "the run does not end")
    assert (settings.home / "ticks").exists()


def test_a_second_up_finds_the_first(up: subprocess.Popen[str], settings: Settings, project: Path) -> None:
    second = start(settings.home, free_port(), project)
    out, _ = second.communicate(timeout=DEADLINE_S)
    assert (second.returncode, out) == (0, "runs already\n")
    assert up.poll() is None


def test_a_taken_port_is_named_and_nothing_stays(
    up: subprocess.Popen[str], port: int, project: Path, tmp_path: Path
) -> None:
    other = start(tmp_path / "home", port, project)
    out, _ = other.communicate(timeout=DEADLINE_S)
    assert other.returncode == 1
    assert f"port {port} is in use" in out
    assert f"fstore up --port {port + 1}" in out
    assert owned_by(tmp_path / "home") == []


def worker_of(settings: Settings) -> psutil.Process | None:
    state = running_state(settings)
    guard = state and state.children["worker"].process()
    return next(iter(guard.children()), None) if guard else None


def test_a_worker_that_dies_is_started_again(up: subprocess.Popen[str], settings: Settings) -> None:
    first = worker_of(settings)
    assert first
    first.kill()
    wait_for(lambda: (now := worker_of(settings)) and now.pid != first.pid, "no other worker")
    assert up.poll() is None


def test_schedules_that_a_user_paused_stay_paused(api: httpx.Client, settings: Settings) -> None:
    url, home = str(api.base_url).rstrip("/"), settings.home
    assert pause_schedules(url, home) == ("often",)
    assert deployment(api, "often")["paused"]
    assert pause_schedules(url, home) == ()  # twice does no harm
    assert resume_schedules(url, home) == ("often",)
    assert not deployment(api, "often")["paused"]
    assert deployment(api, "asleep")["paused"]


def test_a_killed_supervisor_takes_a_running_flow_along_and_down_pauses(
    api: httpx.Client, settings: Settings, project: Path, tmp_path: Path
) -> None:
    other, first = Settings(home=tmp_path / "home"), worker_of(settings)
    assert first
    first.suspend()  # else it might take the run
    process = start(other.home, 1, project, str(api.base_url).rstrip("/"))
    try:
        await_ready(process, other)
        asleep = deployment(api, "asleep")["id"]
        post(api, f"/deployments/{asleep}/resume_deployment")
        post(api, f"/deployments/{asleep}/create_flow_run")
        wait_for((other.home / "ticks").exists, "no run began in this stack")
        assert len(owned_by(other.home)) > 3
    finally:
        first.resume()
        process.kill()
        process.communicate(timeout=DEADLINE_S)
    assert stop_stack(other)
    wait_for(lambda: not owned_by(other.home), "something stays")
    assert deployment(api, "often")["paused"]
    assert not stop_stack(other)


def test_down_ends_all(up: subprocess.Popen[str], api: httpx.Client, settings: Settings, port: int) -> None:
    assert stop_stack(settings)
    up.wait(DEADLINE_S)
    assert up.returncode == 0
    assert owned_by(settings.home) == []
    assert running_server(settings.home) is None
    assert dict(stack_lines(settings)) == {"stack": "down; start it with fstore up"}
    with socket.create_server(("127.0.0.1", port)):
        pass
