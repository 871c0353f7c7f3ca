"""``fstore up`` and ``down`` where no stack need run; tests/flows/stack has the real one."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from flows.cli import stack
from flows.settings import Settings
from flows.stack import State
from flows.stack.processes import Identity
from flows.stack.state import take_lock, write_state


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("FSTORE_HOME", str(tmp_path))
    return tmp_path


def test_down_with_nothing_up_is_no_error(home: Path, capsys: pytest.CaptureFixture[str]) -> None:
    stack.down()
    assert capsys.readouterr().out == "The stack was not up.\n"


@pytest.mark.parametrize("detach", [False, True])
def test_up_twice_shows_the_first_and_starts_nothing(
    home: Path, detach: bool, capsys: pytest.CaptureFixture[str]
) -> None:
    me = Identity.of(os.getpid())
    places = {"prefect": "http://127.0.0.1:4200"}
    with take_lock(home) as lock:  # type: ignore[union-attr]
        assert lock
        write_state(home, State(supervisor=me, places=places, api_url="http://127.0.0.1:4200/api", ready=True))
        stack.up(port=1, dashboard_port=2, detach=detach)
    shown = capsys.readouterr().out
    assert shown.startswith("The stack is already up")
    assert "http://127.0.0.1:4200" in shown
    assert f"process {os.getpid()}" in shown


def test_the_screen_does_not_load_prefect() -> None:
    program = "import sys, flows.cli.stack, flows.stack; sys.exit('prefect' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", program], timeout=60).returncode == 0


def test_a_home_without_a_stack_says_so(home: Path) -> None:
    from flows.stack import running_api, stack_lines

    settings = Settings(home=home)
    assert running_api(settings) is None
    assert stack_lines(settings) == [("stack", "down; start it with fstore up")]
