"""``.ci/install.py``: uv does the work where it can be had, pip where not."""

from __future__ import annotations

import subprocess
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

from tests.distribution.conftest import load_installer


@pytest.fixture
def install(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> ModuleType:
    """The installer, whose environment is an empty folder."""
    module = load_installer()
    (tmp_path / ".venv").mkdir()
    monkeypatch.setattr(module, "VENV", tmp_path / ".venv")
    monkeypatch.setattr(module, "make_environment", lambda: None)
    return module


@pytest.fixture
def ran(install: ModuleType, monkeypatch: pytest.MonkeyPatch) -> list[list[str]]:
    """The commands that pip was asked for."""
    commands: list[list[str]] = []
    monkeypatch.setattr(install, "run", commands.append)
    return commands


def test_what_uv_installed_pip_does_not_install_again(
    install: ModuleType, ran: list[list[str]], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(install, "have_uv", lambda: True)
    monkeypatch.setattr(install, "install_with_uv", lambda project: project.endswith("[demo]"))
    install.main("demo")
    assert ran == []
    assert (install.VENV / ".demo").exists()
    assert not (install.VENV / ".dev").exists()


@pytest.mark.parametrize("have_uv", [False, True])
def test_pip_installs_where_uv_cannot(
    have_uv: bool, install: ModuleType, ran: list[list[str]], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(install, "have_uv", lambda: have_uv)
    monkeypatch.setattr(install, "install_with_uv", lambda _: False)
    install.main("dev")
    (command,) = ran
    assert command[-4:] == ["-c", str(install.CONSTRAINTS), "-e", f"{install.ROOT}[dev]"]
    assert (install.VENV / ".dev").exists()
    assert (install.VENV / ".demo").exists()  # what serves the tests serves the demo


def test_a_failed_installation_leaves_no_mark(install: ModuleType, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(command: list[str]) -> None:
        raise SystemExit(1)

    monkeypatch.setattr(install, "have_uv", lambda: False)
    monkeypatch.setattr(install, "run", fail)
    with pytest.raises(SystemExit):
        install.main("demo")
    assert list(install.VENV.iterdir()) == []


def test_an_old_python_is_refused(install: ModuleType, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(install, "OLDEST", (99, 0))
    with pytest.raises(SystemExit, match=r"Python 99\.0 or newer is needed"):
        install.main("demo")


def test_uv_asks_the_index_that_pip_is_configured_for(install: ModuleType, monkeypatch: pytest.MonkeyPatch) -> None:
    listed = "global.index-url='https://mirror.example/simple'\nglobal.timeout='9'\nglobal.cert='/a.pem'\n:env:.cert='/b.pem'\n"

    def answer(command: list[str], **_: Any) -> subprocess.CompletedProcess[str]:
        assert command[-2:] == ["config", "list"]
        return subprocess.CompletedProcess(command, 0, stdout=listed)

    monkeypatch.setattr(install.subprocess, "run", answer)
    assert install.pip_settings() == {"UV_DEFAULT_INDEX": "https://mirror.example/simple", "SSL_CERT_FILE": "/b.pem"}
    listed = "install.extra-index-url='https://more.example/simple'\n"
    assert install.pip_settings() == {
        "UV_INDEX": "https://more.example/simple",
        "UV_INDEX_STRATEGY": "unsafe-best-match",  # as pip chooses
    }
