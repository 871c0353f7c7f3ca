"""Keys in their file: shown once, kept as hashes, changed by one process at a time, gone at once."""

from __future__ import annotations

import hashlib
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime
from pathlib import Path

import orjson
import pytest

from fsclient.service.keys import PREFIX, KeyFile, KeysError


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "home" / "keys.json"


def test_a_key_is_random_recognisable_and_kept_as_its_hash_alone(path: Path) -> None:
    keys = KeyFile(path, now=lambda: datetime(2024, 6, 26, 12, 30, tzinfo=UTC))
    first, second = keys.add("strategy-1"), keys.add("strategy-2")
    assert first != second
    assert first.startswith(PREFIX)
    assert len(first) >= len(PREFIX) + 256 // 6
    text = path.read_text()
    assert first not in text
    assert first.removeprefix(PREFIX) not in text
    assert orjson.loads(text)["keys"][0] == {
        "name": "strategy-1",
        "created": "2024-06-26T12:30:00Z",
        "sha256": hashlib.sha256(first.encode()).hexdigest(),
    }
    assert path.stat().st_mode & 0o777 == 0o600
    assert {file.name for file in path.parent.iterdir()} == {"keys.json", "keys.json.lock"}
    assert "sha256" not in repr(keys.read())


def test_a_key_is_its_own_and_no_other(path: Path) -> None:
    keys = KeyFile(path)
    first, second = keys.add("one"), keys.add("two")
    assert (keys.name_of(first), keys.name_of(second)) == ("one", "two")
    for wrong in ("", first[:-1], first + "x", first.upper(), PREFIX, "schlüssel", hashlib.sha256(b"").hexdigest()):
        assert keys.name_of(wrong) is None


def test_a_revoked_key_is_gone_for_another_process_at_once(path: Path) -> None:
    here, there = KeyFile(path), KeyFile(path)
    key = here.add("one")
    assert there.name_of(key) == "one"
    assert here.revoke("one") == 0
    assert there.name_of(key) is None
    assert there.exists(), "with no key left nobody is let in; not everybody"


@pytest.mark.parametrize("name", ["", " ", "-x", "a b", "a/b", "../keys", "ä", "x" * 65, "a\n"])
def test_a_name_that_is_none_is_refused(path: Path, name: str) -> None:
    with pytest.raises(KeysError, match="not a valid key name"):
        KeyFile(path).add(name)
    assert not path.exists()


def test_a_name_is_given_once_and_revoked_once(path: Path) -> None:
    keys = KeyFile(path)
    keys.add("one")
    with pytest.raises(KeysError, match="revoke it first"):
        keys.add("one")
    keys.revoke("one")
    with pytest.raises(KeysError, match="no key named 'one'"):
        keys.revoke("one")


@pytest.mark.parametrize("text", ["", "{", "[]", '{"keys": [{"name": "x"}]}', '{"keys": 3}'])
def test_a_file_that_can_not_be_read_lets_nobody_in_and_is_not_written_over(path: Path, text: str) -> None:
    path.parent.mkdir()
    path.write_text(text)
    keys = KeyFile(path)
    assert keys.exists()
    for use in (keys.read, lambda: keys.name_of("x"), lambda: keys.add("y"), lambda: keys.revoke("y")):
        with pytest.raises(KeysError, match="can't be read"):
            use()
    assert path.read_text() == text


def test_who_add_at_the_same_time_lose_none(path: Path) -> None:
    """The lock is on the open file, so threads that open it each keep each other out as processes do."""
    names = [f"key-{n:02}" for n in range(24)]
    with ThreadPoolExecutor(max_workers=8) as threads:
        keys = list(threads.map(lambda name: KeyFile(path).add(name), names))
    assert sorted(key.name for key in KeyFile(path).read()) == names
    assert [KeyFile(path).name_of(key) for key in keys] == names
