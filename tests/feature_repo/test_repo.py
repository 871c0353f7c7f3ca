"""``feature_store.yaml`` as the platform reads it, which is as Feast does."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from feature_repo.home import REPO
from feature_repo.repo import Repo, given_url, load_repo
from feature_repo.stores.redis.connection import online_url

URL = "redis://:hush$HOME@db.example:6379/0"


@pytest.fixture(autouse=True)
def nothing_set(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("FSTORE_HOME", "FSTORE_REDIS_URL"):
        monkeypatch.delenv(name, raising=False)


def test_with_nothing_set_all_is_below_the_projects_own_home() -> None:
    repo = load_repo()
    assert repo.project == "fstore"
    assert repo.home == REPO.parent / ".fstore"
    assert repo.offline == str(REPO.parent / ".fstore" / "offline")
    assert repo.redis_url is None
    assert repo.redis_type == "redis"


def test_variables_come_from_the_environment_and_the_ones_given_before_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("FSTORE_HOME", str(tmp_path / "environment"))
    monkeypatch.setenv("FSTORE_REDIS_URL", "redis://environment")
    assert load_repo().home == tmp_path / "environment"
    assert load_repo().redis_url == "redis://environment"
    repo = load_repo(variables={"FSTORE_HOME": str(tmp_path / "given")})
    assert repo.home == tmp_path / "given"
    assert repo.offline == str(tmp_path / "given" / "offline")
    assert repo.redis_url == "redis://environment"


def test_a_value_is_not_expanded_again() -> None:
    assert load_repo(variables={"FSTORE_REDIS_URL": URL}).redis_url == URL


@pytest.mark.parametrize("url", [None, "", "${FSTORE_REDIS_URL}"])
def test_no_url_means_the_embedded_server(url: str | None) -> None:
    assert given_url(url) is None


def test_an_empty_url_means_the_embedded_server(home: Path, server_url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FSTORE_REDIS_URL", "")
    assert online_url(load_repo(variables={"FSTORE_HOME": str(home)})) == server_url


def test_a_url_is_used_and_starts_nothing(tmp_path: Path) -> None:
    repo = load_repo(variables={"FSTORE_HOME": str(tmp_path), "FSTORE_REDIS_URL": "redis://db.example:6379"})
    assert online_url(repo) == "redis://db.example:6379"
    assert not any(tmp_path.iterdir())


@pytest.mark.parametrize(
    ("line", "fault"), [("redis_type: redis_sentinel", "Sentinel"), ("connection_string: db:6379", "connection_string")]
)
def test_a_store_that_only_feast_reaches_is_refused_and_none_is_started(tmp_path: Path, line: str, fault: str) -> None:
    file = tmp_path / "feature_store.yaml"
    text = (REPO / "feature_store.yaml").read_text().replace("  redis_type: redis\n", "")
    file.write_text(text.replace("online_store:", f"online_store:\n  {line}"))
    repo = load_repo(file, variables={"FSTORE_HOME": str(tmp_path)})
    with pytest.raises(ValueError, match=f"online_store.*{fault}.*Feast's own commands"):
        online_url(repo)
    assert repo.feature_store().config.online_store.url is None  # there, Feast's way of connecting is taken
    assert not (tmp_path / "redis").exists()


def test_a_password_is_not_shown(tmp_path: Path) -> None:
    text = (REPO / "feature_store.yaml").read_text()
    file = tmp_path / "feature_store.yaml"
    file.write_text(text.replace("offline_store:", "offline_store:\n  storage_options: {key: hush}"))
    repo = load_repo(file, variables={"FSTORE_HOME": str(tmp_path), "FSTORE_REDIS_URL": URL})
    store = repo.feature_store()
    config = store.config
    assert config.online_store.url == URL
    assert repo.storage_options == config.offline_store.storage_options == {"key": "hush"}
    for shown in (repo, store, config, config.online_store, config.offline_store):
        assert "hush" not in repr(shown)
        assert "hush" not in str(shown)
    assert repr(config) == "QuietConfig(project='fstore')"  # nor what the registry's URL may hold


@pytest.mark.parametrize("store", ["online_store", "offline_store"])
def test_a_file_without_our_stores_is_refused(tmp_path: Path, store: str) -> None:
    file = tmp_path / "feature_store.yaml"
    lines = (REPO / "feature_store.yaml").read_text().splitlines()
    start = lines.index(f"{store}:")
    file.write_text("\n".join([*lines[:start], f"{store}:", "  type: redis"]))
    with pytest.raises(ValueError, match=r"online_store\.home and offline_store\.path are needed"):
        load_repo(file)


def test_a_missing_file_is_told(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match=r"feature_store\.yaml"):
        load_repo(tmp_path / "feature_store.yaml")


def test_feast_reads_the_file_as_we_do(repo: Repo, feature_store: object) -> None:
    config = feature_store.config  # type: ignore[attr-defined]
    assert config.project == repo.project
    assert config.online_store.url == repo.redis_url
    assert config.offline_store.tables().root == repo.offline
    assert config.entity_key_serialization_version == 3


def test_reading_it_does_not_import_feast() -> None:
    program = "import sys, feature_repo.repo as r; r.load_repo(); sys.exit('feast' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", program], timeout=60).returncode == 0
