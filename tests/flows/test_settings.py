"""Settings come from the environment over ``fstore.toml``, and a mistake in either is named without its secrets."""

from __future__ import annotations

from pathlib import Path

import pytest

from feature_repo.home import REPO
from flows.settings import Settings, SettingsError, load_settings

URL = "redis://app:s3cret@db.internal:6379/2"


@pytest.fixture
def file(tmp_path: Path) -> Path:
    return tmp_path / "fstore.toml"


def test_nothing_given_means_the_defaults(file: Path) -> None:
    assert load_settings({}, file) == Settings()
    assert Settings().home == REPO.parent / ".fstore"


def test_the_environment_wins_over_the_file(file: Path) -> None:
    file.write_text('home = "/srv/a"\nshard_size = 3\nmax_bad_share = 0.5\nredis_url = "redis://file"\n')
    settings = load_settings({"FSTORE_HOME": "/srv/b", "FSTORE_SHARD_SIZE": "7", "FSTORE_REDIS_URL": URL}, file)
    assert settings == Settings(home=Path("/srv/b"), shard_size=7, max_bad_share=0.5, redis_url=URL)


def test_a_relative_home_is_relative_to_the_project_wherever_a_process_was_started(
    file: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    assert load_settings({"FSTORE_HOME": "elsewhere"}, file).home == REPO.parent / "elsewhere"


def test_an_empty_variable_is_not_set(file: Path) -> None:
    """Compose passes ``FSTORE_HOME=`` on: as a path it would be the project's own folder."""
    file.write_text("shard_size = 3\n")
    settings = load_settings({"FSTORE_HOME": "", "FSTORE_REDIS_URL": "", "FSTORE_SHARD_SIZE": ""}, file)
    assert settings == Settings(shard_size=3)


def test_a_variable_of_somebody_else_is_left_alone(file: Path) -> None:
    assert load_settings({"FSTORE_BUCKET": "s3://bars", "SHARD_SIZE": "9"}, file) == Settings()


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("shard_sise = 3", "unknown setting 'shard_sise'"),
        ("[redis]\nurl = 'x'", "unknown setting 'redis'"),
        ("shard_size = 2.5", "shard_size must be a whole number, not 2.5"),
        ("shard_size = true", "shard_size must be a whole number, not True"),
        ("shard_size = 0", "shard_size must be at least 1, not 0"),
        ("max_bad_share = 'many'", "max_bad_share must be a number, not 'many'"),
        ("max_bad_share = 1", "max_bad_share must be at least 0 and below 1"),
        ("max_bad_share = nan", "max_bad_share must be at least 0 and below 1"),
        ("home = 5", "home must be a path, not 5"),
        ("shard_size = ", "fstore.toml: Invalid value"),
    ],
)
def test_a_mistake_in_the_file_is_named(file: Path, text: str, message: str) -> None:
    file.write_text(text)
    with pytest.raises(SettingsError) as caught:
        load_settings({}, file)
    assert message in str(caught.value)


def test_a_file_in_another_encoding_is_named(file: Path) -> None:
    file.write_bytes('home = "Zürich"'.encode("latin-1"))
    with pytest.raises(SettingsError, match=r"fstore\.toml"):
        load_settings({}, file)


def test_the_variable_that_holds_the_mistake_is_named(file: Path) -> None:
    with pytest.raises(SettingsError, match=r"environment variable FSTORE_SHARD_SIZE: .* whole number, not 'many'"):
        load_settings({"FSTORE_SHARD_SIZE": "many"}, file)


# --------------------------------------------------------------------------------------------------- secrets


def test_the_redis_url_is_in_no_text_of_the_settings(file: Path) -> None:
    settings = load_settings({"FSTORE_REDIS_URL": URL}, file)
    for text in (repr(settings), str(settings), repr(settings.repo())):
        assert "s3cret" not in text


@pytest.mark.parametrize(
    "url",
    [
        "redis://app:s3cret/word@db:6379",  # the parser's own message would show a piece of it
        "redis://app:s3cret@db:port",
        "redis://app:s3cret@db:99999",
        "http://app:s3cret@db",
        "s3cret@db:6379",
    ],
)
def test_an_unreadable_redis_url_is_refused_without_being_shown(file: Path, url: str) -> None:
    with pytest.raises(SettingsError, match="redis_url must be redis://") as caught:
        load_settings({"FSTORE_REDIS_URL": url}, file)
    shown = f"{caught.value!r} {caught.value.__cause__!r} {caught.value.__context__!r}"
    assert "s3cret" not in shown


def test_a_redis_url_of_another_type_is_refused_without_being_shown(file: Path) -> None:
    file.write_text('redis_url = ["redis://:s3cret@db"]\n')
    with pytest.raises(SettingsError, match="redis_url must be a URL") as caught:
        load_settings({}, file)
    assert "s3cret" not in str(caught.value)


# ------------------------------------------------------------------------------------------------ what they make


def test_the_repository_has_these_settings_and_not_the_environments(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FSTORE_REDIS_URL", "redis://of-another-process")
    monkeypatch.setenv("FSTORE_HOME", "/of/another/process")
    repo = Settings(home=Path("/srv/fstore"), redis_url=URL).repo()
    assert (repo.home, repo.offline, repo.redis_url) == (Path("/srv/fstore"), "/srv/fstore/offline", URL)
    assert Settings(home=Path("/srv/fstore")).repo().redis_url is None
    assert Settings(home=Path("/srv/fstore")).tables().root == "/srv/fstore/offline"
