"""One home, wherever a process was started and whatever is set."""

from __future__ import annotations

from pathlib import Path

import pytest

from feature_repo.home import REPO, resolve_home, resolve_location

UNSET = "${FSTORE_HOME}"
PROJECT = REPO.parent


def test_an_unset_home_is_beside_the_repository() -> None:
    assert resolve_home(UNSET) == PROJECT / ".fstore"
    assert resolve_location(f"{UNSET}/offline") == str(PROJECT / ".fstore" / "offline")


def test_a_relative_home_is_relative_to_the_project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    assert resolve_home("elsewhere") == PROJECT / "elsewhere"
    assert resolve_home("../beside") == PROJECT.parent / "beside"


def test_an_absolute_home_is_itself(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert resolve_home(tmp_path) == tmp_path
    assert resolve_location(f"{tmp_path}/offline") == f"{tmp_path}/offline"
    monkeypatch.setenv("HOME", str(tmp_path))
    assert resolve_home("~/fstore") == tmp_path / "fstore"


@pytest.mark.parametrize("url", ["s3://bucket/offline", "abfss://box@host/offline", "file:///srv/offline"])
def test_a_url_is_no_path(url: str) -> None:
    assert resolve_location(url) == url
