"""One registry, wherever a process was started and whatever is set."""

from __future__ import annotations

import gc
import shutil
import sqlite3
import subprocess
import sys
from collections.abc import Mapping
from os import environ
from pathlib import Path

import pytest
from sqlalchemy import create_engine, text
from sqlalchemy.engine import Engine

from feature_repo import catalog
from feature_repo.home import REPO

UNSET = "${FSTORE_HOME}"


def registry(path: str) -> Engine:
    return create_engine(f"sqlite:///{path}?plugin=fstore_home")


def file_of(engine: Engine) -> Path:
    with engine.connect() as connection:
        (file,) = connection.execute(text("select file from pragma_database_list")).scalars()
    return Path(file)


def test_the_registry_is_one_file_from_any_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("feature_repo.home.PROJECT", tmp_path / "project")
    for folder in ("one", "two"):
        (tmp_path / folder).mkdir()
        monkeypatch.chdir(tmp_path / folder)
        for path, home in ((UNSET, ".fstore"), ("relative/home", "relative/home")):
            engine = registry(f"{path}/registry.db")
            assert file_of(engine) == tmp_path / "project" / home / "registry.db"
            engine.dispose()
        assert not any((tmp_path / folder).iterdir())


def test_the_registry_is_shared_by_readers_and_writers(tmp_path: Path) -> None:
    engine = registry(f"{tmp_path}/new/registry.db")  # and its folder is made
    assert file_of(engine) == tmp_path / "new" / "registry.db"
    with engine.connect() as connection:
        assert connection.execute(text("pragma journal_mode")).scalar() == "wal"
        assert connection.execute(text("pragma busy_timeout")).scalar() == 10_000
    engine.dispose()


def test_a_dropped_registry_leaves_no_connection_open(tmp_path: Path) -> None:
    engine = create_engine(f"sqlite:///{tmp_path}/registry.db?plugin=fstore_home")
    with engine.connect() as connection:
        driver = connection.connection.driver_connection
    assert driver
    del engine, connection
    gc.collect()
    with pytest.raises(sqlite3.ProgrammingError, match="closed"):
        driver.execute("SELECT 1")


def test_other_sqlite_files_are_left_alone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    engine = create_engine("sqlite:///plain.db")
    assert file_of(engine) == tmp_path / "plain.db"
    engine.dispose()


LIST = """
from feature_repo.repo import load_repo
print(sorted(view.name for view in load_repo().feature_store().list_feature_views()))
"""


def run(command: list[str], cwd: Path, variables: Mapping[str, str]) -> str:
    inherited = {name: value for name, value in environ.items() if not name.startswith("FSTORE_")}
    done = subprocess.run(command, cwd=cwd, env={**inherited, **variables}, capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_feast_in_the_repository_and_a_client_elsewhere_see_one_registry(tmp_path: Path) -> None:
    copy = tmp_path / "project" / "feature_repo"  # a copy, because with nothing set its home is the project's own
    shutil.copytree(REPO, copy, ignore=shutil.ignore_patterns("__pycache__"))
    used = {"PYTHONPATH": str(copy.parent)}
    run([str(Path(sys.executable).with_name("feast")), "apply"], copy, used)
    assert (copy.parent / ".fstore" / "registry.db").exists()
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    listing = run([sys.executable, "-c", LIST], elsewhere, {**used, "FSTORE_HOME": ".fstore"})
    assert listing.splitlines()[-1] == str(sorted(catalog.VIEWS))
    assert not any(elsewhere.iterdir())
    assert not (copy / ".fstore").exists()
