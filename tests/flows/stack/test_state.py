"""The lock shows whether a supervisor lives, the state which process is which; a reused process id fools neither."""

from __future__ import annotations

import os
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest

from flows.settings import Settings
from flows.stack import State, stack_lines, stop_stack
from flows.stack.processes import Identity, ask_to_end, kill
from flows.stack.state import clear_state, folder, is_supervised, read_state, take_lock, write_state


@pytest.fixture
def state() -> State:
    me = Identity.of(os.getpid())
    return State(supervisor=me, children={"worker": me}, places={"prefect": "http://x"}, api_url="http://x/api")


def test_a_state_is_read_as_it_was_written(tmp_path: Path, state: State) -> None:
    assert read_state(tmp_path) is None
    write_state(tmp_path, state)
    assert read_state(tmp_path) == state
    clear_state(tmp_path)
    assert read_state(tmp_path) is None


@pytest.mark.parametrize("text", ["", "{", "[]", '{"children": {}}', '{"children": {}, "supervisor": {"pid": 1}}'])
def test_a_state_that_is_none_counts_as_none(tmp_path: Path, text: str) -> None:
    folder(tmp_path).mkdir()
    (folder(tmp_path) / "state.json").write_text(text)
    assert read_state(tmp_path) is None


def test_a_home_has_one_supervisor_and_a_look_takes_no_lock(tmp_path: Path) -> None:
    assert not is_supervised(tmp_path)
    lock = take_lock(tmp_path)
    assert lock
    assert is_supervised(tmp_path)
    assert take_lock(tmp_path, timeout_s=0.0) is None
    lock.close()
    assert not is_supervised(tmp_path)


def test_the_lock_of_a_killed_supervisor_is_free(tmp_path: Path) -> None:
    hold = "import sys, time; from pathlib import Path; from flows.stack.state import take_lock\n"
    hold += "lock = take_lock(Path(sys.argv[1])); print('held', flush=True); time.sleep(300)"
    with subprocess.Popen([sys.executable, "-c", hold, str(tmp_path)], stdout=subprocess.PIPE) as process:
        assert process.stdout
        assert process.stdout.readline() == b"held\n"
        assert is_supervised(tmp_path)
        process.kill()
        process.wait()
        assert not is_supervised(tmp_path)


def test_a_reused_process_id_is_another_process() -> None:
    with subprocess.Popen([sys.executable, "-c", "import time; time.sleep(300)"]) as process:
        identity = Identity.of(process.pid)
        earlier = replace(identity, started=identity.started - 60.0)
        assert identity.process() is not None
        assert earlier.process() is None
        assert ask_to_end(earlier, 0.0)
        kill(earlier)
        assert process.poll() is None
        kill(identity)
        assert process.wait() == -9
        assert identity.process() is None


def test_a_state_without_a_supervisor_is_no_running_stack(tmp_path: Path, state: State) -> None:
    settings = Settings(home=tmp_path)
    write_state(tmp_path, state)
    assert stack_lines(settings) == [("stack", "down; start it with fstore up")]
    with take_lock(tmp_path) as lock:  # type: ignore[union-attr]
        assert lock
        lines = dict(stack_lines(settings))
    assert lines["stack"].startswith("starting")
    assert lines["prefect"] == "http://x"
    assert lines["worker"] == f"process {os.getpid()}"


def test_nothing_to_stop(tmp_path: Path) -> None:
    assert not stop_stack(Settings(home=tmp_path))
