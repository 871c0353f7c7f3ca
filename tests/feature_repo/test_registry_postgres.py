"""The registry in PostgreSQL: applied, read elsewhere, and never shown with its password."""

from __future__ import annotations

import os
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest
from feast.errors import FeatureViewNotFoundException
from sqlalchemy import create_engine, inspect, make_url, text
from sqlalchemy.exc import IntegrityError

from feature_repo import catalog
from feature_repo import definitions as d
from feature_repo.home import REPO
from feature_repo.repo import FILE_VARIABLE, load_repo
from flows.apply import apply_definitions
from tests.postgres import new_database, postgres_url  # noqa: F401 - a fixture


@pytest.fixture
def registry_url(postgres_url: str) -> str:  # noqa: F811
    return new_database(postgres_url)


PRODUCTION = REPO.parent / "deployments" / "feature_store.yaml"


def variables_for(registry_url: str, server_url: str, home: Path) -> dict[str, str]:
    return {
        FILE_VARIABLE: str(PRODUCTION),
        "FSTORE_HOME": str(home),
        "FSTORE_OFFLINE": str(home / "offline"),
        "FSTORE_REDIS_URL": server_url,
        "FSTORE_REGISTRY_URL": registry_url,
    }


@pytest.fixture
def variables(registry_url: str, server_url: str, tmp_path: Path) -> dict[str, str]:
    return variables_for(registry_url, server_url, tmp_path)


def test_definitions_are_applied_and_read_by_another_store(variables: dict[str, str], registry_url: str) -> None:
    report = apply_definitions(load_repo(variables=variables).feature_store())
    assert sorted(report["added"]) == sorted(d.views)
    other = load_repo(variables=variables).feature_store()
    assert sorted(view.name for view in other.list_feature_views()) == sorted(d.views)
    assert sorted(service.name for service in other.list_feature_services()) == sorted(d.services)
    assert sorted(apply_definitions(other)["unchanged"]) == sorted(d.views)
    engine = create_engine(registry_url)
    assert "feature_views" in inspect(engine).get_table_names()
    engine.dispose()


def test_of_two_that_apply_at_once_one_may_be_refused_and_nothing_is_spoiled(variables: dict[str, str]) -> None:
    def apply(_: int) -> None:
        with suppress(IntegrityError):  # Feast looks and then inserts; the database lets only one of them through
            apply_definitions(load_repo(variables=variables).feature_store())

    load_repo(variables=variables).feature_store().list_feature_views()  # Feast makes its tables, which two may not do
    with ThreadPoolExecutor(2) as pool:
        list(pool.map(apply, range(2)))
    apply_definitions(load_repo(variables=variables).feature_store())
    views = load_repo(variables=variables).feature_store().list_feature_views()
    assert sorted(view.name for view in views) == sorted(d.views)


def test_a_view_that_is_gone_is_missed(variables: dict[str, str]) -> None:
    store = load_repo(variables=variables).feature_store()
    apply_definitions(store)
    with pytest.raises(FeatureViewNotFoundException):
        store.get_feature_view(catalog.view("ohlcv", "1h").name + "_not")


def test_feasts_own_command_takes_it(variables: dict[str, str], registry_url: str, tmp_path: Path) -> None:
    script = "from feast.cli.cli import cli; cli()"
    command = [sys.executable, "-c", script, "-c", str(REPO), "apply"]
    environ = {**os.environ, **variables}
    done = subprocess.run(command, env=environ, cwd=tmp_path, capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stdout + done.stderr
    password = make_url(registry_url).password
    assert password
    assert password not in done.stdout + done.stderr
    engine = create_engine(registry_url)
    with engine.connect() as connection:
        views = connection.execute(text("select count(*) from feature_views")).scalar_one()
    engine.dispose()
    assert views == len(d.views)


def test_a_registry_that_is_not_set_is_named(server_url: str, tmp_path: Path) -> None:
    variables = variables_for("", server_url, tmp_path)
    del variables["FSTORE_REGISTRY_URL"]
    with pytest.raises(ValueError, match=r"registry\.path needs the variable \$\{FSTORE_REGISTRY_URL\}"):
        load_repo(variables=variables)


def test_a_registry_that_is_away_is_told_without_its_password(tmp_path: Path, server_url: str) -> None:
    url = "postgresql+psycopg://me:s3cret@127.0.0.1:1/db"
    repo = load_repo(variables=variables_for(url, server_url, tmp_path))
    with pytest.raises(Exception, match="refused") as caught:
        repo.feature_store().list_feature_views()
    shown: Any = caught.value
    while shown is not None:
        assert "s3cret" not in f"{shown} {shown!r}"
        shown = shown.__cause__ or shown.__context__
