"""The same run on threads, on processes and on a Dask cluster of processes: the same tables to the last bit.

One Dask worker is killed in the middle of its shard: the cluster hands the shard to the other worker, which takes over
the lease of the dead attempt.
"""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import psutil
import pytest

from feature_repo.home import REPO
from flows.engine.runner import task_runner
from flows.materialize import flow as batch
from flows.runs.outcome import Outcome
from flows.settings import Settings, SettingsError, load_settings
from tests.flows.processes import worker
from tests.flows.processes.worker import State, assert_same

SYMBOLS = list(worker.NAMES)
FRAMES = list(worker.FRAMES)
WITHIN_S = 120.0


@pytest.fixture(scope="module")
def bars(tmp_path_factory: pytest.TempPathFactory, server_url: str) -> Path:
    """A home with the bars of two symbols, ingested and not yet materialized."""
    home = tmp_path_factory.mktemp("ingested") / "home"
    settings = Settings(home=home, redis_url=server_url)
    assert worker.do("first", settings, worker.NOW) == []
    return home


@pytest.fixture
def settings(bars: Path, tmp_path: Path, server_url: str, redis: Any, monkeypatch: pytest.MonkeyPatch) -> Settings:
    """A copy of that home, a symbol a task, and nothing online; tasks in other processes find it in the environment."""
    shutil.copytree(bars, tmp_path / "home")
    for name, value in (("HOME", str(tmp_path / "home")), ("REDIS_URL", server_url), ("SHARD_SIZE", "1")):
        monkeypatch.setenv(f"FSTORE_{name}", value)
    return load_settings()


@pytest.fixture(scope="module")
def on_threads() -> dict[str, State]:
    """What the run on threads left, once it has been: what the others are held against."""
    return {}


def run() -> list[Outcome]:
    outcomes: list[Outcome] = batch.materialize(symbols=SYMBOLS, timeframes=FRAMES)
    assert [o.problem for o in outcomes if o.problem] == []
    return outcomes


def stored_state(settings: Settings) -> State:
    state = worker.state_of(settings)
    assert state.to_do == []
    return state


@pytest.fixture
def expected(on_threads: dict[str, State], settings: Settings, prefect_server: str, bars: Path, redis: Any) -> State:
    """The state that threads leave; the home is put back as it was."""
    if not on_threads:
        run()
        on_threads["state"] = stored_state(settings)
        shutil.rmtree(settings.home)
        shutil.copytree(bars, settings.home)
        redis.flushall()
    return on_threads["state"]


@pytest.fixture
def cluster() -> Iterator[tuple[str, list[psutil.Process]]]:
    """A Dask scheduler and two workers, each a process of its own as on a host of its own. Address, and the workers."""
    command = [sys.executable, "-m", "distributed.cli.dask_scheduler"]
    quiet = {"stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL}
    address = f"127.0.0.1:{worker_port()}"
    environ = {**os.environ, "PYTHONPATH": str(REPO.parent), "PYTHONWARNINGS": "ignore"}
    host, _, port = address.partition(":")
    processes = [subprocess.Popen([*command, "--host", host, "--port", port, "--no-dashboard"], env=environ, **quiet)]
    command = [sys.executable, "-m", "distributed.cli.dask_worker", f"tcp://{address}", "--nthreads", "1", "--no-nanny"]
    processes += [subprocess.Popen([*command, "--no-dashboard"], env=environ, **quiet) for _ in range(2)]
    try:
        yield address, [psutil.Process(process.pid) for process in processes[1:]]
    finally:
        for process in processes:
            process.kill()
            process.wait()


def worker_port() -> int:
    import socket

    with socket.create_server(("127.0.0.1", 0)) as probe:
        return int(probe.getsockname()[1])


def test_processes_leave_what_threads_do(expected: State, settings: Settings, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FSTORE_TASK_RUNNER", "processes")
    monkeypatch.setenv("PREFECT_TASKS_RUNNER_PROCESS_POOL_MAX_WORKERS", "2")
    run()
    assert_same(stored_state(settings), expected)


@pytest.mark.filterwarnings("ignore::ResourceWarning:distributed.*")
def test_a_dask_cluster_leaves_what_threads_do_though_a_worker_is_killed(
    expected: State, settings: Settings, cluster: tuple[str, list[psutil.Process]], monkeypatch: pytest.MonkeyPatch
) -> None:
    address, workers = cluster
    monkeypatch.setenv("FSTORE_TASK_RUNNER", f"dask://{address}")
    killed: list[int] = []
    watch = threading.Thread(target=kill_the_first_that_has_a_lease, args=(settings, workers, killed))
    watch.start()
    run()
    watch.join()
    assert killed, "the run ended before a worker could be killed"
    assert_same(stored_state(settings), expected)


def kill_the_first_that_has_a_lease(settings: Settings, workers: list[psutil.Process], killed: list[int]) -> None:
    """SIGKILLs a worker while it has the lease of a symbol, in the middle of that symbol's work."""
    pids = {f"(process {worker.pid})": worker.pid for worker in workers}
    deadline = time.monotonic() + WITHIN_S
    while time.monotonic() < deadline:
        for symbol in SYMBOLS:
            with settings.ledger().lease([symbol], owner="a look") as look:
                holder = look.refused.get(symbol)
            pid = next((pid for name, pid in pids.items() if holder and holder.owner.endswith(name)), None)
            if pid:
                os.kill(pid, signal.SIGKILL)
                killed.append(pid)
                return
        time.sleep(0.01)


def test_a_shard_whose_pool_broke_is_done_all_the_same(
    expected: State, settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("FSTORE_TASK_RUNNER", "processes")
    monkeypatch.setenv("PREFECT_TASKS_RUNNER_PROCESS_POOL_MAX_WORKERS", "1")
    done = threading.Event()
    watch = threading.Thread(target=kill_the_first_child, args=(settings, done))
    watch.start()
    run()
    done.set()
    watch.join()
    assert_same(stored_state(settings), expected)


def kill_the_first_child(settings: Settings, done: threading.Event) -> None:
    """SIGKILLs the pool's process as soon as it has the lease of a symbol."""
    while not done.wait(0.01):
        for symbol in SYMBOLS:
            with settings.ledger().lease([symbol], owner="a look") as look:
                holder = look.refused.get(symbol)
            pid = int(holder.owner.rpartition("process ")[2].rstrip(")")) if holder else os.getpid()
            if pid != os.getpid():
                os.kill(pid, signal.SIGKILL)
                return


def test_an_extra_that_is_not_installed_is_named() -> None:
    with pytest.raises(SettingsError, match=r"fstore\[ray\]"):
        task_runner("ray://head:10001")


def test_a_runner_that_does_not_exist_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FSTORE_TASK_RUNNER", "spark")
    with pytest.raises(SettingsError, match="dask://HOST:PORT"):
        load_settings()
