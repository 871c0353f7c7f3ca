"""Commands on an installation that lacks an extra: one sentence that names it, and exit code 2."""

from __future__ import annotations

import subprocess
import sys
import tomllib
from collections.abc import Callable
from pathlib import Path

import pytest

from flows.extras import extra_of, missing_extra
from tests.flows.conftest import Ended

ROOT = Path(__file__).resolve().parents[2]
# As a wheel's metadata lists them.
REQUIREMENTS = ["redis<8,>=7", 'typer>=0.20; extra == "flows"', 'great-expectations<2,>=1.24; extra == "flows"',
                'typer>=0.20; extra == "service"', 'fstore[flows]; extra == "ccxt"', 'ccxt>=4.5; extra == "ccxt"',
                'colorama>=1; sys_platform == "win32" and extra == "flows"',
                "dash_table>=1; extra == 'dashboard'"]  # fmt: skip


@pytest.mark.parametrize(
    ("module", "extra"),
    [
        ("typer", "flows"),
        ("great_expectations", "flows"),
        ("ccxt", "ccxt"),
        ("colorama", "flows"),
        ("dash_table", "dashboard"),
        ("redis", None),  # always installed, so its absence is no lack of an extra
        ("dash", None),
        ("", None),
    ],
)
def test_the_extra_of_a_module_is_read_from_the_metadata(module: str, extra: str | None) -> None:
    assert extra_of(module, REQUIREMENTS) == extra


def test_a_module_that_no_extra_brings_is_a_bug_and_not_a_missing_extra() -> None:
    assert missing_extra(ModuleNotFoundError("No module named 'flows.nothing'", name="flows.nothing")) is None
    assert missing_extra(ModuleNotFoundError("raised without a name")) is None


def run_without(module: str, *arguments: str) -> subprocess.CompletedProcess[str]:
    """``python -m flows`` as if ``module`` were not installed, by the requirements in ``pyproject.toml``."""
    extras = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["optional-dependencies"]
    requirements = [f'{need}; extra == "{extra}"' for extra, needs in extras.items() for need in needs]
    program = (
        f"import sys; from importlib import metadata; sys.modules[{module!r}] = None; "
        f"metadata.requires = lambda _: {requirements!r}; from flows.__main__ import main; main({[*arguments]!r})"
    )
    return subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=False)


@pytest.mark.parametrize(
    ("module", "arguments", "extra"),
    [
        ("typer", ("latest", "EUR/USD"), "flows"),
        ("rich", (), "flows"),
        ("dash", ("dashboard", "--port", "0"), "dashboard"),
        ("flask", ("dashboard", "--port", "0"), "dashboard"),
        ("uvicorn", ("serve", "--port", "0"), "service"),
    ],
)
def test_a_command_names_the_extra_that_it_needs(module: str, arguments: tuple[str, ...], extra: str) -> None:
    ended = run_without(module, *arguments)
    assert ended.returncode == 2, ended.stderr
    assert ended.stdout == ""
    assert ended.stderr == (
        f"error  {module} is not installed; the extra {extra} brings it: pip install 'fstore[{extra}]'\n"
    )


@pytest.mark.parametrize(("runner", "extra"), [("dask", "dask"), ("ray://head:10001", "ray")])
def test_a_task_runner_without_its_extra_is_refused_before_anything_is_written(
    runner: str, extra: str, fstore: Callable[..., Ended], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("FSTORE_TASK_RUNNER", runner)
    monkeypatch.setattr("flows.settings.find_spec", lambda _: None)
    monkeypatch.setenv("FSTORE_HOME", str(tmp_path / "untouched"))
    ended = fstore("materialize")
    assert ended.code == 2
    assert f"pip install 'fstore[{extra}]'" in ended.err
    assert not (tmp_path / "untouched").exists()


def test_an_exchange_without_its_extra_is_refused(
    fstore: Callable[..., Ended], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "ccxt", None)
    ended = fstore("ingest", "exchange://binance", "--symbol", "BTC/USDT", "--timeframe", "1h", "--start", "2024-01-01")
    assert ended.code == 2
    assert ended.err.count("\n") == 1
    assert 'pip install "fstore[ccxt]"' in ended.err


def test_the_version_is_printed(fstore: Callable[..., Ended]) -> None:
    version = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["version"]
    ended = fstore("--version")
    assert (ended.code, ended.out) == (0, f"fstore {version}\n")
