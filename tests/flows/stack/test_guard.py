"""A guarded command ends with its owner, however that ends, and leaves nothing behind."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import psutil
import pytest

from flows.stack import guard
from flows.stack.processes import Child

DEADLINE_S = 30.0
SLEEP = "import time; time.sleep(300)"
# Starts a process in a session of its own, as Prefect's worker does with a flow run, and prints both ids.
NEST = f"""
import os, subprocess, sys, time
inner = subprocess.Popen([sys.executable, "-c", {SLEEP!r}], start_new_session=True)
print(os.getpid(), inner.pid, flush=True)
time.sleep(float(sys.argv[1]))
"""
STUBBORN = """
import signal, time
signal.signal(signal.SIGTERM, signal.SIG_IGN)
print("up", flush=True)
time.sleep(300)
"""


def is_alive(pid: int) -> bool:
    try:
        return bool(psutil.Process(pid).status() != psutil.STATUS_ZOMBIE)
    except psutil.NoSuchProcess:
        return False


def wait_until_gone(*pids: int) -> None:
    deadline = time.monotonic() + DEADLINE_S
    while any(is_alive(pid) for pid in pids):
        assert time.monotonic() < deadline, f"still there: {pids}"
        time.sleep(0.02)


def printed(log: Path) -> list[str]:
    deadline = time.monotonic() + DEADLINE_S
    while not (log.exists() and log.read_text().endswith("\n")):
        assert time.monotonic() < deadline
        time.sleep(0.02)
    return log.read_text().split()


def started(tmp_path: Path, *command: str) -> Child:
    argv = [sys.executable, "-c", *command]
    return Child("test", argv, log=tmp_path / "log", environ=os.environ, folder=tmp_path)


def test_a_commands_own_exit_code_is_shown(tmp_path: Path) -> None:
    child = started(tmp_path, "import sys; print('why it failed'); print(); sys.exit(3)")
    child._guard.wait(DEADLINE_S)
    child.stop()
    assert child.exit_code() == 3
    assert child.last_line() == "why it failed"


def test_what_a_command_leaves_behind_ends_with_it(tmp_path: Path) -> None:
    child = started(tmp_path, NEST, "0")
    pids = [int(word) for word in printed(tmp_path / "log")]
    child._guard.wait(DEADLINE_S)
    child.stop()
    wait_until_gone(*pids)


def test_a_command_that_is_stopped_takes_a_run_in_another_session_along(tmp_path: Path) -> None:
    child = started(tmp_path, NEST, "300")
    pids = [int(word) for word in printed(tmp_path / "log")]
    assert child.exit_code() is None
    child.stop()
    assert child.exit_code() == 128 + signal.SIGTERM
    wait_until_gone(*pids, child.identity.pid)


def test_a_command_that_does_not_listen_is_killed(tmp_path: Path) -> None:
    command = [sys.executable, "-P", guard.__file__, "0.2", sys.executable, "-c", STUBBORN]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as process:
        assert process.stdin
        assert process.stdout
        assert process.stdout.readline() == b"up\n"
        process.stdin.close()
        assert process.wait(DEADLINE_S) == 128 + signal.SIGKILL


@pytest.mark.parametrize("how", [signal.SIGKILL, signal.SIGTERM])
def test_a_command_ends_with_an_owner_that_is_killed(tmp_path: Path, how: signal.Signals) -> None:
    owner = f"""
import os, sys, time
from pathlib import Path
from flows.stack.processes import Child
Child("test", [sys.executable, "-c", {NEST!r}, "300"], log=Path("log"), environ=os.environ, folder=Path.cwd())
time.sleep(300)
"""
    process = subprocess.Popen([sys.executable, "-c", owner], cwd=tmp_path)
    pids = [int(word) for word in printed(tmp_path / "log")]
    process.send_signal(how)
    process.wait(DEADLINE_S)
    wait_until_gone(*pids)


def test_a_guard_needs_little(tmp_path: Path) -> None:
    child = started(tmp_path, NEST, "300")
    printed(tmp_path / "log")
    memory = psutil.Process(child.identity.pid).memory_info().rss
    child.stop()
    assert memory < 50e6
