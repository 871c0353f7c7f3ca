"""How a command ends: 0 done, 1 failed, 2 misused; what a user can fix is reported in one line, verbatim."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from flows.cli import app
from flows.settings import Settings

Run = Callable[..., Any]
FSTORE = Path(sys.executable).parent / "fstore"
COMMANDS = [
    *("demo", "up", "down", "status", "apply", "ingest", "rebase", "withdraw", "sources"),
    *("materialize", "backfill", "stream", "replay", "listen"),
    *("latest", "get", "explain", "verify", "gaps", "maintain", "serve", "dashboard", "keys"),
]
STRANGERS = [
    "../../etc/passwd",
    "EUR%2fUSD",
    "EUR%2FUSD",
    "\u0415UR/USD",  # a Cyrillic letter that looks like E
    "EUR/USD\0",
    "EUR/USD\n",
    "eur/usd",
    "EUR/USD/..",
    "*",
    "",
]


def tree(folder: Path) -> dict[str, tuple[int, int]]:
    """Every file below a folder with its size and time of change."""
    return {str(p): (p.stat().st_size, p.stat().st_mtime_ns) for p in folder.rglob("*") if p.is_file()}


# -------------------------------------------------------------------------------------------------- help


def test_help_lists_the_commands() -> None:
    shown = CliRunner().invoke(app, ["--help"])
    assert shown.exit_code == 0
    listed = [line.split()[1] for line in shown.stdout.splitlines() if line.startswith("│ ") and line[2] != " "]
    assert [name for name in listed if not name.startswith("-")] == COMMANDS


@pytest.mark.parametrize("command", COMMANDS)
def test_every_command_explains_itself(command: str) -> None:
    shown = CliRunner().invoke(app, [command, "--help"])
    assert shown.exit_code == 0
    assert f"fstore {command}" in shown.stdout


# ---------------------------------------------------------------------------------------------- exit codes


def test_the_installed_command_ends_as_it_should(tmp_path: Path) -> None:
    """In processes of their own: 0 done, 1 failed, 2 misused."""
    environ = {**os.environ, "FSTORE_HOME": str(tmp_path / "home")}

    def end(*arguments: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run([FSTORE, *arguments], env=environ, capture_output=True, text=True, timeout=60)

    done, failed, misused = end("status"), end("ingest", "nowhere.csv", *BARS), end("latest", "EUR/USB")
    assert (done.returncode, failed.returncode, misused.returncode) == (0, 1, 2)
    assert "No bars yet" in done.stdout
    assert failed.stderr == "error nowhere.csv: no such file or folder. Check the path.\n"
    assert misused.stderr.startswith("error unknown symbol 'EUR/USB'. Did you mean EUR/USD")
    assert "Traceback" not in done.stderr + failed.stderr + misused.stderr


BARS = ("--symbol", "EUR/USD", "--timeframe", "1h")


@pytest.mark.parametrize(
    "arguments",
    [
        (),
        ("nonsense",),
        ("latest",),
        ("latest", "EUR/USD", "--timeframe", "2h"),
        ("latest", "EUR/USD", "--features", "rsi_15"),
        ("latest", "EUR/USD", "--features", ""),
        ("latest", "EUR/USD", "--features", "close,close"),
        ("get", "EUR/USD", "--start", "2024-01-02", "--end", "2024-01-01"),
        ("get", "EUR/USD", "--start", "soon", "--end", "2024-01-01"),
        ("get", "EUR/USD", "--start", "2024-01-01", "--end", "2024-01-02", "--indicators", "rsi_15"),
        ("ingest", "x.csv", "--symbol", "EUR/USD", "--timeframe", "2h"),
        ("ingest", "x.csv", *BARS, "--format", "xls"),
        ("ingest", "x.csv", *BARS, "--stamp", "middle"),
        ("ingest", "x.csv", *BARS, "--columns", "open"),
        ("ingest", "x.csv", *BARS, "--columns", "opening=o"),
        ("ingest", "x.csv", *BARS, "--tz", "Mars/Olympus"),
        ("ingest", "x.csv", *BARS, "--delimiter", "--"),
        ("materialize", "--timeframe", "2h"),
    ],
)
def test_misuse_ends_with_2_and_writes_nothing(fstore: Run, settings: Settings, arguments: tuple[str, ...]) -> None:
    ended = fstore(*arguments)
    assert ended.code == 2
    assert ended.err or not arguments
    assert not settings.home.exists()


@pytest.mark.parametrize("stranger", STRANGERS)
@pytest.mark.parametrize(
    "command",
    [
        ("latest", "{}"),
        ("latest", "EUR/USD", "{}"),
        ("get", "{}", "--start", "2024-01-01", "--end", "2024-01-02"),
        ("ingest", "bars.csv", "--symbol", "{}", "--timeframe", "1h"),
        ("materialize", "--symbol", "EUR/USD", "--symbol", "{}"),
    ],
)
def test_an_unknown_symbol_is_refused_by_name_and_nothing_is_written(
    fstore: Run,
    settings: Settings,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    command: tuple[str, ...],
    stranger: str,
) -> None:
    monkeypatch.delenv("FSTORE_REDIS_URL")  # not even the embedded server may start
    monkeypatch.chdir(tmp_path)
    Path("bars.csv").write_text("time,open,high,low,close\n2024-01-08T00:00:00Z,1.1,1.2,1.0,1.1\n")
    ended = fstore(*(part.format(stranger) for part in command))
    assert (ended.code, ended.out) == (2, "")
    assert ended.err.startswith(f"error unknown symbol {stranger!a}.")
    assert ended.err.count("\n") == 1
    assert not settings.home.exists()
    assert [*tree(tmp_path)] == [str(tmp_path / "bars.csv")]


def test_an_unknown_symbol_leaves_what_is_there_as_it_is(fstore: Run, settings: Settings, published: Any) -> None:
    before = tree(settings.home)
    for stranger in STRANGERS:
        assert fstore("materialize", "--symbol", stranger).code == 2
        assert fstore("latest", stranger).code == 2
    assert tree(settings.home) == before


# ------------------------------------------------------------------------------------------- as it is


@pytest.mark.parametrize("name", ["[bold]bars.csv", "[1].csv", "a [link=x]b.csv", ":warning:.csv"])
def test_square_brackets_are_no_markup(fstore: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    """Printed as markup, a file's name would vanish in part or raise."""
    monkeypatch.chdir(tmp_path)
    file = Path(name)
    file.write_text("time,open,high,low,close\n[red]noon[/red],1.1,1.2,1.0,1.1\n")
    ended = fstore("ingest", name, *BARS)
    assert ended.code == 1
    assert ended.err.startswith(f"error {name}, line 2: time is '[red]noon[/red]', not a time.")


def test_square_brackets_in_the_home_are_no_markup(
    fstore: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("FSTORE_HOME", str(tmp_path / "[bold]home[/]"))
    ended = fstore("status")
    assert (ended.code, ended.out.splitlines()[0]) == (0, f"home            {tmp_path}/[bold]home[/]")


def test_an_error_is_one_line_however_long(fstore: Run) -> None:
    ended = fstore("latest", "X" * 500)
    assert ended.err.count("\n") == 1


# ------------------------------------------------------------------------------------ faults around it


def test_a_changed_definition_is_refused_with_its_difference(fstore: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    from feature_repo import definitions

    assert fstore("apply").code == 0
    field = next(f for f in definitions.views["indicators_1h"].features if f.name == "rsi_14")
    monkeypatch.setattr(field, "tags", {**field.tags, "parameters": "window=15", "meaning": "another"})
    ended = fstore("apply")
    assert ended.code == 1
    assert ended.err.startswith("error - indicators_1h:rsi_14 Float64 kind=rsi parameters=window=14\n")
    accepted = fstore("apply", "--accept", "--json")
    assert accepted.code == 0
    assert accepted.json["changed"] == ["indicators_1h"]


def test_an_online_store_that_does_not_answer_is_one_line_without_the_password(
    fstore: Run, published: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("FSTORE_REDIS_URL", "redis://app:s3cret@localhost:1")
    ended = fstore("status")
    assert ended.code == 1
    assert ended.err.startswith("error the online store does not answer (")
    assert ended.err.count("\n") == 1
    assert "s3cret" not in ended.err


def test_a_prefect_server_that_does_not_answer_is_one_line(fstore: Run, published: Any) -> None:
    from prefect.settings import PREFECT_API_URL, temporary_settings

    with temporary_settings({PREFECT_API_URL: "http://localhost:1/api"}):
        ended = fstore("materialize")
    assert (ended.code, ended.err.count("\n")) == (1, 1)
    assert ended.err.startswith("error Prefect: Failed to reach API at http://localhost:1/api")
    assert "PREFECT_API_URL" in ended.err


def test_a_home_that_cannot_be_written_is_one_line(
    fstore: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("FSTORE_HOME", str(tmp_path / "file" / "home"))
    ended = fstore("apply")
    assert ended.code == 1
    assert str(tmp_path / "file") in ended.err
    assert ended.err.count("\n") == 1


def test_a_wrong_setting_is_misuse(fstore: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FSTORE_SHARD_SIZE", "many")
    ended = fstore("status")
    assert ended.code == 2
    assert (
        ended.err == "error the environment variable FSTORE_SHARD_SIZE: shard_size must be a whole number, not 'many'\n"
    )
