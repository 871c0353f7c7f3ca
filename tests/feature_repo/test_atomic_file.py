"""Replacing a file as a whole."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import pytest

from feature_repo.atomic_file import replace_file


def test_the_content_is_replaced_and_nothing_else_is_left(tmp_path: Path) -> None:
    file = tmp_path / "a.json"
    replace_file(file, b"first and longer")
    replace_file(file, b"second", is_durable=True)
    assert file.read_bytes() == b"second"
    assert [*tmp_path.iterdir()] == [file]


@pytest.mark.parametrize(("is_private", "mode"), [(True, 0o600), (False, 0o644)])
def test_who_may_read_it(tmp_path: Path, is_private: bool, mode: int) -> None:
    before = os.umask(0o022)
    try:
        replace_file(tmp_path / "keys", b"{}", is_private=is_private)
    finally:
        os.umask(before)
    assert (tmp_path / "keys").stat().st_mode & 0o777 == mode


def test_fault_the_disk_fails_before_the_end(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    file = tmp_path / "a.json"
    replace_file(file, b"first")

    def full(_: Any) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(OSError, match="No space"):
        replace_file(file, b"second", is_durable=True)
    assert file.read_bytes() == b"first"
    assert [*tmp_path.iterdir()] == [file]


def test_what_a_killed_process_left_behind_is_no_obstacle(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("threading.get_ident", lambda: 7)
    (tmp_path / f".a.json.{os.getpid()}.7.tmp").write_bytes(b"half")
    replace_file(tmp_path / "a.json", b"whole")
    assert (tmp_path / "a.json").read_bytes() == b"whole"
